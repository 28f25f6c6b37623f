//! `linux.seccomp`: which system calls the container's program may make.
//!
//! A filter is a small program that the kernel runs at each system call. It is inherited by all children, survives exec, and
//! can be made stricter but never taken off.
//!
//! What the kernel requires: 1. `no_new_privs`, or `CAP_SYS_ADMIN` in the user namespace: else a user could put a set-user-id
//! program under a filter that lies to it; 2. a program of at most 4096 instructions that ends; 3. that the process that loads
//! it makes no call afterwards which it forbids.
//!
//! So the *order* in the init process depends on 1: with `no_new_privs` the filter is the last thing before exec, and what init
//! itself needs is not in it; without, it must come before the capabilities are dropped, and the calls that drop them must be
//! allowed by it (Docker's default allows them).
//!
//! The program is compiled by the runtime process, before the clone: init only hands it to the kernel.
//!
//! With `SCMP_ACT_NOTIFY` the call waits, and somebody outside is asked who holds the filter's listener: `listener` sends it there.
//!
//! In reading order: [`profile`] (what is allowed by default), [`compile`], `bpf` (the instructions), [`calls`] (the numbers),
//! `listener`.
//!
//! See seccomp(2); runtime-spec: config-linux.md.

mod bpf;
pub mod calls;
pub(crate) mod listener;
pub mod profile;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;

use libc::sock_filter;
use nix::errno::Errno;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};
use step::{StepError, step};

use self::bpf::{Condition, Decisions, Rule, Test};
use self::calls::Abi;
use crate::{Error, syscalls};

const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// A compiled filter.
#[derive(Clone)]
pub struct Filter {
    program: Vec<sock_filter>,
    flags: libc::c_ulong,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter of {} instructions", self.program.len())
    }
}

