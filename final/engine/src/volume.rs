//! Volumes: folders of the store that outlive containers, and bind mounts of the host's.
//!
//! `-v NAME:/path[:ro]` names a volume, which is made on first use; `-v /host/path:/path[:ro]` binds a folder or file;
//! `-v /path` makes a volume without a name. An empty volume begins with the image's files at its place, unless `nocopy` is said. A volume's files lie in `volumes/NAME/_data`, as Docker has it.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use step::step;

use crate::container::{Config, MountPoint, names};
use crate::paths::{make_private, remove_tree};
use crate::store::{Durability, Lock, read_json, write_json};
use crate::{Engine, Error};

/// A volume: `volumes/NAME/volume.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it was made for one container without being named.
    pub anonymous: bool,
}

/// The room that a volume takes.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Its name.
    pub name: String,
    /// How many containers have it.
    pub links: usize,
    /// The bytes of its files on the disk.
    pub size: u64,
}

/// What `-v` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    source: Source,
    destination: PathBuf,
    read_only: bool,
    copy: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Anonymous,
    Named(String),
    Bind(PathBuf),
}

impl Request {
    /// Reads the argument of `-v`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Invalid(format!("-v {text}: {reason}"));
        let parts: Vec<_> = text.split(':').collect();
        let (source, destination, options) = match parts[..] {
            [destination] => (None, destination, ""),
            [source, destination] => (Some(source), destination, ""),
            [source, destination, options] => (Some(source), destination, options),
            _ => return Err(wrong("use [SOURCE:]DESTINATION[:ro]")),
        };
        let (mut read_only, mut copy) = (false, true);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = true,
                "nocopy" => copy = false,
                // SELinux labels mean nothing where there is no SELinux; propagation is private here already.
                "rw" | "z" | "Z" | "rprivate" | "private" => {}
                _ => return Err(wrong("the options are ro, rw and nocopy")),
            }
        }
        let destination = PathBuf::from(destination);
        if !destination.is_absolute() || destination == Path::new("/") {
            return Err(wrong("the destination is an absolute path in the container, and not /"));
        }
        let source = match source {
            None => Source::Anonymous,
            Some("") => return Err(wrong("the source is empty")),
            Some(path) if path.starts_with('/') || path.starts_with('.') => Source::Bind(
                std::path::absolute(path).map_err(|_| wrong("the source cannot be made absolute"))?,
            ),
            Some(name) => Source::Named(
                names::checked(name)
                    .map_err(|_| wrong("the source is a volume's name or a path that begins with / or ."))?
                    .to_owned(),
            ),
        };
        Ok(Self { source, destination, read_only, copy })
    }

    /// Where the container will see it.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// A volume without a name, as an image's VOLUME asks for.
    pub fn anonymous(destination: &str) -> Self {
        Self {
            source: Source::Anonymous,
            destination: PathBuf::from(destination),
            read_only: false,
            copy: true,
        }
    }
}

impl Engine {
    /// Makes a volume; one of that name that is there stays as it is. Without a name it gets a made one.
    ///
    /// # Errors
    /// Where the name cannot be, or the folder not be made.
    pub fn create_volume(&self, name: Option<&str>) -> Result<Volume, Error> {
        let _lock = self.lock_volumes()?;
        match name {
            Some(name) => self.make_volume(names::checked(name)?, false),
            None => self.make_volume(&crate::container::create::new_id()?, true),
        }
    }

