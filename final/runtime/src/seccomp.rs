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
#[cfg(test)]
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
    let program = bpf::program(&parts(seccomp, &rules, default), RET_ERRNO | Errno::ENOSYS as u32);
    if program.len() > 4096 {
        return Err(Error::config(
            "linux.seccomp",
            "the kernel takes no filter of more than 4096 instructions",
        ));
    }
    Ok(Filter { program, flags: flags(seccomp, notifies) })
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
            (63, RET_ALLOW),
            (64, EPERM),
            // The kernel would take these for 38.
            (0x1_0000_0026, EPERM),
            (0x8000_0000_0000_0026, EPERM),
        ] {
            assert_eq!(ask(&filter, calls::NATIVE, "socket", family), answer, "family {family}");
        }
        for abi in calls::ALL.iter().filter(|abi| abi.calls().any(|(name, _)| name == "socketcall")) {
            assert_eq!(ask(&filter, *abi, "socketcall", 1), ENOSYS);
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

    /// The facts are Docker's list of 2025, told the other way round.
    #[test]
    fn each_capability_brings_what_the_kernel_asks_it_for() {
        let facts: [(Capability, &[&str]); 13] = [
            (Capability::Bpf, &["bpf"]),
            (Capability::DacReadSearch, &["open_by_handle_at"]),
            (Capability::Perfmon, &["perf_event_open"]),
            (Capability::SysBoot, &["reboot"]),
            (Capability::SysChroot, &["chroot"]),
            (Capability::SysModule, &["init_module", "finit_module", "delete_module"]),
            (Capability::SysNice, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
            (Capability::SysPacct, &["acct"]),
            (Capability::SysPtrace, &["kcmp", "pidfd_getfd", "process_madvise"]),
            (Capability::SysTime, &["settimeofday", "clock_settime"]),
            (Capability::SysTtyConfig, &["vhangup"]),
            (Capability::Syslog, &["syslog"]),
            (
                Capability::SysAdmin,
                &[
                    "fanotify_init",
                    "fsconfig",
                    "fsmount",
                    "fsopen",
                    "fspick",
                    "lsm_get_self_attr",
                    "lsm_list_modules",
                    "lsm_set_self_attr",
                    "mount",
                    "mount_setattr",
                    "move_mount",
                    "open_tree",
                    "quotactl",
                    "quotactl_fd",
                    "setdomainname",
                    "sethostname",
                    "setns",
                    "umount2",
                    "unshare",
                ],
            ),
        ];
        let without = default(&[]);
        for (capability, names) in facts {
            let with = default(&[capability]);
            for name in names {
                assert_eq!(ask(&without, calls::NATIVE, name, 0), EPERM, "{name} without");
                assert_eq!(ask(&with, calls::NATIVE, name, 0), RET_ALLOW, "{name} with {capability}");
            }
            let more = calls::NATIVE.calls().filter(|(name, _)| {
                ask(&with, calls::NATIVE, name, 0) != ask(&without, calls::NATIVE, name, 0)
            });
            let more: Vec<_> = more.map(|(name, _)| name).collect();
            assert!(
                capability == Capability::SysAdmin || more.len() == names.len(),
                "{capability}: {more:?}"
            );
        }
    }

    #[test]
    fn two_tests_of_one_argument_are_alternatives() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["dup","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":9,
            "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#;
        let filter = compile(&serde_json::from_str(json).unwrap()).unwrap();
        let answers = [0, 1, 2, 3].map(|value| ask(&filter, calls::NATIVE, "dup", value));
        assert_eq!(answers, [RET_ALLOW, RET_ERRNO | 9, RET_ERRNO | 9, RET_ALLOW]);
    }

    fn compiled(json: &str) -> Result<Filter, Error> {
        compile(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn every_action_is_the_kernels() {
        for (action, errno, expected) in [
            ("KILL", "", 0),
            ("KILL_THREAD", "", 0),
            ("KILL_PROCESS", "", 0x8000_0000),
            ("TRAP", "", 0x0003_0000),
            ("ERRNO", "", EPERM),
            ("ERRNO", r#","errnoRet":13"#, RET_ERRNO | 13),
            ("TRACE", r#","errnoRet":7"#, RET_TRACE | 7),
            ("LOG", "", 0x7ffc_0000),
            ("NOTIFY", "", RET_NOTIFY),
        ] {
            let filter = compiled(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_{action}"{errno}}}]}}"#
            ))
            .unwrap();
            assert_eq!(ask(&filter, calls::X86_64, "mkdir", 0), expected, "{action}");
            assert_eq!(filter.notifies(), action == "NOTIFY");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for json in [
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["sendmsg"],"action":"SCMP_ACT_NOTIFY"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_TRAP","errnoRet":1}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_TRAP","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
        ] {
            compiled(json).unwrap_err();
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn no_convention_leads_around_the_rules() {
        let json = |archs: &str| {
            format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":[{archs}],"syscalls":[{{"names":["mkdir","ioctl"],"action":"SCMP_ACT_ERRNO"}}]}}"#
            )
        };
        let all = compiled(&json(r#""SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_MIPS""#))
            .unwrap();
        let x32 = |filter: &Filter, number| {
            bpf::evaluate(&filter.program, calls::X32.audit, calls::X32_BIT | number, [0; 6])
        };
        assert_eq!((x32(&all, 83), x32(&all, 514), x32(&all, 0)), (EPERM, EPERM, RET_ALLOW));
        assert_eq!(ask(&all, calls::I386, "mkdir", 0), EPERM);
        let native = compiled(&json(r#""SCMP_ARCH_X86_64""#)).unwrap();
        assert_eq!((x32(&native, 83), x32(&native, 0)), (ENOSYS, ENOSYS));
        assert_eq!(ask(&native, calls::I386, "read", 0), ENOSYS);
        assert_eq!(ask(&native, calls::X86_64, "read", 0), RET_ALLOW);
    }

    #[test]
    fn flags_are_the_kernels_and_go_together() {
        let filter = |action: &str| {
            compiled(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_{action}"}}],
                "flags":["SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}}"#
            ))
            .unwrap()
            .flags
        };
        assert_eq!((filter("LOG"), filter("NOTIFY")), (0b111, 0b11_1111));
    }

    #[test]
    fn the_program_is_small() {
        assert!(default(&[]).program.len() < 600, "{}", default(&[]).program.len());
    }
}
