//! Make a directory a mount, so that it can become the root mount.
//!
//! pivot_root swaps mounts, and a rootfs is a directory somewhere inside one. open_tree(2) makes of it a mount of its own, which
//! stands in no mount table and has no place: a descriptor holds it. move_mount(2) gives it a place in the container's
//! mount table. Any place will do, since pivot_root moves it once more, and `/` itself is the one that is always within
//! reach: a container's root, who is nobody outside, need not be able to walk to the rootfs through somebody's home directory.
//!
//! What the kernel requires: 1. `CAP_SYS_ADMIN` over the mount namespace for both; 2. a copy of a shared mount is shared too, and
//! what is mounted on it would appear on the host: it is made private while it is still in no table.
//!
//! See open_tree(2), move_mount(2), mount_setattr(2), mount_namespaces(7).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use step::{StepError, step};

use crate::syscalls::{MountAttributes, mount_setattr};

/// A copy of the tree at `path`, with the mounts beneath it, as a mount that is part of no mount table yet. Root calls it before
/// the clone (and has its owners mapped: [`crate::Config::mapped_mounts`]), an ordinary user in the init process.
///
/// # Errors
/// The step that failed.
// ANCHOR: new_root
pub fn detached(path: &Path) -> Result<OwnedFd, StepError> {
    let mount = cloned(path)?;
    step(
        "mount_setattr",
        format_args!("MS_PRIVATE {}", path.display()),
        "a copy of a shared mount is shared: what is mounted on it would appear on the host",
    )
    .run(|| {
        mount_setattr(mount.as_fd(), &MountAttributes { propagation: libc::MS_PRIVATE, ..Default::default() })
    })?;
    Ok(mount)
}

fn cloned(path: &Path) -> Result<OwnedFd, StepError> {
    step(
        "open_tree",
        format_args!("{} OPEN_TREE_CLONE|AT_RECURSIVE", path.display()),
        "pivot_root takes a mount: make one of this directory",
    )
    .run(|| {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        open_tree(CWD, path, flags)
    })
}

/// Puts a [`detached`] mount over `/` of this mount namespace, from where pivot_root takes it.
///
/// # Errors
/// The step that failed.
pub fn attach(mount: BorrowedFd<'_>) -> Result<(), StepError> {
    step("move_mount", format_args!("/"), "into this mount table, for the moment on top of the old root").run(
        || {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(mount, "", CWD, "/", flags)
        },
    )
}
// ANCHOR_END: new_root

/// Beyond this chapter: puts it at a path of the host instead, for programs that look for the container there before the pivot.
///
/// # Errors
/// The step that failed.
pub fn attach_at(mount: BorrowedFd<'_>, path: &Path) -> Result<(), StepError> {
    step(
        "move_mount",
        format_args!("{}", path.display()),
        "where the hooks of the container will look for its root",
    )
    .run(|| move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH))
}

/// As [`detached`], but what the host mounts beneath the directory later appears in the new root too, and never the other way
/// around. To be called while this mount namespace still hears of the host's mounts: before [`crate::inside::private`].
///
/// # Errors
/// The step that failed.
pub fn detached_slave(path: &Path) -> Result<OwnedFd, StepError> {
    let mount = cloned(path)?;
    step(
        "mount_setattr",
        format_args!("MS_SLAVE {}", path.display()),
        "what the host mounts here is to appear inside, and nothing the other way around",
    )
    .run(|| {
        mount_setattr(mount.as_fd(), &MountAttributes { propagation: libc::MS_SLAVE, ..Default::default() })
    })?;
    Ok(mount)
}

/// Opens a directory at which something is mounted already, an overlay say, to be the new root.
///
/// # Errors
/// The call that failed.
pub fn mounted(path: &Path) -> Result<OwnedFd, StepError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| StepError::new("open", path.display(), errno))
}
