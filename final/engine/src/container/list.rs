//! `ps`: all containers, each as it is now.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Config, Container};
use crate::store::read_json;
use crate::{Engine, Error};

impl Engine {
    /// All containers, the newest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn containers(&self) -> Result<Vec<Container>, Error> {
        let mut containers = Vec::new();
        for folder in self.folders()? {
            match Container::read(&folder)? {
                Some(container) => {
                    if let Some(container) = self.repaired_or_gone(container)? {
                        containers.push(container);
                    }
                }
                // What a killed `create` or `rm` left; not while one may still be at it.
                None if is_stale(&folder) => crate::paths::remove_tree(&folder)?,
                None => {}
            }
        }
        self.sweep_names()?;
        containers.sort_by_key(|container| std::cmp::Reverse(container.config.created));
        Ok(containers)
    }

    /// Containers come and go while they are listed.
    fn repaired_or_gone(&self, container: Container) -> Result<Option<Container>, Error> {
        let folder = container.folder.clone();
        match self.repair(container) {
            Err(_) if !folder.exists() => Ok(None),
            other => other,
        }
    }

    /// What was asked for, of all containers, with no look at what became of them: no lock is taken.
    pub(crate) fn configs(&self) -> Result<Vec<Config>, Error> {
        let mut configs = Vec::new();
        for folder in self.folders()? {
            configs.extend(read_json::<Config>(&folder.join("config.json"))?);
        }
        Ok(configs)
    }

    /// Names that a killed `create` or `rm` left without a container.
    fn sweep_names(&self) -> Result<(), Error> {
        let path = self.paths.containers();
        let entries = fs::read_dir(&path).map_err(|source| Error::Store { path, source })?;
        let links = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        for link in links.map(|entry| entry.path()) {
            if !link.join("config.json").exists() && is_stale(&link) {
                // Another command may sweep at the same time.
                let _ = fs::remove_file(&link);
            }
        }
        Ok(())
    }
}

/// Whether nobody can still be making or removing this: both take milliseconds.
pub(crate) fn is_stale(path: &Path) -> bool {
    let changed = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    changed.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > Duration::from_secs(10)))
}
