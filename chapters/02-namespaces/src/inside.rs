//! What the init process does before the command runs.
//!
//! Order, and why: 1. propagation first, so that no mount below ever reaches the host; 2. the new root's mount; 3. what is
//! mounted under it, while the host's `/proc`, `/sys` and `/dev` can still be seen (in a user namespace the kernel wants to see
//! them whole, and devices are bound from there); 4. pivot_root; 5. the host name; 6. the cgroup namespace last, when the process
//! is in the cgroup that is to be its root.
//!
//! See mount_namespaces(7), cgroup_namespaces(7).

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::unshare;
use step::{StepError, step};

use crate::mounts::Mount;
use crate::{Kind, StageError, devices, hostname, mounts, new_root, pivot_root};

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
    /// The namespaces that are the container's own; the mount namespace must be one.
    pub new: Vec<Kind>,
    /// Made under the new root: see [`crate::mounts::container_mounts`].
    pub mounts: Vec<Mount>,
    /// The host name, where the container has a UTS namespace of its own.
    pub hostname: Option<String>,
}

impl Inside {
    /// Does all of it, in the init process.
    ///
    /// # Errors
    /// The stage that failed.
    // ANCHOR: enter
    pub fn enter(self) -> Result<(), StageError> {
        private()?;
        let root = match self.rootfs {
            Rootfs::Directory(path) => attached(new_root::detached(&path)?)?,
            Rootfs::Detached(mount) => attached(mount)?,
            Rootfs::Mounted(path) => new_root::mounted(&path)?,
        };
        mounts::apply(root.as_fd(), &self.mounts).map_err(StageError::at("mounts"))?;
        devices::create(root.as_fd(), self.new.contains(&Kind::User)).map_err(StageError::at("devices"))?;
        pivot_root::enter(root.as_fd())
            .map_err(|error| StageError::new("pivot_root", &error, error.exit_code()))?;
        if let Some(name) = &self.hostname {
            hostname::set(name)?;
        }
        if self.new.contains(&Kind::Cgroup) {
            cgroup_namespace()?;
        }
        Ok(())
    }
    // ANCHOR_END: enter
}

/// Cuts this mount namespace off from the host's. A new mount namespace is a copy, whose mounts are peers of those that they
/// were copied from where a distribution has made `/` shared, as systemd does.
///
/// # Errors
/// The step that failed.
pub fn private() -> Result<(), StepError> {
    step(
        "mount",
        format_args!("--make-rprivate /"),
        "the copy of the mount table still hands each mount on to the host's: cut that",
    )
    .run(|| mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>))
}

fn attached(mount: OwnedFd) -> Result<OwnedFd, StepError> {
    new_root::attach(mount.as_fd())?;
    Ok(mount)
}

/// Moves this process into a cgroup namespace of its own, whose root is the cgroup that it is in at this moment.
///
/// # Errors
/// The step that failed.
pub fn cgroup_namespace() -> Result<(), StepError> {
    step(
        "unshare",
        format_args!("CLONE_NEWCGROUP"),
        "the cgroup in which this process now is becomes the root that it sees: after it entered, or it would see the host's",
    )
    .run(|| unshare(Kind::Cgroup.flag()))
}
