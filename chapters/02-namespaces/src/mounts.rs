//! The file systems that a container needs under its root.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

pub use rustix::mount::MountAttrFlags;
use step::StepError;

use crate::Kind;

/// What is mounted.
#[derive(Debug)]
pub enum Source {
    /// A new instance of a file system.
    New {
        /// Its type, as in `/proc/filesystems`.
        fstype: String,
        /// The first column of the mount table.
        source: String,
        /// The file system's own options, as mount(8) takes them: `mode=755,size=65536k`.
        data: String,
    },
    /// A file or a directory of the host, as the init process sees it before pivot_root.
    Bind {
        /// The path on the host.
        path: PathBuf,
        /// Whether the mounts beneath it come along.
        recursive: bool,
    },
    /// A mount that the runtime process detached: see [`crate::new_root::detached`].
    Detached(OwnedFd),
}

/// A mount to be made.
#[derive(Debug)]
pub struct Mount {
    /// What is mounted.
    pub source: Source,
    /// Where, inside the container; made where it is missing.
    pub target: PathBuf,
    /// `MOUNT_ATTR_RDONLY` and the like; on a recursive bind they hold for the whole tree.
    pub flags: MountAttrFlags,
    /// For `--explain`.
    pub why: &'static str,
}

/// The plan: `/proc`, `/dev`, `/dev/pts`, `/dev/shm`, `/dev/mqueue`, `/sys`, as a container with these namespaces of its own
/// may have them. `tty_group`: whether group 5 is mapped, to which terminals belong.
pub fn container_mounts(new: &[Kind], tty_group: bool) -> Vec<Mount> {
    let _ = (new, tty_group);
    unimplemented!()
}

/// Makes the mounts under the new root, in their order. No path leaves `root`, whatever links lie there.
///
/// # Errors
/// The step that failed.
pub fn apply(root: BorrowedFd<'_>, mounts: &[Mount]) -> Result<(), StepError> {
    let _ = (root, mounts);
    unimplemented!()
}
