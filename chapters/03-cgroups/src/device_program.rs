//! Beyond this chapter: the rules for devices as a program in the kernel, for version 2.
//!
//! Version 2 has no file for devices. A program is attached to the cgroup instead: the kernel runs it each time one of the cgroup's
//! processes makes or opens a device node, hands it the device's numbers and the access that is wanted, and allows it where the
//! program gives 1. The program is written here, instruction by instruction, as the kernel's machine (BPF) has them.
//!
//! It takes the rules from the last to the first. `r3` holds the accesses that no rule has decided yet: a rule that allows takes
//! its own away, and when none is left the answer is yes; a rule that denies one of them makes it no, and so does the end.
//!
//! What the kernel requires: 1. `CAP_BPF` or `CAP_SYS_ADMIN` to load the program, `CAP_NET_ADMIN` or `CAP_SYS_ADMIN` to attach it:
//! an ordinary user cannot, also not in a delegated cgroup; 2. jumps that only go forward, and at most 4096 instructions; 3. to
//! replace a program without a moment between two, `BPF_F_REPLACE` with the old one (Linux 5.6), found by its number. At the
//! cgroup's end the program goes with it. A program of a cgroup above is asked as well, and each may say no.
//!
//! See bpf(2), bpf-helpers(7); kernel: cgroup-v2.rst "Device controller", linux/bpf.h (`struct bpf_cgroup_dev_ctx`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use step::step;

use crate::Error;
use crate::devices::{Access, DeviceKind, DeviceRule};

/// bpf(2)'s commands, and the numbers of linux/bpf.h.
const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_GET_FD_BY_ID: u32 = 13;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const PROG_QUERY: u32 = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// By which a program of ours is known again: systemd may have one of its own on the same cgroup.
const NAME: [u8; 16] = *b"sampan_devices\0\0";

/// One instruction: what to do, with which registers, how far to jump, with which number.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// The destination in the lower four bits, the source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const EXIT: Self = Self::new(0x95, 0, 0, 0, 0);

    const fn new(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Self {
        Self { code, registers: dst | src << 4, offset, immediate }
    }

    /// `dst = *(u32 *)(src + offset)`
    const fn load(dst: u8, src: u8, offset: i16) -> Self {
        Self::new(0x61, dst, src, offset, 0)
    }

    /// `dst = number`
    const fn set(dst: u8, number: i32) -> Self {
        Self::new(0xb4, dst, 0, 0, number)
    }

    /// `dst = src`, `dst &= number`, `dst >>= number`, in 32 bits.
    const fn copy(dst: u8, src: u8) -> Self {
        Self::new(0xbc, dst, src, 0, 0)
    }

    const fn and(dst: u8, number: i32) -> Self {
        Self::new(0x54, dst, 0, 0, number)
    }

    const fn shift_right(dst: u8, number: i32) -> Self {
        Self::new(0x74, dst, 0, 0, number)
    }

    /// Jumps over `over` instructions where `dst` is not this number.
    const fn unless_equal(dst: u8, number: i32, over: i16) -> Self {
        Self::new(0x55, dst, 0, over, number)
    }

    /// Jumps over `over` instructions where `dst` is this number.
    const fn if_equal(dst: u8, number: i32, over: i16) -> Self {
        Self::new(0x15, dst, 0, over, number)
    }
}

/// The program for the rules.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let (kind, access, major, minor) = (2, 3, 4, 5);
    // r1 is where the kernel has put what is asked: access << 16 | kind, major, minor.
    let mut program = vec![
        Instruction::load(kind, 1, 0),
        Instruction::copy(access, kind),
        Instruction::and(kind, 0xffff),
        Instruction::shift_right(access, 16),
        Instruction::load(major, 1, 4),
        Instruction::load(minor, 1, 8),
    ];
    for rule in rules.iter().rev() {
        let wanted = rule.kind.map(|kind| if kind == DeviceKind::Block { 1 } else { 2 });
        let number = |number: Option<u32>| number.map(|number| i32::try_from(number).unwrap_or(i32::MAX));
        let compared = [(kind, wanted), (major, number(rule.major)), (minor, number(rule.minor))];
        let tests: Vec<_> =
            compared.into_iter().filter_map(|(register, number)| Some((register, number?))).collect();
        let body = verdict(rule, access);
        // Whoever does not fit jumps behind the rule: over the tests that are left and the verdict.
        let length = i16::try_from(tests.len() + body.len()).unwrap_or(i16::MAX);
        for ((register, number), done) in tests.iter().zip(1..) {
            program.push(Instruction::unless_equal(*register, *number, length - done));
        }
        program.extend(body);
        if rule.is_everything() {
            // It has decided all that was left.
            return program;
        }
    }
    program.extend([Instruction::set(0, 0), Instruction::EXIT]);
    program
}

/// What a rule that fits does to the accesses that are not decided.
fn verdict(rule: &DeviceRule, access: u8) -> Vec<Instruction> {
    let bits = i32::from(rule.access.0);
    let answer = [Instruction::set(0, i32::from(rule.allow)), Instruction::EXIT];
    if rule.is_everything() {
        return answer.to_vec();
    }
    let others = i32::from(Access::ALL.0) & !bits;
    if rule.allow {
        let left = [Instruction::and(access, others), Instruction::unless_equal(access, 0, 2)];
        return left.into_iter().chain(answer).collect();
    }
    let hit = [Instruction::copy(0, access), Instruction::and(0, bits), Instruction::if_equal(0, 0, 2)];
    hit.into_iter().chain(answer).collect()
}