    fn make_volume(&self, name: &str, anonymous: bool) -> Result<Volume, Error> {
        let folder = self.paths.volumes().join(name);
        if let Some(volume) = read_json::<Volume>(&folder.join("volume.json"))? {
            return Ok(volume);
        }
        make_private(&folder)?;
        let data = folder.join("_data");
        if !data.is_dir() {
            step(
                "mkdir",
                format_args!("{}", data.display()),
                "the volume's files, outside every container's layer",
            )
            .run(|| fs::create_dir(&data))?;
        }
        let volume = Volume { name: name.to_owned(), created: Timestamp::now(), anonymous };
        write_json(&folder.join("volume.json"), &volume, Durability::Disk)?;
        Ok(volume)
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn volumes(&self) -> Result<Vec<Volume>, Error> {
        let path = self.paths.volumes();
        let entries = fs::read_dir(&path).map_err(|source| Error::Store { path, source })?;
        let mut volumes = Vec::new();
        for entry in entries.flatten() {
            volumes.extend(read_json::<Volume>(&entry.path().join("volume.json"))?);
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// All volumes, by name, with the room that they take.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn volume_usage(&self) -> Result<Vec<Usage>, Error> {
        let configs = self.configs()?;
        let mounts = || configs.iter().flat_map(|config| &config.mounts);
        self.volumes()?
            .into_iter()
            .map(|Volume { name, .. }| {
                let links = mounts().filter(|mount| mount.volume.as_deref() == Some(&name)).count();
                let data = self.paths.volumes().join(&name).join("_data");
                Ok(Usage { links, size: sampan_image::usage::of_folder(&data)?, name })
            })
            .collect()
    }

    /// Removes a volume that no container uses.
    ///
    /// # Errors
    /// [`Error::NoSuch`], or [`Error::Invalid`] naming the container that uses it.
    pub fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let folder = self.paths.volumes().join(names::checked(name)?);
        let _lock = self.lock_volumes()?;
        if !folder.join("volume.json").exists() {
            return Err(Error::NoSuch(format!("no such volume: {name} (`sampan volume ls` lists them)")));
        }
        if let Some(user) = self.volume_user(name)? {
            return Err(Error::Invalid(format!(
                "volume {name} is in use by container {user}: remove that first"
            )));
        }
        remove_tree(&folder)
    }

    /// Held from the making of a container's volumes until the container that uses them is written down, and by who removes
    /// one. Whoever holds it waits for no container's lock.
    pub(crate) fn lock_volumes(&self) -> Result<Lock, Error> {
        Lock::of(&self.paths.volumes())
    }

    /// Removes the volumes that were made without a name for one container, which is gone or never was.
    pub(crate) fn remove_anonymous_volumes(&self, mounts: &[MountPoint]) -> Result<(), Error> {
        if mounts.iter().all(|mount| mount.volume.is_none()) {
            return Ok(());
        }
        let _lock = self.lock_volumes()?;
        for name in mounts.iter().filter_map(|mount| mount.volume.as_deref()) {
            let folder = self.paths.volumes().join(name);
            let volume = read_json::<Volume>(&folder.join("volume.json"))?;
            // Another container may have taken it by its name meanwhile.
            if volume.is_some_and(|volume| volume.anonymous) && self.volume_user(name)?.is_none() {
                remove_tree(&folder)?;
            }
        }
        Ok(())
    }

    /// The name of a container that uses a volume.
    fn volume_user(&self, name: &str) -> Result<Option<String>, Error> {
        let uses = |config: &Config| config.mounts.iter().any(|mount| mount.volume.as_deref() == Some(name));
        Ok(self.configs()?.into_iter().find(uses).map(|config| config.name))
    }

    pub(crate) fn mount_point(&self, request: &Request) -> Result<MountPoint, Error> {
        let (volume, source) = match &request.source {
            Source::Bind(path) => {
                // Docker makes a missing folder; a typing error should not make one as root.
                if !path.exists() {
                    return Err(Error::Invalid(format!(
                        "-v {}: no such file or folder on the host",
                        path.display()
                    )));
                }
                (None, path.clone())
            }
            Source::Named(name) => {
                (Some(self.make_volume(name, false)?.name), self.paths.volumes().join(name).join("_data"))
            }
            Source::Anonymous => {
                let name = crate::container::create::new_id()?;
                (Some(self.make_volume(&name, true)?.name), self.paths.volumes().join(&name).join("_data"))
            }
        };
        Ok(MountPoint {
            volume,
            source,
            destination: request.destination.clone(),
            read_only: request.read_only,
            copy: request.copy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_docker() {
        let named = Request::parse("data:/srv:ro").unwrap();
        assert_eq!(
            named,
            Request {
                source: Source::Named("data".into()),
                destination: "/srv".into(),
                read_only: true,
                copy: true
            }
        );
        assert_eq!(Request::parse("/etc:/x").unwrap().source, Source::Bind("/etc".into()));
        assert_eq!(Request::parse("/x").unwrap(), Request::anonymous("/x"));
    }

    #[test]
    fn what_cannot_be_says_why() {
        for text in ["", "a:b", "a:/", ":/x", "a:/b:maybe", "a:b:c:d", "a b:/x"] {
            assert!(Request::parse(text).unwrap_err().to_string().contains("-v"), "{text}");
        }
    }
}
