//! Make a directory a mount, so that it can become the root mount.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use step::StepError;

/// A copy of the mount at `path`, with those beneath it, that is not part of any mount table yet. Needs `CAP_SYS_ADMIN`, so
/// root calls it before the clone (and has its ids mapped: [`crate::Config::mapped_mounts`]), an ordinary user in the init
/// process.
///
/// # Errors
/// The step that failed.
pub fn detached(path: &Path) -> Result<OwnedFd, StepError> {
    let _ = path;
    unimplemented!()
}

/// Puts a [`detached`] mount over `/` of this mount namespace, from where pivot_root takes it. Nothing of the path that it
/// came from must be reachable for that.
///
/// # Errors
/// The step that failed.
pub fn attach(mount: BorrowedFd<'_>) -> Result<(), StepError> {
    let _ = mount;
    unimplemented!()
}

/// Opens a directory at which something is mounted already, an overlay say, to be the new root.
///
/// # Errors
/// The step that failed.
pub fn mounted(path: &Path) -> Result<OwnedFd, StepError> {
    let _ = path;
    unimplemented!()
}
