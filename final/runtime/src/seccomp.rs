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
//! In reading order: [`profile`] (what is allowed by default), [`compile`], `bpf` (the instructions), [`calls`] (the numbers).
//! Not covered yet: `SCMP_ACT_NOTIFY` and its listener, 32-bit ARM, x32.
//!
//! See seccomp(2); runtime-spec: config-linux.md.

mod bpf;
pub mod calls;
pub mod profile;

use std::collections::BTreeMap;

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
/// [`Error::Config`] for what is not covered, or is no filter.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter, Error> {
    let errno = seccomp.default_errno_ret();
    let default = action(seccomp.default_action(), errno)?;
    // A default that refuses says "not permitted" of calls that it knows; a call that is too new to be known is not there.
    let refuses = default & 0xffff_0000 == RET_ERRNO;
    let unknown = if refuses { RET_ERRNO | Errno::ENOSYS as u32 } else { default };
    let mut decisions = Vec::new();
    for abi in abis(seccomp.architectures().as_deref()) {
        let numbers: BTreeMap<&str, u32> = abi.calls().collect();
        let newest = numbers.values().copied().max().unwrap_or(0);
        let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
        for syscall in seccomp.syscalls().iter().flatten() {
            let these = self::rules(syscall)?;
            for number in syscall.names().iter().filter_map(|name| numbers.get(name.as_str())) {
                rules.entry(*number).or_default().extend_from_slice(&these);
            }
        }
        decisions.push((abi.audit, Decisions { rules, default, newest, unknown }));
    }
    let foreign = if default == RET_ALLOW { default } else { RET_ERRNO | Errno::ENOSYS as u32 };
    let program = bpf::program(&decisions, foreign);
    if program.len() > 4096 {
        return Err(Error::config(
            "linux.seccomp",
            "the kernel takes no filter of more than 4096 instructions",
        ));
    }
    Ok(Filter { program, flags: flags(seccomp) })
}

/// The calling conventions that the configuration names and this machine has; always the native one.
fn abis(architectures: Option<&[Arch]>) -> Vec<Abi> {
    let named = |abi: &Abi| {
        let arch = match *abi {
            calls::I386 => Arch::ScmpArchX86,
            _ => Arch::ScmpArchNative,
        };
        *abi == calls::NATIVE || architectures.is_some_and(|list| list.contains(&arch))
    };
    calls::ALL.iter().copied().filter(named).collect()
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
    match action {
        LinuxSeccompAction::ScmpActErrno => Ok(RET_ERRNO | data),
        LinuxSeccompAction::ScmpActTrace => Ok(0x7ff0_0000 | data),
        LinuxSeccompAction::ScmpActNotify => {
            Err(Error::config("linux.seccomp", "SCMP_ACT_NOTIFY is not implemented"))
        }
        other => Ok(u32::from(other)),
    }
}

fn flags(seccomp: &LinuxSeccomp) -> libc::c_ulong {
    let flags = seccomp.flags().iter().flatten().map(|flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // One thread, and no listener: these two change nothing.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync
        | LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    });
    flags.fold(0, |all, flag| all | flag)
}

