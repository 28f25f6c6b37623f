//! The default filter: what Docker's default filter allows, told by what it keeps back.
//!
//! Of some four hundred system calls a container's program may make nearly all. Those that are kept back change the machine
//! (its clock, its modules, its swap), look at what no namespace separates (the kernel's keyrings, its log, memory policy), or
//! have been the way into the kernel before and are rarely needed (`userfaultfd`, `io_uring`). Some come back with the
//! capability that the kernel asks for anyway: then the filter would only stand in the way.
//!
//! It is an *allow*-list all the same: what is allowed are the calls of [`super::calls`] without these, by name, and the answer to
//! anything else is EPERM; a call newer than the table gets ENOSYS, so that a C library falls back to an older one.
//!
//! Facts: Docker's documentation "Seccomp security profiles for Docker"; capabilities(7).

use std::collections::BTreeSet;

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use super::calls;
use crate::Error;

/// Given to nobody.
const NEVER: &[&str] = &[
    // The kernel's keyrings belong to a user, not to a container.
    "add_key",
    "keyctl",
    "request_key",
    // The machine as a whole.
    "kexec_load",
    "kexec_file_load",
    "swapon",
    "swapoff",
    "pivot_root",
    "nfsservctl",
    "_sysctl",
    "sysfs",
    "ustat",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "uselib",
    // Other processes' memory.
    "migrate_pages",
    "move_pages",
    // Wide and young doors into the kernel, or means to win a race there.
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "userfaultfd",
    "uprobe",
    // Newer than Docker's list, and not in it yet.
    "open_tree_attr",
    "file_getattr",
    "file_setattr",
    // 32-bit PCs: real mode, and calls that no C library has used for decades.
    "vm86",
    "vm86old",
    "bdflush",
    "idle",
    "nice",
    "oldfstat",
    "oldlstat",
    "oldolduname",
    "oldstat",
    "olduname",
    "readdir",
    "sgetmask",
    "ssetmask",
    "sigaction",
    "signal",
    "sigpending",
    "sigsuspend",
    // Names without a call behind them.
    "afs_syscall",
    "break",
    "ftime",
    "getpmsg",
    "gtty",
    "lock",
    "mpx",
    "prof",
    "profil",
    "putpmsg",
    "security",
    "stty",
    "tuxcall",
    "ulimit",
    "vserver",
];

/// Given with any of these capabilities.
const WITH: &[(&[Capability], &[&str])] = &[
    (
        &[Capability::SysAdmin],
        &[
            "fanotify_init",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            // Mounts and namespaces.
            "mount",
            "umount",
            "umount2",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "setns",
            "unshare",
        ],
    ),
    (&[Capability::SysAdmin, Capability::Bpf], &["bpf"]),
    (&[Capability::SysAdmin, Capability::Perfmon], &["perf_event_open"]),
    (&[Capability::SysAdmin, Capability::Syslog], &["syslog"]),
    (&[Capability::DacReadSearch], &["open_by_handle_at"]),
    (&[Capability::SysBoot], &["reboot"]),
    (&[Capability::SysChroot], &["chroot"]),
    (&[Capability::SysModule], &["init_module", "finit_module", "delete_module"]),
    (&[Capability::SysNice], &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (&[Capability::SysPacct], &["acct"]),
    (&[Capability::SysPtrace], &["kcmp", "pidfd_getfd", "process_madvise"]),
    (&[Capability::SysRawio], &["iopl", "ioperm"]),
    (&[Capability::SysTime], &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    (&[Capability::SysTtyConfig], &["vhangup"]),
];

/// Judged by their arguments.
const BY_ARGUMENTS: &[&str] = &["clone", "clone3", "personality", "socket"];

/// All `CLONE_NEW*` but the time namespace's, whose bit means something else to clone(2).
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Personalities that change nothing of the security of the machine: none, Linux with 32-bit addresses and uname26, "tell me".
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];
/// The kernel's cryptography, and sockets to the hypervisor, which no network namespace separates.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// The filter for a container that has these capabilities in its bounding set.
///
/// # Errors
/// Never, as long as the builders of the oci-spec crate know their fields.
pub fn docker_default(capabilities: &Capabilities) -> Result<LinuxSeccomp, Error> {
    let mut allowed: BTreeSet<&str> =
        calls::ALL.iter().flat_map(|abi| abi.calls()).map(|(name, _)| name).collect();
    for name in NEVER.iter().chain(BY_ARGUMENTS) {
        allowed.remove(name);
    }
    for (any, names) in WITH {
        if !any.iter().any(|capability| capabilities.contains(capability)) {
            for name in *names {
                allowed.remove(name);
            }
        }
    }
    let mut rules = vec![rule(allowed.into_iter(), LinuxSeccompAction::ScmpActAllow, None, &[])?];
    let allow =
        |name, argument| rule([name].into_iter(), LinuxSeccompAction::ScmpActAllow, None, &[argument]);
    if capabilities.contains(&Capability::SysAdmin) {
        rules.push(rule(["clone", "clone3"].into_iter(), LinuxSeccompAction::ScmpActAllow, None, &[])?);
    } else {
        let no_namespace = argument(LinuxSeccompOperator::ScmpCmpMaskedEq, NEW_NAMESPACES, Some(0))?;
        rules.push(allow("clone", no_namespace)?);
        // Its flags lie behind a pointer. ENOSYS makes C libraries use clone.
        let enosys = u32::try_from(libc::ENOSYS).ok();
        rules.push(rule(["clone3"].into_iter(), LinuxSeccompAction::ScmpActErrno, enosys, &[])?);
    }
    for personality in PERSONALITIES {
        rules.push(allow("personality", argument(LinuxSeccompOperator::ScmpCmpEq, personality, None)?)?);
    }
    for (operator, family) in [
        (LinuxSeccompOperator::ScmpCmpLt, AF_ALG),
        (LinuxSeccompOperator::ScmpCmpEq, AF_ALG + 1),
        (LinuxSeccompOperator::ScmpCmpGt, AF_VSOCK),
    ] {
        rules.push(allow("socket", argument(operator, family, None)?)?);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(1u32)
        .architectures(architectures())
        .syscalls(rules)
        .build()
        .map_err(|error| Error::config("linux.seccomp", error))
}

fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "x86_64") {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86]
    } else {
        vec![Arch::ScmpArchAarch64]
    }
}

fn rule<'a>(
    names: impl Iterator<Item = &'a str>,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    arguments: &[LinuxSeccompArg],
) -> Result<LinuxSyscall, Error> {
    let mut builder =
        LinuxSyscallBuilder::default().names(names.map(str::to_owned).collect::<Vec<_>>()).action(action);
    if let Some(errno) = errno {
        builder = builder.errno_ret(errno);
    }
    if !arguments.is_empty() {
        builder = builder.args(arguments.to_vec());
    }
    builder.build().map_err(|error| Error::config("linux.seccomp.syscalls", error))
}

fn argument(op: LinuxSeccompOperator, value: u64, value_two: Option<u64>) -> Result<LinuxSeccompArg, Error> {
    let mut builder = LinuxSeccompArgBuilder::default().index(0usize).value(value).op(op);
    if let Some(value) = value_two {
        builder = builder.value_two(value);
    }
    builder.build().map_err(|error| Error::config("linux.seccomp.syscalls.args", error))
}
