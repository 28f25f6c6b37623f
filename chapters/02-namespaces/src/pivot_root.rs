//! Swap the root mount with pivot_root(2).

use std::os::fd::BorrowedFd;

use crate::Error;

/// Makes the mount whose root directory is `new_root` the root of this mount namespace, and detaches the old one.
///
/// # Errors
/// [`Error::Pivot`] where the kernel answers EINVAL, with the cause; else the step that failed.
pub fn enter(new_root: BorrowedFd<'_>) -> Result<(), Error> {
    let _ = new_root;
    unimplemented!()
}
