//! What few mounts are asked for, besides a source, a target and attributes.
//!
//! Some attributes are for a mount alone and not for those beneath it, some mounts spread or are spread to ([`Change`]); a tmpfs may
//! take over what it covers; what is mounted already may get other options.
//!
//! See mount(8), mount_namespaces(7), tmpfs(5), fspick(2).

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, XattrFlags};
use step::{StepError, step};

use crate::attributes::{Change, Propagation};
use crate::file_system::{Refusal, reconfigure};
use crate::mount_point::resolve;
use crate::mounts::{Mount, Source, cloned};

/// What few mounts are asked for.
#[derive(Debug, Default)]
pub struct More {
    /// Changes that are made one after another, before the mount has a place.
    pub changes: Vec<Change>,
    /// What a new tmpfs takes over from the directory that it covers.
    pub covered: Covered,
    /// The label that SELinux knows its root directory by, for a file system that takes none as an option.
    pub label: Option<String>,
}

/// What a new tmpfs takes over from the directory that it covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Covered {
    /// Nothing.
    #[default]
    Hidden,
    /// Its mode: what was a `/tmp` for everybody is one again.
    Mode,
    /// All that is in it.
    Copied {
        /// And its owner and mode.
        dress: bool,
    },
}

/// Opens the sources of those binds that are to hear of the host's mounts, or the host of theirs. To be called while this mount
/// namespace still does: before [`crate::inside::private`].
///
/// # Errors
/// The step that failed.
pub fn open_propagating(mounts: &mut [Mount]) -> Result<(), StepError> {
    for mount in mounts {
        let hears = |change: &Change| change.propagation.is_some_and(Propagation::hears);
        if let Source::Bind { path, recursive } = &mount.source
            && mount.more.changes.iter().any(hears)
        {
            let tree = step(
                "open_tree",
                format_args!("{} OPEN_TREE_CLONE", path.display()),
                "before this mount table is cut off from the host's: mounts are to spread here",
            )
            .run(|| cloned(path, *recursive))?;
            mount.source = Source::Detached(tree);
        }
    }
    Ok(())
}

/// The options of a tmpfs, with the mode of what it covers, where that is wanted and there.
pub(crate) fn like_covered<'a>(
    root: BorrowedFd<'_>,
    mount: &Mount,
    data: &'a str,
) -> Result<Cow<'a, str>, Refusal> {
    if mount.more.covered != Covered::Mode {
        return Ok(Cow::Borrowed(data));
    }
    let mode = match resolve(root, &mount.target) {
        Err(rustix::io::Errno::NOENT) => 0o755,
        other => rustix::fs::fstat(other?)?.st_mode & 0o7777,
    };
    Ok(Cow::Owned(format!("mode={mode:o},{data}")))
}

/// Labels the root of a new instance.
pub(crate) fn label(instance: BorrowedFd<'_>, label: &str) -> Result<(), Refusal> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(instance, ".", flags, Mode::empty())?;
    Ok(rustix::fs::fsetxattr(root, "security.selinux", label.as_bytes(), XattrFlags::empty())?)
}

/// As mount(8) does it: the file system's options, then all attributes as they are given now.
pub(crate) fn remount(root: BorrowedFd<'_>, mount: &Mount, data: &str) -> Result<(), Refusal> {
    let place = resolve(root, &mount.target)?;
    if !data.is_empty() {
        reconfigure(place.as_fd(), data)?;
    }
    Ok(mount.more.changes.iter().try_for_each(|change| change.apply(place.as_fd()))?)
}
