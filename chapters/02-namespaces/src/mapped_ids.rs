//! A mount that shows the owners of its files under other ids.
//!
//! On the disk a file belongs to a number. An id-mapped mount passes that number through the maps of a user namespace: with
//! `0 100000 65536` what belongs to 0 on the disk belongs to 100000 as seen through this mount, which is root in a container
//! with the same maps. What is created through it is stored with the number mapped back. Nothing on the disk is changed, and
//! no other mount of the same files.
//!
//! The maps are those of a user namespace, so one is made for them: a process in it that does nothing, until its namespace is
//! held by a descriptor.
//!
//! What the kernel requires: 1. `CAP_SYS_ADMIN` over the file system's own user namespace, in general the host's root; 2. a file
//! system that can do it (EINVAL): those on disks can, tmpfs since Linux 6.3, proc and sysfs cannot; 3. nobody has seen the mount yet.
//!
//! See mount_setattr(2), user_namespaces(7).

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};

use step::{StepError, step};

use crate::syscalls::{MountAttributes, mount_setattr};
use crate::{Config, Error, Kind, Maps, spawn};

/// Makes a user namespace with these maps, and opens it. The calling process has one thread: see [`spawn()`].
///
/// # Errors
/// The step that failed.
pub fn user_namespace(maps: &Maps) -> Result<OwnedFd, Error> {
    let config = Config {
        new: vec![Kind::User],
        uid_map: maps.uid.clone(),
        gid_map: maps.gid.clone(),
        die_with_parent: true,
        ..Config::default()
    };
    let holder = spawn(&config, |end| {
        loop {
            end.wait_to_proceed()?;
        }
    })?;
    let path = format!("/proc/{}/ns/user", holder.pid());
    let namespace = File::open(&path).map_err(|error| StepError::new("open", &path, error));
    holder.abort()?;
    Ok(namespace?.into())
}

/// Shows the owners in the detached mount through the maps of the user namespace; `recursive`: in the mounts beneath it too.
/// `of` is told in the error.
///
/// # Errors
/// The step that failed.
pub fn show(
    mount: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    recursive: bool,
    of: &str,
) -> Result<(), StepError> {
    step(
        "mount_setattr",
        format_args!("MOUNT_ATTR_IDMAP {of}"),
        "the files belong to ids of the host: show them under others, in this mount alone",
    )
    .run(|| {
        let attributes = MountAttributes { ids_of: Some(namespace), alone: !recursive, ..Default::default() };
        mount_setattr(mount, &attributes)
    })
}
