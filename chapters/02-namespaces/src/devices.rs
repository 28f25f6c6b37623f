//! The device nodes that every program expects.
//!
//! A device node is a door into a driver of the kernel, named by two numbers; whoever may make any node may open the host's disk.
//! A container gets six that do no harm, and the links that shells and programs rely on.
//!
//! What the kernel requires: 1. `CAP_MKNOD` over the *host* for mknod(2): root of a user namespace cannot make a node, and even
//! if it could, could not open it; so there the host's own nodes are bound.
//!
//! See mknod(2), null(4), random(4), tty(4), pts(4); OCI: config-linux.md, default devices.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, makedev, mknodat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use step::{StepError, step};

use crate::{mount_point, mounts};

/// Name and numbers, as drivers/char/mem.c and tty_io.c have them.
const NODES: [(&str, u32, u32); 6] =
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
/// the new root's `/dev`. In a user namespace no node can be made: there the host's are bound.
///
/// # Errors
/// The step that failed.
pub fn create(root: BorrowedFd<'_>, in_user_namespace: bool) -> Result<(), StepError> {
    let dev = mount_point::resolve(root, Path::new("/dev"))
        .map_err(|errno| StepError::new("openat2", "/dev", errno))?;
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
                mknodat(&dev, name, FileType::CharacterDevice, Mode::from(0o666), makedev(major, minor))?;
                // mknod(2) takes the umask off.
                rustix::fs::chmodat(&dev, name, Mode::from(0o666), AtFlags::empty())
            })?;
        }
    }
    for (name, target) in LINKS {
        step("symlink", format_args!("{target} /dev/{name}"), "a name that shells and programs rely on")
            .run(|| symlinkat(target, &dev, name))?;
    }
    Ok(())
}

/// Binds the host's device node `path` at the same place under the new root, where no node can be made. It must be the
/// `kind` of device with the numbers `device`; where the new root has it already nothing is done.
///
/// # Errors
/// The step that failed; ENODEV where the host has another device there.
pub fn borrow(root: BorrowedFd<'_>, path: &Path, kind: FileType, device: Dev) -> Result<(), StepError> {
    let is_it = |node: BorrowedFd<'_>| {
        let stat = rustix::fs::fstat(node)?;
        Ok::<_, Errno>(FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == device)
    };
    step(
        "mount",
        format_args!("--bind {}", path.display()),
        "in a user namespace nobody makes devices: borrow the host's",
    )
    .run(|| {
        if let Ok(there) = mount_point::resolve(root, path)
            && is_it(there.as_fd())?
        {
            return Ok(());
        }
        let node = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if !is_it(node.as_fd())? {
            return Err(Errno::NODEV);
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let copy = open_tree(node.as_fd(), "", flags)?;
        mounts::attach(copy.as_fd(), mount_point::resolve_or_make(root, path, false)?.as_fd())
    })
}
