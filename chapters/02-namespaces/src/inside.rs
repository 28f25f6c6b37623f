//! What the init process does before the command runs.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::mounts::Mount;
use crate::{Kind, StageError};

/// Where the root file system comes from.
#[derive(Debug)]
pub enum Rootfs {
    /// A directory that the init process can reach.
    Directory(PathBuf),
    /// A mount that the runtime process detached: [`crate::new_root::detached`].
    Detached(OwnedFd),
    /// A directory at which a file system is mounted already, in this mount namespace: chapter 4's overlay.
    Mounted(PathBuf),
}

/// What the container's inside is to be.
#[derive(Debug)]
pub struct Inside {
    /// The new root.
    pub rootfs: Rootfs,
    /// The namespaces that are the container's own.
    pub new: Vec<Kind>,
    /// Made under the new root: see [`crate::mounts::container_mounts`].
    pub mounts: Vec<Mount>,
    /// The host name, where the container has a UTS namespace of its own.
    pub hostname: Option<String>,
}

impl Inside {
    /// Does all of it, in the init process: propagation, new root, mounts, devices, pivot_root, host name, cgroup namespace.
    ///
    /// # Errors
    /// The stage that failed.
    pub fn enter(self) -> Result<(), StageError> {
        unimplemented!()
    }
}

/// Moves this process into a cgroup namespace of its own, whose root is the cgroup that it is in at this moment.
///
/// # Errors
/// The step that failed.
pub fn cgroup_namespace() -> Result<(), step::StepError> {
    unimplemented!()
}
