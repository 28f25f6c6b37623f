//! The place of a mount, in a root file system that somebody else has made.
//!
//! A rootfs in which `data` is a link to `../../..` is somebody's attack: the runtime would make directories on the host, and mount
//! on them. So each path is looked up by [`crate::in_root`], where a link leads to where it would lead for the program inside.
//! What is missing is made name by name, in a directory that is held open, and the mount is put onto the descriptor of what
//! was found: a link that is swapped in later changes nothing.
//!
//! See openat2(2), symlink(7), path_resolution(7).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};
use step::{StepError, step};

use crate::in_root::open_as as open;

/// How many links a path may hold, as in path_resolution(7).
const LINKS: u32 = 40;

/// Opens `path` as it is seen from inside `root`.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    open(root, path, OFlags::empty(), ResolveFlags::empty())
}

/// The same, and makes it where it is missing: a directory, or an empty file. A link to something that is missing is followed
/// too, as far as inside `root`.
pub(crate) fn resolve_or_make(root: BorrowedFd<'_>, path: &Path, directory: bool) -> Result<OwnedFd> {
    let flags = if directory { OFlags::DIRECTORY } else { OFlags::empty() };
    match open(root, path, flags, ResolveFlags::empty()) {
        Err(Errno::NOENT) => make(root, path, directory),
        other => other,
    }
}

/// The same for a path in which no link may be: ELOOP where one is.
pub(crate) fn without_links(root: BorrowedFd<'_>, path: &Path, directory: bool) -> Result<OwnedFd> {
    let flags = if directory { OFlags::DIRECTORY } else { OFlags::empty() };
    match open(root, path, flags, ResolveFlags::NO_SYMLINKS) {
        Err(Errno::NOENT) => make(root, path, directory)?,
        other => return other,
    };
    open(root, path, flags, ResolveFlags::NO_SYMLINKS)
}

/// Makes the symbolic link `path`, which holds `target`; what is there already stays.
///
/// # Errors
/// The step that failed.
pub fn link(root: BorrowedFd<'_>, path: &Path, target: &Path) -> std::result::Result<(), StepError> {
    step(
        "symlink",
        format_args!("{} {}", target.display(), path.display()),
        "the other name under which it is looked for",
    )
    .run(|| {
        let parent = resolve(root, path.parent().unwrap_or(Path::new("/")))?;
        match rustix::fs::symlinkat(target, &parent, path.file_name().unwrap_or_default()) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    })
}

/// What the descriptor stands for.
pub(crate) fn kind(fd: impl AsFd) -> Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Walks name by name. `done` never holds a link, so that `..` takes its last name away.
fn make(root: BorrowedFd<'_>, path: &Path, directory: bool) -> Result<OwnedFd> {
    let mut done = PathBuf::from(".");
    let mut left = VecDeque::new();
    let mut links = 0;
    push_front(&mut left, path);
    while let Some(name) = left.pop_front() {
        if name == ".." {
            if done != Path::new(".") {
                done.pop();
            }
            continue;
        }
        let next = done.join(&name);
        match open(root, &next, OFlags::NOFOLLOW, ResolveFlags::empty()) {
            Ok(there) if kind(&there)? == FileType::Symlink => {
                links += 1;
                if links > LINKS {
                    return Err(Errno::LOOP);
                }
                let target = rustix::fs::readlinkat(&there, "", Vec::new())?;
                let target =
                    Path::new(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(target.as_bytes()));
                if target.is_absolute() {
                    done = PathBuf::from(".");
                }
                push_front(&mut left, target);
                continue;
            }
            Ok(_) => {}
            Err(Errno::NOENT) => make_one(root, &done, &name, directory || !left.is_empty())?,
            Err(errno) => return Err(errno),
        }
        done = next;
    }
    let made = open(root, &done, OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)?;
    if directory && kind(&made)? != FileType::Directory { Err(Errno::NOTDIR) } else { Ok(made) }
}

fn push_front(left: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => left.push_front(name.to_owned()),
            Component::ParentDir => left.push_front("..".into()),
            _ => {}
        }
    }
}

fn make_one(root: BorrowedFd<'_>, parent: &Path, name: &OsStr, directory: bool) -> Result<()> {
    let parent = open(root, parent, OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)?;
    let made = if directory {
        rustix::fs::mkdirat(&parent, name, Mode::from(0o755))
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, Mode::from(0o644)).map(drop)
    };
    match made {
        // Another container with the same rootfs was faster; what it made is looked at afterwards.
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A rootfs, and beside it what must stay untouched.
    fn with_rootfs(test: impl FnOnce(BorrowedFd<'_>, &Path)) {
        let name = std::thread::current().name().unwrap_or_default().replace(':', "-");
        let folder = std::env::temp_dir().join(format!("sampan-{}-{name}", std::process::id()));
        let rootfs = folder.join("rootfs");
        fs::create_dir_all(rootfs.join("inner")).unwrap();
        let root = crate::new_root::mounted(&rootfs).unwrap();
        test(root.as_fd(), &rootfs);
        let beside: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(beside, ["rootfs"], "something was made outside");
    }

    #[test]
    fn a_link_leads_inside() {
        with_rootfs(|root, rootfs| {
            symlink("/inner", rootfs.join("abs")).unwrap();
            symlink("../../../../etc", rootfs.join("rel")).unwrap();
            resolve_or_make(root, Path::new("/abs/made"), true).unwrap();
            resolve_or_make(root, Path::new("/a/b/file"), false).unwrap();
            resolve_or_make(root, Path::new("/rel/passwd"), false).unwrap();
            assert!(rootfs.join("inner/made").is_dir() && rootfs.join("a/b/file").is_file());
            assert_eq!(fs::read(rootfs.join("etc/passwd")).unwrap(), b"", "the rootfs's own");
        });
    }

    #[test]
    fn a_link_to_nothing_is_followed_inside() {
        with_rootfs(|root, rootfs| {
            symlink("../gone/further", rootfs.join("inner/dangling")).unwrap();
            symlink("/inner/dangling", rootfs.join("twice")).unwrap();
            symlink("../../../../../../outside", rootfs.join("out")).unwrap();
            resolve_or_make(root, Path::new("/twice/here"), true).unwrap();
            resolve_or_make(root, Path::new("/out/here"), true).unwrap();
            assert!(rootfs.join("gone/further/here").is_dir() && rootfs.join("outside/here").is_dir());
        });
    }

    #[test]
    fn links_in_a_circle_end() {
        with_rootfs(|root, rootfs| {
            symlink("b", rootfs.join("a")).unwrap();
            symlink("a", rootfs.join("b")).unwrap();
            assert_eq!(resolve_or_make(root, Path::new("/a/x"), true).unwrap_err(), Errno::LOOP);
        });
    }

    #[test]
    fn a_file_is_no_directory() {
        with_rootfs(|root, rootfs| {
            fs::write(rootfs.join("file"), "").unwrap();
            for path in ["/file", "/file/below"] {
                assert_eq!(
                    resolve_or_make(root, Path::new(path), true).unwrap_err(),
                    Errno::NOTDIR,
                    "{path}"
                );
            }
        });
    }

    #[test]
    fn where_no_link_may_be_one_is_refused() {
        with_rootfs(|root, rootfs| {
            symlink("inner", rootfs.join("proc")).unwrap();
            assert_eq!(without_links(root, Path::new("/proc"), true).unwrap_err(), Errno::LOOP);
            without_links(root, Path::new("/sys"), true).unwrap();
            assert!(rootfs.join("sys").is_dir());
        });
    }
}