/// Compiles a configuration. A name that no table knows is passed over: a list may be newer than this program.
///
/// # Errors
/// [`Error::Config`] for what is no filter.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter, Error> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    if default == RET_NOTIFY {
        return Err(Error::config(
            "linux.seccomp.defaultAction",
            "with SCMP_ACT_NOTIFY for all calls the init process could not even tell whom to ask",
        ));
    }
    let rules = seccomp
        .syscalls()
        .iter()
        .flatten()
        .map(|syscall| Ok((syscall.names().as_slice(), rules(syscall)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let mut notifies = false;
    for (names, rules) in &rules {
        let notified = rules.iter().any(|rule| rule.action == RET_NOTIFY);
        if notified && names.iter().any(|name| name == "sendmsg") {
            return Err(Error::config(
                "linux.seccomp.syscalls",
                "SCMP_ACT_NOTIFY cannot be for sendmsg, by which the listener is handed over",
            ));
        }
        notifies |= notified;
    }
    check_execve(&rules, default)?;
    let program = bpf::program(&parts(seccomp, &rules, default), RET_ERRNO | Errno::ENOSYS as u32);
    if program.len() > 4096 {
        return Err(Error::config(
            "linux.seccomp",
            "the kernel takes no filter of more than 4096 instructions",
        ));
    }
    Ok(Filter { program, flags: flags(seccomp, notifies) })
}

/// What forbids execve forbids the init process to become the container's program, and mostly to say so as well.
fn check_execve(rules: &[(&[String], Vec<Rule>)], default: u32) -> Result<(), Error> {
    let lets_through =
        |action: u32| matches!(action & 0xffff_0000, RET_ALLOW | RET_LOG | RET_TRACE | RET_NOTIFY);
    let mut about = rules.iter().filter(|(names, _)| names.iter().any(|name| name == "execve"));
    let may =
        lets_through(default) || about.any(|(_, rules)| rules.iter().any(|rule| lets_through(rule.action)));
    if may {
        return Ok(());
    }
    Err(Error::config("linux.seccomp", "it allows no execve, by which the container's program is started"))
}

/// The decisions by convention, and by the first number. A call by a convention that the configuration does not name is not
/// there, whatever the default: it would be a way around the rules.
fn parts(
    seccomp: &LinuxSeccomp,
    rules: &[(&[String], Vec<Rule>)],
    default: u32,
) -> Vec<(u32, Vec<(u32, Decisions)>)> {
    let enosys = RET_ERRNO | Errno::ENOSYS as u32;
    // A default that refuses says "not permitted" of calls that it knows; a call that is too new to be known is not there.
    let unknown = if default & 0xffff_0000 == RET_ERRNO { enosys } else { default };
    let listed = |arch| seccomp.architectures().as_ref().is_some_and(|list| list.contains(&arch));
    let decisions =
        |abi: Abi| Decisions { rules: by_number(abi, rules), default, newest: abi.newest(), unknown };
    let part = |abi: Abi| {
        let mut parts = vec![(0, decisions(abi))];
        if abi == calls::X86_64 {
            let nothing = || Decisions { default: enosys, unknown: enosys, ..Decisions::default() };
            let x32 = if listed(Arch::ScmpArchX32) { decisions(calls::X32) } else { nothing() };
            parts.push((calls::X32_BIT, x32));
        }
        (abi.audit, parts)
    };
    let named = |abi: &Abi| {
        *abi == calls::NATIVE
            || *abi == calls::I386 && listed(Arch::ScmpArchX86)
            || *abi == calls::ARM && listed(Arch::ScmpArchArm)
    };
    calls::ALL.iter().copied().filter(named).map(part).collect()
}

fn by_number(abi: Abi, all: &[(&[String], Vec<Rule>)]) -> BTreeMap<u32, Vec<Rule>> {
    let numbers: HashMap<&str, u32> = abi.calls().collect();
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for (names, these) in all {
        for number in names.iter().filter_map(|name| numbers.get(name.as_str())) {
            rules.entry(*number).or_default().extend_from_slice(these);
        }
    }
    rules
}

/// As the specification has it, all arguments of a rule must hold; as runc has it, and profiles rely on it, two tests of *one*
/// argument are alternatives.
fn rules(syscall: &LinuxSyscall) -> Result<Vec<Rule>, Error> {
    let action = action(syscall.action(), syscall.errno_ret())?;
    let arguments = syscall.args().as_deref().unwrap_or_default();
    let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let twice = conditions
        .iter()
        .enumerate()
        .any(|(at, one)| conditions[..at].iter().any(|other| other.index == one.index));
    if twice {
        return Ok(conditions.into_iter().map(|one| Rule { conditions: vec![one], action }).collect());
    }
    Ok(vec![Rule { conditions, action }])
}

fn condition(argument: &LinuxSeccompArg) -> Result<Condition, Error> {
    let value = argument.value();
    let index = u32::try_from(argument.index()).ok().filter(|index| *index < 6);
    let index = index
        .ok_or_else(|| Error::config("linux.seccomp.syscalls.args", "a system call has arguments 0 to 5"))?;
    let test = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => Test::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Test::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Test::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpEq => Test::Equal(value),
        LinuxSeccompOperator::ScmpCmpGe => Test::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Test::Greater(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            Test::Masked { mask: value, value: argument.value_two().unwrap_or(0) }
        }
    };
    Ok(Condition { index, test })
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let data = errno.unwrap_or(Errno::EPERM as u32) & 0xffff;
    match (action, errno) {
        (LinuxSeccompAction::ScmpActErrno, _) => Ok(RET_ERRNO | data),
        (LinuxSeccompAction::ScmpActTrace, _) => Ok(RET_TRACE | data),
        (other, None) => Ok(u32::from(other)),
        (other, Some(_)) => {
            Err(Error::config("linux.seccomp", format!("errnoRet means nothing for {other}: leave it out")))
        }
    }
}

fn flags(seccomp: &LinuxSeccomp, notifies: bool) -> libc::c_ulong {
    let mut all = if notifies { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    for flag in seccomp.flags().iter().flatten() {
        all |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // The call returns either a listener or the thread that could not follow: with both, an errno stands for the thread.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync if notifies => {
                libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notifies => {
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            }
            // Nobody receives anything.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        };
    }
    all
}

impl Filter {
    /// Whether somebody is asked about some calls, who needs the listener.
    pub fn notifies(&self) -> bool {
        self.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
    }

    /// Puts this process, and all that it starts, under the filter; gives the listener of one that notifies.
    ///
    /// # Errors
    /// The step: EACCES without `no_new_privs` and without `CAP_SYS_ADMIN`.
    pub fn install(&self) -> Result<Option<OwnedFd>, StepError> {
        step(
            "seccomp",
            format_args!("SECCOMP_SET_MODE_FILTER {} instructions", self.program.len()),
            "from here on the kernel asks this program at each system call; it can never be taken off",
        )
        .run(|| syscalls::seccomp(&self.program, self.flags))
    }
}

#[cfg(test)]
mod tests;
