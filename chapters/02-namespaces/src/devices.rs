//! The device nodes that every program expects.
//!
//! A device node is a door into a driver of the kernel, named by two numbers; whoever may make any node may open the host's disk.
//! A container gets six that do no harm, and the links that shells and programs rely on.
//!
//! What the kernel requires: 1. `CAP_MKNOD` over the *host* for mknod(2): root of a user namespace cannot make a node, and even
//! if it could, could not open it; so there the host's own nodes are bound.
//!
//! See mknod(2), null(4), random(4), tty(4), pts(4); OCI: config-linux.md, default devices.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Dev, FileType, Mode, OFlags, makedev, mknodat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::umask;
use step::{StepError, step};

use crate::{mount_point, mounts};

/// Beyond this chapter: name and numbers, as drivers/char/mem.c and tty_io.c have them.
pub const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    // The terminals of *this* devpts, not those of the host.
    ("ptmx", "pts/ptmx"),
];

/// Makes `/dev/null`, `zero`, `full`, `random`, `urandom`, `tty` and the links `fd`, `stdin`, `stdout`, `stderr`, `ptmx` under
/// the new root's `/dev`. In a user namespace no node can be made: there the host's are bound. What is there already, in a `/dev`
/// that is the image's, must be just that device.
///
/// # Errors
/// The step that failed.
pub fn create(root: BorrowedFd<'_>, in_user_namespace: bool) -> Result<(), StepError> {
    let dev = mount_point::without_links(root, Path::new("/dev"), true)
        .map_err(|errno| StepError::new("openat2", "/dev", errno))?;
    // mknod(2) takes the umask off.
    let mask = umask(Mode::empty());
    let made = fill(root, dev.as_fd(), in_user_namespace);
    umask(mask);
    made
}

fn fill(root: BorrowedFd<'_>, dev: BorrowedFd<'_>, in_user_namespace: bool) -> Result<(), StepError> {
    for (name, major, minor) in NODES {
        if in_user_namespace {
            let host = PathBuf::from("/dev").join(name);
            step(
                "mount",
                format_args!("--bind {}", host.display()),
                "in a user namespace nobody makes devices: borrow the host's",
            )
            .run(|| mounts::bind(root, &host, &host))?;
        } else {
            step(
                "mknod",
                format_args!("/dev/{name} c {major} {minor}"),
                "a device that every program expects, and that does no harm",
            )
            .run(|| {
                let (kind, numbers) = (FileType::CharacterDevice, makedev(major, minor));
                match mknodat(dev, name, kind, Mode::from(0o666), numbers) {
                    Err(Errno::EXIST) => there(dev, name.as_ref(), kind, numbers).map(drop),
                    other => other,
                }
            })?;
        }
    }
    for (name, target) in LINKS {
        step("symlink", format_args!("{target} /dev/{name}"), "a name that shells and programs rely on")
            .run(|| match symlinkat(target, dev, name) {
                Err(Errno::EXIST) => Ok(()),
                other => other,
            })?;
    }
    Ok(())
}

// ANCHOR: there
/// What is at `name` now must be the device that was asked for: an image may have put a link there, or a node with other numbers.
///
/// # Errors
/// EEXIST where it is something else; else as openat(2).
pub fn there(parent: BorrowedFd<'_>, name: &OsStr, kind: FileType, device: Dev) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if is(node.as_fd(), kind, device)? { Ok(node) } else { Err(Errno::EXIST) }
}
// ANCHOR_END: there

fn is(node: BorrowedFd<'_>, kind: FileType, device: Dev) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(node)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == kind && (kind == FileType::Fifo || stat.st_rdev == device))
}

/// Binds the host's device node `path` at the same place under the new root, where no node can be made. It must be the
/// `kind` of device with the numbers `device`; where the new root has it already nothing is done.
///
/// # Errors
/// The step that failed; ENODEV where the host has another device there.
pub fn borrow(root: BorrowedFd<'_>, path: &Path, kind: FileType, device: Dev) -> Result<(), StepError> {
    step(
        "mount",
        format_args!("--bind {}", path.display()),
        "in a user namespace nobody makes devices: borrow the host's",
    )
    .run(|| {
        if let Ok(there) = mount_point::resolve(root, path)
            && is(there.as_fd(), kind, device)?
        {
            return Ok(());
        }
        let node = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if !is(node.as_fd(), kind, device)? {
            return Err(Errno::NODEV);
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let copy = open_tree(node.as_fd(), "", flags)?;
        mounts::attach(copy.as_fd(), mount_point::resolve_or_make(root, path, false)?.as_fd())
    })
}
