//! Writes to `/proc`, by a descriptor that is known to be proc's.
//!
//! What confines a container is partly files of `/proc`: to write "on" into a file that only looks like one confines nobody, and a
//! link can turn the write to another file of proc, `sysrq-trigger` say (CVE-2025-52881). The container's own mounts lie in its root
//! by now, so the path `/proc` proves nothing. Hence: 1. `/proc` is opened without following a link, and must be the root of a proc
//! file system; 2. from there a file is looked up without links and without leaving that mount, for something may be mounted over
//! a part of it; 3. what is written to is the descriptor.
//!
//! See openat2(2), proc(5).

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use ::namespaces::in_root;
use nix::errno::Errno;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use step::{StepError, step};

/// Opens the proc file system that is mounted at `/proc`.
///
/// # Errors
/// The call that failed; ENODEV where it is something else.
pub(crate) fn open() -> Result<OwnedFd, StepError> {
    let failed = |errno| StepError::new("openat2 RESOLVE_NO_SYMLINKS", "/proc", errno);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc =
        rustix::fs::openat2(CWD, "/proc", flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).map_err(failed)?;
    if in_root::is_proc(proc.as_fd()).map_err(failed)? {
        return Ok(proc);
    }
    Err(StepError::new("fstatfs", "/proc is not the proc file system", Errno::ENODEV))
}

// ANCHOR: write
/// Writes a file of proc, named below `/proc`, where that is mounted.
///
/// # Errors
/// The step that failed.
pub(crate) fn write(path: &Path, text: &str, why: &'static str) -> Result<(), StepError> {
    let proc = open()?;
    step("write", format_args!("/proc/{} {text}", path.display()), why).run(|| -> io::Result<()> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&proc, path, flags, Mode::empty(), resolve)?;
        File::from(file).write_all(text.as_bytes())
    })
}
// ANCHOR_END: write
