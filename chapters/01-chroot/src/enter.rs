//! Change the root directory with chroot(2).
//!
//! Each process has a root directory in the kernel's `fs_struct`, and each path that begins with `/` is looked up from there;
//! `..` stops there as well. chroot(2) puts another directory in its place, for this process and those that it starts.
//!
//! What the kernel requires: 1. the path is a directory; 2. `CAP_SYS_CHROOT` in the user namespace (see [`crate::user`]);
//! 3. search permission on the path.
//!
//! What it does *not* do: 4. it leaves the working directory where it was, also outside the new root; 5. it leaves open
//! descriptors open, each directory among them a way out; 6. it takes no capability away, so that root inside may call it again.
//! This file sees to 4, [`crate::command`] to 5, and 6 is the escape of this chapter.
//!
//! See chroot(2), path_resolution(7).

use std::path::Path;

use nix::unistd::{chdir, chroot};
use step::step;

use crate::Error;

/// Makes `root` the root directory of this process, and its working directory.
///
/// # Errors
/// [`Error::NoRootfs`] where `root` is no directory; else the step that failed (see [`crate::HINTS`]).
// ANCHOR: enter
pub fn enter(root: &Path) -> Result<(), Error> {
    if !root.is_dir() {
        return Err(Error::NoRootfs(root.to_owned()));
    }
    step(
        "chroot",
        format_args!("{}", root.display()),
        "every path that begins with / is looked up in here from now on",
    )
    .run(|| chroot(root))?;
    step(
        "chdir",
        format_args!("/"),
        "chroot left the working directory outside, and ../.. would still lead there",
    )
    .run(|| chdir("/"))?;
    Ok(())
}
// ANCHOR_END: enter
