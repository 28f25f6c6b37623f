//! The root file system as layers, with `--layer`: chapter 4's overlay, under the container's ids.
//!
//! What the kernel requires: 1. in a user namespace the owners of the layers' files must be mapped, or they are nobody's: each
//! layer is handed over as an idmapped mount; 2. upperdir and workdir lie on one mount: the folder of both is handed over;
//! 3. an ordinary user's ids are the files' already, and nothing is handed over.
//!
//! Order: the runtime process detaches the mounts, the clone maps them, the init process puts them in place and mounts the
//! overlay of them. See mount_setattr(2), open_tree(2), and chapter 4.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use namespaces::{Config, Inside, Maps, Rootfs, StageError, container_mounts, new_root, plan as plans};
use nix::unistd::geteuid;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};
use step::step;
use unionfs::Overlay;

use crate::Result;
use crate::args::Args;
use crate::files::Files;
use crate::mode::Network;

/// What the init process is to mount.
pub(crate) struct Stack {
    overlay: Overlay,
    target: PathBuf,
    /// Mounts with mapped ids, and where they go before the overlay is made of them.
    handed_over: Vec<(OwnedFd, PathBuf)>,
}

/// The container's plan, and the layers that become its root, if there are any.
pub(crate) fn plan(
    args: &Args,
    maps: &Maps,
    network: &Network,
    files: &Files,
) -> Result<(Config, Inside, Option<Stack>)> {
    let (share, hostname) = (network.shared(), args.hostname.as_deref());
    let Some(overlay) = files.overlay() else {
        let (config, inside) = plans::container(&args.rootfs, share, hostname, maps)?;
        return Ok((config, inside, None));
    };
    let mut stack = Stack { overlay, target: files.mount_point("merged")?, handed_over: Vec::new() };
    // Without maps, for what is to be mapped is not the root but what it is made of.
    let (mut config, mut inside) = plans::container(&stack.target, share, hostname, &Maps::default())?;
    (config.uid_map, config.gid_map) = (maps.uid.clone(), maps.gid.clone());
    inside.mounts = container_mounts(&config.new, maps.has_tty_group());
    inside.rootfs = Rootfs::Mounted(stack.target.clone());
    if maps.shifted() && geteuid().is_root() {
        config.mapped_mounts = stack.hand_over(files)?;
    }
    Ok((config, inside, Some(stack)))
}

impl Stack {
    /// Detaches a mount of each layer, and one of the folder of upper and work. Gives what is to be mapped.
    fn hand_over(&mut self, files: &Files) -> Result<Vec<OwnedFd>> {
        let mut mapped = Vec::new();
        let mut hand_over = |source: &Path, name: &str| -> Result<PathBuf> {
            let mount = new_root::detached(source)?;
            mapped.push(mount.try_clone()?);
            let target = files.mount_point(name)?;
            self.handed_over.push((mount, target.clone()));
            Ok(target)
        };
        for (number, layer) in self.overlay.lower.iter_mut().enumerate() {
            *layer = hand_over(layer, &format!("mapped{number}"))?;
        }
        let folder = hand_over(files.path(), "mapped-upper")?;
        self.overlay.upper = folder.join("upper");
        self.overlay.work = folder.join("work");
        Ok(mapped)
    }

    /// Called by the init process, before the new root is entered.
    pub(crate) fn mount(&self) -> std::result::Result<(), StageError> {
        namespaces::inside::private()?;
        for (mount, target) in &self.handed_over {
            step("move_mount", format_args!("{}", target.display()), "a layer whose files are root's inside")
                .run(|| {
                    move_mount(mount.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                })?;
        }
        self.overlay
            .mount(&self.target)
            .map_err(|error| StageError::new("overlay", &error, error.exit_code()))
    }
}
