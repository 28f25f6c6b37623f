//! Keep a container's hands off the program that started it (CVE-2019-5736).
//!
//! Until exec, a container's process is a copy of the runtime: its `/proc/PID/exe` is the runtime's file. A container whose root is
//! the host's root may hold on to it, by an image whose command is `#!/proc/self/exe`, and overwrite the file when it is no
//! longer running: the next command on the host is the attacker's. That nobody may trace the process
//! (`PR_SET_DUMPABLE`) does not help against an image that has the runtime run itself.
//!
//! So the runtime runs itself from something that cannot be written: for root a detached copy of the mount that it lies on, made
//! read-only, which costs two calls and one exec; for an ordinary user, who may not mount, a copy of the file in memory, sealed.
//! The kernel then refuses to open `/proc/PID/exe` for writing, with EROFS or EPERM.
//!
//! A program calls [`protect`] at the beginning of `main`, before it makes a container or enters one; a shim is started that way
//! at once ([`readonly`]).
//!
//! See execveat(2), open_tree(2), mount_setattr(2), memfd_create(2), fcntl_sealing(2).

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use nix::fcntl::AtFlags;
use nix::unistd::{execveat, geteuid};
use rustix::fs::{CWD, MemfdFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use step::{StepError, step};

use crate::masked::set_attributes;

/// Whether this process runs from something that cannot be written.
pub fn is_protected() -> bool {
    let Ok(exe) = File::open("/proc/self/exe") else { return false };
    let sealed = rustix::fs::fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    let readonly =
        rustix::fs::fstatvfs(&exe).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    sealed || readonly
}

/// This program as a descriptor that can be executed (execveat(2) with `AT_EMPTY_PATH`) and not written.
///
/// # Errors
/// The step that failed.
pub fn readonly() -> Result<OwnedFd, StepError> {
    if geteuid().is_root() {
        // In a container of somebody's that lets root not mount there is still the copy.
        if let Ok(fd) = mounted() {
            return Ok(fd);
        }
    }
    copied()
}

// ANCHOR: mounted
fn mounted() -> Result<OwnedFd, StepError> {
    step(
        "open_tree",
        format_args!("/proc/self/exe, read-only"),
        "a container that reaches this program by /proc must not write to it",
    )
    .run(|| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(CWD, "/proc/self/exe", flags)?;
        set_attributes(mount.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
        Ok::<_, rustix::io::Errno>(mount)
    })
}
// ANCHOR_END: mounted

fn copied() -> Result<OwnedFd, StepError> {
    step(
        "memfd_create",
        format_args!("/proc/self/exe, sealed"),
        "a container that reaches this program by /proc must not write to it",
    )
    .run(|| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut copy = File::from(rustix::fs::memfd_create("sampan", flags)?);
        // Read and written, not spliced: pages that a pipe holds cannot be sealed.
        copy.write_all(&fs::read("/proc/self/exe")?)?;
        seal(&copy)?;
        Ok::<_, io::Error>(OwnedFd::from(copy))
    })
}

/// A busy machine may still hold a page of it for a moment (EBUSY), on a list of pages that were just written.
fn seal(copy: &File) -> rustix::io::Result<()> {
    const TRIES: u32 = 20;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    for _ in 1..TRIES {
        match rustix::fs::fcntl_add_seals(copy, seals) {
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(5)),
            other => return other,
        }
    }
    rustix::fs::fcntl_add_seals(copy, seals)
}

/// Makes this process run from a read-only place: it starts over, with the same arguments and environment, the first time.
///
/// # Errors
/// The step that failed.
pub fn protect() -> Result<(), StepError> {
    if is_protected() {
        return name();
    }
    let exe = readonly()?;
    let strings =
        |list: Vec<Vec<u8>>| list.into_iter().filter_map(|text| CString::new(text).ok()).collect::<Vec<_>>();
    let args = strings(std::env::args_os().map(OsStringExt::into_vec).collect());
    let joined = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        [name.into_vec(), value.into_vec()].join(&b'=')
    };
    let env = strings(std::env::vars_os().map(joined).collect());
    step(
        "execveat",
        format_args!("/proc/self/exe"),
        "from here on this program runs from where nobody can write",
    )
    .run_last(|| execveat(&exe, c"", &args, &env, AtFlags::AT_EMPTY_PATH))
    .map(drop)
}

/// The kernel names a program that was executed by a descriptor after that: give it the name back by which `ps`, and
/// `cargo kit leaks`, know it.
fn name() -> Result<(), StepError> {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&program).file_name().unwrap_or_default().to_owned().into_vec();
    // 15 bytes are what the kernel keeps.
    let Ok(name) = CString::new(name) else { return Ok(()) };
    step("prctl", format_args!("PR_SET_NAME {name:?}"), "it was executed by a descriptor, which has no name")
        .run(|| nix::sys::prctl::set_name(&name))
}
