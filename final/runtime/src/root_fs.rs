//! The container's root: made a mount, filled, and swapped for the host's.
//!
//! Order: what is to spread is opened while this mount namespace still hears of the host's mounts -> the namespace is cut off ->
//! the new root -> what is mounted in it -> devices -> the swap. Last of all, when everything else is in its place, how the root
//! itself spreads: what is mounted on a shared root would be shared, and pivot_root(2) takes none.
//!
//! See mount_namespaces(7), pivot_root(2); runtime-spec: config.md, "Root", and config-linux.md, "Rootfs Mount Propagation".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ::namespaces::mounts::{Change, Propagation};
use ::namespaces::{StageError, inside, mount_point, mounts as chapter, new_root, no_pivot, pivot_root};
use rustix::fs::{CWD, Mode, OFlags};
use step::{StepError, step};
use unionfs::Overlay;

use crate::Error;
use crate::devices::{Dev, Devices};
use crate::mounts::Plan;

/// The root file system as the init process finds it.
#[derive(Debug)]
pub(crate) enum Root {
    /// A directory, to be made a mount.
    Directory(PathBuf),
    /// A mount that root has made before the clone, because owners are mapped in it: its number among the config's.
    Detached(OwnedFd),
    /// An overlay, to be mounted on this directory.
    Overlay(Overlay, PathBuf),
    /// A directory of the host, whose mount namespace the container shares: nothing is mounted, and root's way out is open. It is
    /// not made, only entered.
    Host(PathBuf),
}

/// How the root spreads: `linux.rootfsPropagation`. Where nothing is said it is private.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Spreads(Option<(Propagation, bool)>);

impl Spreads {
    /// Reads it.
    ///
    /// # Errors
    /// [`Error::Config`] for a word that is none.
    pub(crate) fn read(word: Option<&str>) -> Result<Self, Error> {
        let Some(word) = word.filter(|word| !word.is_empty()) else { return Ok(Self(None)) };
        match crate::mount_options::propagation(word) {
            Some(how) => Ok(Self(Some(how))),
            None => Err(Error::config(
                "linux.rootfsPropagation",
                format!("{word:?} is none of private, slave, shared, unbindable, or these with an r before"),
            )),
        }
    }

    /// Makes a directory a mount that is part of no mount table yet. A slave is made before [`inside::private`].
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn detached(self, path: &Path) -> Result<OwnedFd, StepError> {
        if self.is_slave() { new_root::detached_slave(path) } else { new_root::detached(path) }
    }

    fn is_slave(self) -> bool {
        matches!(self.0, Some((Propagation::Slave, _)))
    }

    /// The rest, for the root of this process.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn apply(self) -> Result<(), StepError> {
        let Some((how, recursive)) = self.0 else { return Ok(()) };
        if !matches!(how, Propagation::Shared | Propagation::Unbindable) {
            return Ok(());
        }
        step("mount_setattr", format_args!("/ {how:?}"), "whom mounts in the container's root spread to").run(
            || {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let root = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
                let change = Change { propagation: Some(how), recursive, ..Change::default() };
                change.apply(root.as_fd()).map_err(std::io::Error::from)
            },
        )
    }
}

/// What is special about a container's root.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    pub(crate) spreads: Spreads,
    /// Whether the roots are swapped, which an initramfs does not allow.
    pub(crate) pivot: bool,
    pub(crate) in_user_namespace: bool,
    /// Where hooks look for it before the swap; by itself it has no path.
    pub(crate) seen_at: Option<&'a Path>,
}

/// Makes the new root, with all that is mounted in it.
///
/// # Errors
/// The stage that failed.
pub(crate) fn make(
    root: &Root,
    plan: &mut Plan,
    devices: &Devices,
    way: &Way<'_>,
) -> Result<OwnedFd, StageError> {
    let (stage, mounts) = (StageError::at("rootfs"), StageError::at("mounts"));
    chapter::open_propagating(&mut plan.mounts).map_err(&mounts)?;
    let early = match root {
        Root::Directory(path) if way.spreads.is_slave() => Some(way.spreads.detached(path).map_err(&stage)?),
        _ => None,
    };
    inside::private().map_err(&stage)?;
    let root = match (root, early) {
        (_, Some(mount)) => attached(mount, way)?,
        (Root::Directory(path) | Root::Host(path), None) => {
            attached(new_root::detached(path).map_err(&stage)?, way)?
        }
        (Root::Detached(mount), None) => {
            attached(mount.try_clone().map_err(|error| StepError::new("dup", "rootfs", error))?, way)?
        }
        (Root::Overlay(overlay, target), None) => {
            overlay.mount(target).map_err(|error| StageError::new("rootfs", &error, 125))?;
            new_root::mounted(target).map_err(&stage)?
        }
    };
    chapter::apply(root.as_fd(), &plan.mounts).map_err(&mounts)?;
    for (path, target) in &plan.links {
        mount_point::link(root.as_fd(), path, target).map_err(&mounts)?;
    }
    if plan.dev != Dev::Bound {
        devices.create(root.as_fd(), way.in_user_namespace).map_err(StageError::at("devices"))?;
    }
    devices.confine(root.as_fd(), plan.dev, way.in_user_namespace).map_err(StageError::at("devices"))?;
    Ok(root)
}

/// Swaps it for the host's.
///
/// # Errors
/// The stage that failed.
pub(crate) fn enter(made_of: &Root, root: BorrowedFd<'_>, way: &Way<'_>) -> Result<(), StageError> {
    if way.pivot {
        return pivot_root::enter(root)
            .map_err(|error| StageError::new("pivot_root", &error, error.exit_code()));
    }
    if way.seen_at.is_some() || matches!(made_of, Root::Overlay(..)) {
        new_root::attach(root).map_err(StageError::at("rootfs"))?;
    }
    no_pivot::enter(root).map_err(StageError::at("chroot"))
}

fn attached(mount: OwnedFd, way: &Way<'_>) -> Result<OwnedFd, StageError> {
    match way.seen_at {
        Some(path) => new_root::attach_at(mount.as_fd(), path),
        None => new_root::attach(mount.as_fd()),
    }
    .map_err(StageError::at("rootfs"))?;
    Ok(mount)
}