impl Filter {
    /// Puts this process, and all that it starts, under the filter.
    ///
    /// # Errors
    /// The step: EACCES without `no_new_privs` and without `CAP_SYS_ADMIN`.
    pub fn install(&self) -> Result<(), StepError> {
        step(
            "seccomp",
            format_args!("SECCOMP_SET_MODE_FILTER {} instructions", self.program.len()),
            "from here on the kernel asks this program at each system call; it can never be taken off",
        )
        .run(|| syscalls::seccomp(&self.program, self.flags))
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{Capabilities, Capability};

    const EPERM: u32 = RET_ERRNO | 1;
    const ENOSYS: u32 = RET_ERRNO | 38;

    fn ask(filter: &Filter, abi: Abi, name: &str, first: u64) -> u32 {
        let (_, number) =
            abi.calls().find(|&(call, _)| call == name).unwrap_or_else(|| panic!("no call {name}"));
        bpf::evaluate(&filter.program, abi.audit, number, [first, 0, 0, 0, 0, 0])
    }

    fn default(capabilities: &[Capability]) -> Filter {
        let capabilities: Capabilities = capabilities.iter().copied().collect();
        compile(&profile::docker_default(&capabilities)).unwrap()
    }

    #[test]
    fn the_default_allows_work_and_keeps_the_machine_back() {
        let filter = default(&[]);
        for abi in calls::ALL {
            for name in [
                "read",
                "openat",
                "execve",
                "ptrace",
                "mknodat",
                "capset",
                "setresuid",
                "prctl",
                "close_range",
            ] {
                assert_eq!(ask(&filter, *abi, name, 0), RET_ALLOW, "{name}");
            }
            for name in [
                "keyctl",
                "mount",
                "unshare",
                "setns",
                "reboot",
                "bpf",
                "kexec_load",
                "userfaultfd",
                "chroot",
            ] {
                assert_eq!(ask(&filter, *abi, name, 0), EPERM, "{name}");
            }
            assert_eq!(ask(&filter, *abi, "clone3", 0), ENOSYS);
            assert_eq!(bpf::evaluate(&filter.program, abi.audit, 470, [0; 6]), ENOSYS);
            // x32: the same convention with a bit set in the number.
            assert_eq!(bpf::evaluate(&filter.program, abi.audit, 0x4000_0000, [0; 6]), ENOSYS);
        }
        assert_eq!(bpf::evaluate(&filter.program, 0x1234, 0, [0; 6]), ENOSYS);
    }

    #[test]
    fn clone_may_make_threads_and_processes_but_no_namespaces() {
        let filter = default(&[]);
        let thread = 0x003d_0f00;
        assert_eq!(ask(&filter, calls::NATIVE, "clone", thread), RET_ALLOW);
        for flag in [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWCGROUP,
        ] {
            let flag = u64::try_from(flag).unwrap();
            assert_eq!(ask(&filter, calls::NATIVE, "clone", thread | flag), EPERM, "{flag:#x}");
        }
    }

    #[test]
    fn arguments_decide_on_personality_and_socket() {
        let filter = default(&[]);
        for (value, answer) in
            [(0, RET_ALLOW), (0xffff_ffff, RET_ALLOW), (0x0008, RET_ALLOW), (0x004_0000, EPERM)]
        {
            assert_eq!(ask(&filter, calls::NATIVE, "personality", value), answer, "{value:#x}");
        }
        for (family, answer) in [
            (1, RET_ALLOW),
            (2, RET_ALLOW),
            (16, RET_ALLOW),
            (38, EPERM),
            (39, RET_ALLOW),
            (40, EPERM),
            (44, RET_ALLOW),
        ] {
            assert_eq!(ask(&filter, calls::NATIVE, "socket", family), answer, "family {family}");
        }
    }

    #[test]
    fn a_capability_brings_its_calls_along() {
        let filter = default(&[Capability::SysAdmin, Capability::SysTime]);
        for name in ["mount", "unshare", "clone3", "bpf", "syslog", "clock_settime"] {
            assert_eq!(ask(&filter, calls::NATIVE, name, 0), RET_ALLOW, "{name}");
        }
        assert_eq!(ask(&filter, calls::NATIVE, "keyctl", 0), EPERM);
        assert_eq!(ask(&filter, calls::NATIVE, "chroot", 0), EPERM);
        assert_eq!(ask(&default(&[Capability::Syslog]), calls::NATIVE, "syslog", 0), RET_ALLOW);
    }

    #[test]
    fn two_tests_of_one_argument_are_alternatives() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["dup","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":9,
            "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#;
        let filter = compile(&serde_json::from_str(json).unwrap()).unwrap();
        let answers = [0, 1, 2, 3].map(|value| ask(&filter, calls::NATIVE, "dup", value));
        assert_eq!(answers, [RET_ALLOW, RET_ERRNO | 9, RET_ERRNO | 9, RET_ALLOW]);
    }

    #[test]
    fn the_program_is_small() {
        assert!(default(&[]).program.len() < 500, "{}", default(&[]).program.len());
    }
}
