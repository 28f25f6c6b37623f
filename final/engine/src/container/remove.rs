//! `rm`: everything that a container has, in the kernel and on the disk.

use std::fs;

use nix::sys::signal::Signal;
use step::step;

use super::{Container, Status};
use crate::paths::remove_tree;
use crate::{Engine, Error, store};

impl Engine {
    /// Removes a container with its writable layer; with `volumes` also the volumes that were made for it without a name.
    ///
    /// # Errors
    /// [`Error::State`] for a running one unless `force` kills it first.
    pub fn remove(&self, container: &Container, force: bool, volumes: bool) -> Result<(), Error> {
        if container.state.status == Status::Running {
            if !force {
                return Err(Error::State {
                    name: container.config.name.clone(),
                    status: container.state.status.to_string(),
                    remedy: "stop it first, or use -f",
                });
            }
            if let Some(process) = container.state.process {
                process.signal(Signal::SIGKILL)?;
            }
            self.wait(container, None)?;
        }
        if !container.folder.exists() {
            // It was started with --rm, and removed itself.
            return Ok(());
        }
        let _lock = store::Lock::of(&container.folder)?;
        self.release(container)?;
        self.discard(container, volumes)
    }

    /// What a container holds of the kernel and lies outside its folder: what a dead shim did not give back.
    pub(crate) fn release(&self, container: &Container) -> Result<(), Error> {
        let id = &container.config.id;
        // Each is tried whatever becomes of the others; the first error is told.
        let outcomes = [
            crate::shim::resources::remove_cgroup(id),
            crate::network::detach(&container.config),
            remove_tree(&self.paths.run_of(id)),
        ];
        // Removed when the last container's folder is gone, and not before: rmdir(2) refuses a folder that holds something.
        let _ = fs::remove_dir(&self.paths.run);
        outcomes.into_iter().collect()
    }

    /// What a container has on the disk.
    pub(crate) fn discard(&self, container: &Container, volumes: bool) -> Result<(), Error> {
        // First the mark of a whole container: what a crash leaves after it is swept by the next `ps`.
        let config = container.folder.join("config.json");
        step("unlink", format_args!("{}", config.display()), "without it the folder is no container")
            .run(|| fs::remove_file(&config))?;
        let link = self.paths.containers().join(&container.config.name);
        step("unlink", format_args!("{}", link.display()), "the name is free again")
            .run(|| fs::remove_file(&link))?;
        remove_tree(&container.folder)?;
        if volumes {
            let all = self.volumes()?;
            let anonymous =
                |name: &&String| all.iter().any(|volume| volume.anonymous && volume.name == **name);
            for name in
                container.config.mounts.iter().filter_map(|mount| mount.volume.as_ref()).filter(anonymous)
            {
                self.remove_volume(name)?;
            }
        }
        Ok(())
    }
}
