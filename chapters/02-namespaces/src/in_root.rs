//! Look up a path below a root that somebody else may be changing at this moment.
//!
//! A path that is checked and then used is looked up twice, and between the two whoever owns the directory may put a link in the
//! way (CVE-2021-30465). So a path becomes a descriptor once, by a look-up that the kernel itself keeps inside, and everything
//! after that is done to the descriptor.
//!
//! What the kernel does: 1. `RESOLVE_IN_ROOT` takes `root` for `/`, in links as well; 2. `RESOLVE_NO_MAGICLINKS` follows no link of
//! the kind of `/proc/PID/fd/N`, which leads anywhere; 3. where a directory is moved while a `..` is followed it cannot say whether
//! it is still inside, and answers EAGAIN: on a busy machine that happens by chance, so it is asked again, but not for ever,
//! since an attacker can do it on purpose.
//!
//! See openat2(2).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often a look-up that the kernel could not finish is tried again.
const TRIES: u32 = 128;

// ANCHOR: open
/// Opens `path` as it is seen from inside `root`, as a place to do things to (`O_PATH`). `more` makes it stricter:
/// `NO_SYMLINKS` for a path that must lie where it says.
///
/// # Errors
/// As openat2(2); EAGAIN where somebody keeps on moving directories.
pub fn open(root: BorrowedFd<'_>, path: &Path, more: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    open_as(root, path, OFlags::empty(), more)
}

/// The same, with `flags`: `DIRECTORY`, where anything else is no use, and `NOFOLLOW`, for a link itself.
pub(crate) fn open_as(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    more: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    // With `RESOLVE_IN_ROOT` a leading slash is the root too, but the descriptor alone is told by a dot.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
    again(|| rustix::fs::openat2(root, path, flags, Mode::empty(), how))
}
// ANCHOR_END: open

fn again(mut attempt: impl FnMut() -> rustix::io::Result<OwnedFd>) -> rustix::io::Result<OwnedFd> {
    for _ in 1..TRIES {
        match attempt() {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    attempt()
}

/// Whether the descriptor is the root directory of a proc file system, and nothing that stands in its place.
///
/// # Errors
/// As fstatfs(2).
pub fn is_proc(directory: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    const ROOT_INODE: u64 = 1;
    Ok(on_proc(directory)? && rustix::fs::fstat(directory)?.st_ino == ROOT_INODE)
}

/// Whether it lies on a proc file system.
///
/// # Errors
/// As fstatfs(2).
pub fn on_proc(file: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(rustix::fs::fstatfs(file)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_look_up_is_tried_again_but_not_for_ever() {
        let mut tries = 0;
        let outcome = again(|| {
            tries += 1;
            Err(Errno::AGAIN)
        });
        assert_eq!((outcome.unwrap_err(), tries), (Errno::AGAIN, TRIES));
    }

    #[test]
    fn proc_is_told_from_what_lies_in_it_and_from_others() {
        let seen = |path: &str| {
            let fd = rustix::fs::open(path, OFlags::PATH, Mode::empty()).unwrap();
            (on_proc(fd.as_fd()).unwrap(), is_proc(fd.as_fd()).unwrap())
        };
        assert_eq!(seen("/proc"), (true, true));
        assert_eq!(seen("/proc/sys"), (true, false));
        assert_eq!(seen("/"), (false, false));
    }
}
