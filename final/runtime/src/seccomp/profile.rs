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
//! Facts: Docker's documentation "Seccomp security profiles for Docker", and its discussions of calls new in Linux 6.8 to 6.13 and of
//! `AF_ALG`; capabilities(7). A test compares the list with that of Debian's Podman, and tells the differences.

use std::collections::BTreeSet;

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

use super::calls;

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
const BY_ARGUMENTS: &[&str] = &["clone", "clone3", "personality", "socket", "socketcall"];

/// All `CLONE_NEW*` but the time namespace's, whose bit means something else to clone(2).
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Personalities that change nothing of the security of the machine: none, Linux with 32-bit addresses and uname26, "tell me".
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];
/// Which families of sockets: all but 38, the kernel's cryptography (`AF_ALG`, CVE-2026-31431), and 40, sockets to the hypervisor
/// (`AF_VSOCK`), which no network namespace separates. A filter sees 64 bits and the kernel takes 32, so "greater than 40" would
/// let 38 pass with a bit set high up: above 40 there are masks, which fix all 64. There are none above 45 yet.
const FAMILIES: [(LinuxSeccompOperator, u64, u64); 6] = [
    (LinuxSeccompOperator::ScmpCmpLt, 38, 0),
    (LinuxSeccompOperator::ScmpCmpEq, 39, 0),
    (LinuxSeccompOperator::ScmpCmpEq, 41, 0),
    (LinuxSeccompOperator::ScmpCmpMaskedEq, !0x1, 42),
    (LinuxSeccompOperator::ScmpCmpMaskedEq, !0x3, 44),
    (LinuxSeccompOperator::ScmpCmpMaskedEq, !0xf, 48),
];

/// The filter for a container that has these capabilities in its bounding set.
pub fn docker_default(capabilities: &Capabilities) -> LinuxSeccomp {
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
    let allowed: Vec<_> = allowed.into_iter().collect();
    let mut rules = vec![allow(&allowed)];
    if capabilities.contains(&Capability::SysAdmin) {
        rules.push(allow(&["clone", "clone3"]));
    } else {
        rules.push(first("clone", LinuxSeccompOperator::ScmpCmpMaskedEq, NEW_NAMESPACES, 0));
        // Its flags lie behind a pointer.
        rules.push(absent("clone3"));
    }
    for personality in PERSONALITIES {
        rules.push(first("personality", LinuxSeccompOperator::ScmpCmpEq, personality, 0));
    }
    for (op, value, value_two) in FAMILIES {
        rules.push(first("socket", op, value, value_two));
    }
    // 32-bit PCs: the one call that hides all of a socket's arguments behind a pointer.
    rules.push(absent("socketcall"));
    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(u32::try_from(libc::EPERM).ok())
        .set_architectures(Some(architectures()))
        .set_syscalls(Some(rules));
    seccomp
}

fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "x86_64") {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86]
    } else {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    }
}

/// A rule that allows these calls.
fn allow(names: &[&str]) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect())
        .set_action(LinuxSeccompAction::ScmpActAllow);
    rule
}

/// A rule that allows this call where its first argument stands this test. (`MaskedEq`: the mask, and what is left under it.)
fn first(name: &str, op: LinuxSeccompOperator, value: u64, value_two: u64) -> LinuxSyscall {
    let argument =
        LinuxSeccompArgBuilder::default().index(0usize).value(value).value_two(value_two).op(op).build();
    let mut rule = allow(&[name]);
    // The builder has a default for each field, so it cannot fail.
    rule.set_args(Some(vec![argument.unwrap_or_default()]));
    rule
}

/// A rule that answers that there is no such call: C libraries then use an older one, which can be judged.
fn absent(name: &str) -> LinuxSyscall {
    let mut rule = allow(&[name]);
    rule.set_action(LinuxSeccompAction::ScmpActErrno).set_errno_ret(u32::try_from(libc::ENOSYS).ok());
    rule
}
