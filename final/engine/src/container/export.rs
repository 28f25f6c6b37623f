//! `export`: the whole tree that a container sees, as a tar archive.
//!
//! The layers and the container's own directory are mounted once more, as layers of an overlay of their own, in a mount namespace that
//! nobody else is in: neither the host's mount table nor the container's shows it, and it goes with the process that walks it. Volumes
//! and the like are mounts of the container's, and so not in it, as with Docker.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::BufWriter;

use ::namespaces::{Config, Kind, Maps, StageError, inside, spawn};
use nix::unistd::geteuid;
use unionfs::Overlay;

use super::Container;
use crate::paths::remove_tree;
use crate::{Engine, Error};

impl Engine {
    /// Writes the archive, with owners, modes, times, extended attributes, hard links, devices and without the
    /// large holes of files. The calling process has one thread.
    ///
    /// # Errors
    /// The step that failed; what was written before it is no whole archive.
    pub fn export(&self, container: &Container, out: File) -> Result<(), Error> {
        let _pin = self.images.pin()?;
        let image = self.images.resolve(&container.config.image_id)?;
        let mut lower = self.layer_dirs(&image)?;
        lower.extend(Some(container.folder.join("upper")).filter(|upper| upper.is_dir()));
        // An overlay wants a directory to write to; nothing is written.
        let scratch = self.images.scratch()?.keep();
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| scratch.join(name));
        let made = [&upper, &work, &merged].into_iter().try_for_each(fs::create_dir);
        let userxattr = self.images.userxattr();
        let overlay = Overlay { lower, upper, work, userxattr, index: false, volatile: true };
        let exported = made.map_err(|source| Error::Store { path: scratch.clone(), source }).and_then(|()| {
            in_a_mount_namespace(|| {
                overlay.mount(&merged).map_err(|error| StageError::new("export", &error, 125))?;
                let out = BufWriter::with_capacity(1 << 17, out);
                unionfs::write_tree(&merged, out).map_err(|error| StageError::new("export", &error, 125))
            })
        });
        let removed = remove_tree(&scratch);
        exported.and(removed)
    }
}

/// Does it in a process of its own, which is root of the files there and whose mounts nobody sees.
fn in_a_mount_namespace(work: impl FnOnce() -> Result<(), StageError>) -> Result<(), Error> {
    let mut config = Config { new: vec![Kind::Mount], die_with_parent: true, ..Config::default() };
    if !geteuid().is_root() {
        let maps = Maps::for_this_user();
        config.new.push(Kind::User);
        (config.uid_map, config.gid_map) = (maps.uid, maps.gid);
    }
    let created = spawn(&config, |end| -> Result<Infallible, StageError> {
        end.wait_to_proceed()?;
        inside::private()?;
        work()?;
        // It has nothing to exec: its end is its answer.
        std::process::exit(0)
    })?;
    match created.proceed()?.wait()? {
        status if status.code() == 0 => Ok(()),
        status => Err(::namespaces::Error::InitEnded(status).into()),
    }
}