/// Attaches the rules to the version 2 cgroup `dir`, in place of those that are there.
///
/// # Errors
/// The bpf(2) that failed.
pub(crate) fn attach(dir: &Path, rules: &[DeviceRule]) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(dir, flags, Mode::empty());
    let cgroup = opened.map_err(|error| Error::Read { path: dir.to_owned(), source: error.into() })?;
    let instructions = program(rules);
    let count = instructions.len();
    let program = step(
        "bpf",
        format_args!("BPF_PROG_LOAD {count} instructions"),
        "the rules for devices, as a program that the kernel asks; version 2 has no file for them",
    )
    .run(|| load(&instructions))?;
    let old = attached(cgroup.as_fd());
    let why = if old.is_some() {
        "in place of the rules before, with no moment between"
    } else {
        "from here on it is asked each time that a device node is made or opened here"
    };
    step("bpf", format_args!("BPF_PROG_ATTACH {}", dir.display()), why)
        .run(|| replace(cgroup.as_fd(), program.as_fd(), old.as_ref().map(AsFd::as_fd)))?;
    Ok(())
}

/// Whether the kernel, and the rights of this process, allow such programs on cgroups below `dir`: asked by a look at those that
/// are there, which needs the same right.
pub(crate) fn is_possible(dir: &Path) -> bool {
    let opened = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    opened.is_ok_and(|dir| query(dir.as_fd(), &mut [0; 1]).is_ok())
}

fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u64; 2],
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    let count = u32::try_from(instructions.len()).unwrap_or(u32::MAX);
    let mut attributes = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count,
        instructions: instructions.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log: [0; 2],
        kernel_version: 0,
        flags: 0,
        name: NAME,
    };
    bpf_descriptor(PROG_LOAD, &mut attributes)
}

/// The program of ours that is attached; none where there is none, or where it may not be looked at.
fn attached(cgroup: BorrowedFd<'_>) -> Option<OwnedFd> {
    #[repr(C)]
    struct ById {
        id: u32,
        next: u32,
        flags: u32,
    }
    let mut ids = [0_u32; 16];
    let count = query(cgroup, &mut ids).ok()?;
    let mut open = ids
        .into_iter()
        .take(count)
        .filter_map(|id| bpf_descriptor(PROG_GET_FD_BY_ID, &mut ById { id, next: 0, flags: 0 }).ok());
    open.find(|program| name(program.as_fd()) == Some(NAME))
}

/// The numbers of the programs that are attached to this very cgroup: how many there are.
fn query(cgroup: BorrowedFd<'_>, ids: &mut [u32]) -> io::Result<usize> {
    #[repr(C)]
    struct Query {
        target: RawFd,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }
    let mut query = Query {
        target: cgroup.as_raw_fd(),
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: u32::try_from(ids.len()).unwrap_or(0),
        padding: 0,
    };
    match bpf(PROG_QUERY, &mut query) {
        // There are more than there was room for.
        Err(error) if error.raw_os_error() != Some(libc::ENOSPC) => Err(error),
        _ => Ok(usize::try_from(query.count).unwrap_or(0)),
    }
}

fn name(program: BorrowedFd<'_>) -> Option<[u8; 16]> {
    #[repr(C)]
    struct Info {
        before: [u64; 8],
        name: [u8; 16],
    }
    #[repr(C)]
    struct ByFd {
        program: RawFd,
        length: u32,
        info: u64,
    }
    let mut info = Info { before: [0; 8], name: [0; 16] };
    let mut asked =
        ByFd { program: program.as_raw_fd(), length: 80, info: std::ptr::from_mut(&mut info) as u64 };
    bpf(OBJ_GET_INFO_BY_FD, &mut asked).ok()?;
    Some(info.name)
}

fn replace(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, old: Option<BorrowedFd<'_>>) -> io::Result<()> {
    #[repr(C)]
    struct Attach {
        target: RawFd,
        program: RawFd,
        attach_type: u32,
        flags: u32,
        replaced: RawFd,
    }
    let mut attributes = Attach {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: if old.is_some() { ALLOW_MULTI | REPLACE } else { ALLOW_MULTI },
        replaced: old.map_or(0, |old| old.as_raw_fd()),
    };
    bpf(PROG_ATTACH, &mut attributes).map(drop)
}

fn bpf_descriptor<T>(command: u32, attributes: &mut T) -> io::Result<OwnedFd> {
    let number = bpf(command, attributes)?;
    #[allow(unsafe_code)]
    // SAFETY: the command gave a new descriptor (PROG_LOAD, PROG_GET_FD_BY_ID are the only callers'), which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// bpf(2), which neither nix nor rustix has.
#[allow(unsafe_code, clippy::cast_possible_truncation)]
fn bpf<T>(command: u32, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: `attributes` is one of the #[repr(C)] structs of this file, laid out as linux/bpf.h has the command's part of `union
    // bpf_attr`; the kernel reads and writes `size_of::<T>()` bytes of it, and takes the rest as zero. The addresses in it
    // are of values that the caller holds during the call.
    let given =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if given < 0 { Err(io::Error::last_os_error()) } else { Ok(given as RawFd) }
}

#[cfg(test)]
mod tests;
