//! What the compiled programs answer, asked through the kernel's machine in small.

use super::*;
use oci_spec::runtime::{Capabilities, Capability};

const EPERM: u32 = RET_ERRNO | 1;
const ENOSYS: u32 = RET_ERRNO | 38;

fn ask(filter: &Filter, abi: Abi, name: &str, first: u64) -> u32 {
    let (_, number) = abi.calls().find(|&(call, _)| call == name).unwrap_or_else(|| panic!("no call {name}"));
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
        for name in
            ["read", "openat", "execve", "ptrace", "mknodat", "capset", "setresuid", "prctl", "close_range"]
        {
            assert_eq!(ask(&filter, *abi, name, 0), RET_ALLOW, "{name}");
        }
        for name in
            ["keyctl", "mount", "unshare", "setns", "reboot", "bpf", "kexec_load", "userfaultfd", "chroot"]
        {
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
        let more = calls::NATIVE
            .calls()
            .filter(|(name, _)| ask(&with, calls::NATIVE, name, 0) != ask(&without, calls::NATIVE, name, 0));
        let more: Vec<_> = more.map(|(name, _)| name).collect();
        assert!(capability == Capability::SysAdmin || more.len() == names.len(), "{capability}: {more:?}");
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
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdirat"],"action":"SCMP_ACT_{action}"{errno}}}]}}"#
        ))
        .unwrap();
        assert_eq!(ask(&filter, calls::NATIVE, "mkdirat", 0), expected, "{action}");
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
    let all =
        compiled(&json(r#""SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_MIPS""#)).unwrap();
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

#[test]
fn a_filter_that_no_program_gets_through_is_refused() {
    let filter = |text: serde_json::Value| compile(&serde_json::from_value(text).unwrap());
    let only = |name: &str, action: &str| {
        filter(
            serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": [name], "action": action}]}),
        )
    };
    let error = filter(serde_json::json!({"defaultAction": "SCMP_ACT_KILL"})).unwrap_err().to_string();
    assert!(error.contains("execve"), "{error}");
    only("read", "SCMP_ACT_ALLOW").unwrap_err();
    only("execve", "SCMP_ACT_TRAP").unwrap_err();
    only("execve", "SCMP_ACT_LOG").unwrap();
}
