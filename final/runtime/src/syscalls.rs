//! The calls for which neither nix nor rustix has a safe form: what is unsafe about a process's attributes is here.
//!
//! See sched_setattr(2), ioprio_set(2), set_mempolicy(2), seccomp(2).

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

use libc::sock_filter;
use nix::errno::Errno;

/// `struct sched_attr` of `linux/sched/types.h`, in its first version: the kernel fills up what is missing with zero.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    pub(crate) util_min: u32,
    pub(crate) util_max: u32,
}

impl SchedAttr {
    /// What `size` must say: 48 without the two clamps, 56 with them (Linux 5.3).
    pub(crate) const fn size(clamps: bool) -> u32 {
        if clamps { 56 } else { 48 }
    }
}

/// For this process.
pub(crate) fn sched_setattr(attributes: &SchedAttr) -> Result<(), Errno> {
    let (this, flags): (libc::pid_t, libc::c_uint) = (0, 0);
    // SAFETY: `attributes` is at least `attributes.size` bytes long, lives until the call returns, and is only read, but for
    // `size`, which the kernel writes when it refuses a longer struct: a shorter one than it knows it never does.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setattr, this, std::ptr::from_ref(attributes), flags) };
    Errno::result(result).map(drop)
}

/// For this process: the class in the upper three bits of sixteen, the level below.
pub(crate) fn ioprio_set(class: u16, level: u16) -> Result<(), Errno> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class << 13 | level);
    // SAFETY: three numbers, no pointer.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    Errno::result(result).map(drop)
}

/// For this process: a mode with its flags, and a mask of nodes, none of which is no mask at all.
pub(crate) fn set_mempolicy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // The kernel takes one bit fewer than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    // SAFETY: `mask` is null with no bits, or points to `nodes`, which holds `bits - 1` bits, lives until the call returns and
    // is only read.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    Errno::result(result).map(drop)
}

/// Loads a filter for this process, and gives its listener where `flags` ask for one.
pub(crate) fn seccomp(program: &[sock_filter], flags: libc::c_ulong) -> Result<Option<OwnedFd>, Errno> {
    const MODE_FILTER: libc::c_uint = 1;
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` points to `len` instructions that live until the call returns; the kernel copies them and writes to none.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, MODE_FILTER, flags, &raw const program) };
    let number = Errno::result(result)?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        // With TSYNC alone, the number of a thread that could not follow.
        return if number == 0 { Ok(None) } else { Err(Errno::ESRCH) };
    }
    let number = i32::try_from(number).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: SECCOMP_FILTER_FLAG_NEW_LISTENER was asked for and the call succeeded, so this is a new descriptor, which nobody
    // else knows of.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }))
}
