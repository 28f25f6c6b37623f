//! The calls for which neither nix nor rustix has a safe form: all that is unsafe in this chapter is here.
//!
//! clone3 and mount_setattr take a struct and its size, so that the kernel can add fields: an older program passes a shorter
//! struct, and an older kernel refuses fields that it does not know with E2BIG unless they are zero.
//!
//! See clone3(2), mount_setattr(2), ioctl_nsfs(2), _exit(2).

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, Signal};
use nix::unistd::Pid;

/// On which side of the clone one comes back.
pub(crate) enum Side {
    /// The process that called, with the new one's pid and pidfd.
    Parent(Pid, OwnedFd),
    /// The new process.
    Child,
}

/// What clone3 is asked for.
pub(crate) struct Clone<'a> {
    pub(crate) flags: CloneFlags,
    /// Be born in this cgroup v2 directory.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Make a sibling of the caller instead of a child.
    pub(crate) sibling: bool,
}

/// Makes a process, as fork does, in new namespaces. The caller has one thread: a copy of a process has the locks of all its
/// threads, and the thread that called.
pub(crate) fn clone3(clone: &Clone<'_>) -> Result<Side, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is a struct of integers, for which zero is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    // The bits are written as the kernel has them: CLONE_NEWTIME is a low one, and none is negative.
    args.flags = u64::from(clone.flags.bits().cast_unsigned()) | libc::CLONE_PIDFD.cast_unsigned() as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    if clone.sibling {
        // The parent's own exit signal is taken: naming one is EINVAL.
        args.flags |= u64::from(libc::CLONE_PARENT.cast_unsigned());
    } else {
        args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    }
    if let Some(cgroup) = clone.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` and `pidfd` live until the call returns, and the size is that of `args`. No stack is named and CLONE_VM is
    // not set, so the child has its own copy of all memory, as after fork. That a copy of one thread can go on alone is upheld by
    // the callers in `spawn`, of whom the crate demands a single thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match Errno::result(pid)? {
        0 => Ok(Side::Child),
        pid => {
            let pid = Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?);
            // SAFETY: CLONE_PIDFD was asked for and the call succeeded, so the kernel has put a new descriptor there, which nobody
            // else knows of.
            Ok(Side::Parent(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
        }
    }
}

/// `NS_GET_NSTYPE`: the flag by which clone3 means a namespace of this kind.
pub(crate) fn namespace_type(file: BorrowedFd<'_>) -> Result<libc::c_int, Errno> {
    // _IO(0xb7, 3) of `linux/nsfs.h`.
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request takes no argument, so the kernel touches no memory of this process.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) })
}

/// clone3(2): the child is born in the cgroup whose directory `cgroup` names (Linux 5.7).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What mount_setattr changes.
#[derive(Default)]
pub(crate) struct MountAttributes<'a> {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub(crate) clear: u64,
    /// `MS_PRIVATE` and its like, or 0.
    pub(crate) propagation: u64,
    /// Show all owners through the id maps of this user namespace.
    pub(crate) ids_of: Option<BorrowedFd<'a>>,
    /// Leave the mounts beneath it as they are.
    pub(crate) alone: bool,
}

/// Changes the attributes of the mount whose root `mount` is, and of all mounts beneath it.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, attributes: &MountAttributes<'_>) -> Result<(), Errno> {
    let mut attr = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    if let Some(namespace) = attributes.ids_of {
        attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = u64::from(namespace.as_raw_fd().cast_unsigned());
    }
    let recursive = if attributes.alone { 0 } else { libc::AT_RECURSIVE };
    // SAFETY: the path is a C string, `attr` lives until the call returns and its size is given. The call changes a mount, and no
    // memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw mut attr,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Ends this process without running what the program that was cloned had registered for its end.
pub(crate) fn exit_now(status: u8) -> ! {
    // SAFETY: the call does not return, so nothing can observe what it leaves undone.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Exec hands on which signals are ignored: those that a script's `&` or nohup(1) has set so, and SIGPIPE, which Rust programs ignore.
/// A command in a container does not expect it, and a shell could not even trap them.
pub(crate) fn default_signals() -> Result<(), Errno> {
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default disposition runs no handler.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// Closes all descriptors from `first` on.
pub(crate) fn close_from(first: RawFd) -> Result<(), Errno> {
    // SAFETY: the callers, the processes that stay behind in `reaper` and `spawn`, own all descriptors of their process and end
    // with `exit_now`: no owner of a closed descriptor is used or dropped afterwards.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    Errno::result(result).map(drop)
}

/// Overwrites a piece of this process's own memory with `text` and zeros behind it.
///
/// # Safety
/// `start..end` is mapped and writable, and nothing in this process reads it as anything but bytes any more.
pub(crate) unsafe fn overwrite(start: usize, end: usize, text: &[u8]) {
    let room = end.saturating_sub(start);
    let kept = text.len().min(room);
    let piece = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the range is the caller's promise, and `kept <= room`.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), piece, kept);
        std::ptr::write_bytes(piece.add(kept), 0, room - kept);
    }
}

/// fork(2), for a process that the crate made itself.
pub(crate) fn fork() -> Result<nix::unistd::ForkResult, Errno> {
    // SAFETY: the init process was cloned from one thread and has made no other, so no lock is held by a thread that the
    // child lacks.
    unsafe { nix::unistd::fork() }
}
