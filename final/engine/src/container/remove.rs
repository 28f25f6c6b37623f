//! `rm`: everything that a container has, in the kernel and on the disk.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use step::step;

use super::{Container, Status};
use crate::paths::remove_tree;
use crate::store::Lock;
use crate::{Engine, Error};

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
        let Some(lock) = Lock::if_there(&container.folder)? else { return Ok(()) };
        // It was started with --rm and removed itself, or another `rm` was faster; or it was started while this waited.
        let Some(now) = Container::read(&container.folder)? else { return Ok(()) };
        if now.state.status == Status::Running {
            drop(lock);
            return self.remove(&now, force, volumes);
        }
        self.release(&now)?;
        self.discard(&now, volumes)
    }

    /// What a container holds of the kernel and lies outside its folder: what a dead shim did not give back.
    pub(crate) fn release(&self, container: &Container) -> Result<(), Error> {
        let id = &container.config.id;
        // Each is tried whatever becomes of the others; the first error is told.
        let outcomes = [
            crate::shim::resources::remove_cgroup(&container.config),
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
        let freed = step("unlink", format_args!("{}", link.display()), "the name is free again")
            .run(|| fs::remove_file(&link));
        remove_tree(&container.folder)?;
        if volumes {
            self.remove_anonymous_volumes(&container.config.mounts)?;
        }
        match freed {
            // `ps` has swept it.
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
            other => Ok(other?),
        }
    }
}
