//! The default filter: which calls the kernel answers inside, and how the list compares with another engine's.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test};

use super::{Bundle, ROOT};

pub(super) fn tests() -> Vec<Test> {
    const PODMAN: &[Need] = &[Need::Root, Need::Rootfs, Need::Program("podman")];
    let mut tests = vec![Test {
        name: "runtime::the_default_filter_answers",
        needs: ROOT,
        run: the_default_filter_answers,
    }];
    // What differs is told of a 64-bit PC's calls: another machine has others.
    if cfg!(target_arch = "x86_64") {
        tests.push(Test {
            name: "runtime::the_default_filter_is_as_others",
            needs: PODMAN,
            run: the_default_filter_is_as_others,
        });
    }
    tests
}

/// What the filter must say: the call with these arguments, the answer with the filter, and whether the same call without the
/// filter would have got another one (else the kernel refuses it for want of a capability, too).
struct Row {
    name: &'static str,
    number: libc::c_long,
    args: &'static str,
    answer: Option<&'static str>,
    alone: bool,
}

const fn row(
    name: &'static str,
    number: libc::c_long,
    args: &'static str,
    answer: Option<&'static str>,
    alone: bool,
) -> Row {
    Row { name, number, args, answer, alone }
}

const DENIED: Option<&str> = Some("EPERM");
const ABSENT: Option<&str> = Some("ENOSYS");

const ROWS: &[Row] = &[
    row("getpid", libc::SYS_getpid, "", None, false),
    row("statx", libc::SYS_statx, "-1 0 0 0 0", Some("EFAULT"), false),
    row("openat2", libc::SYS_openat2, "-1 0 0 0", Some("EINVAL"), false),
    row("close_range", libc::SYS_close_range, "2 1 0", Some("EINVAL"), false),
    row("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, "0 1 0", Some("EFAULT"), false),
    row("mknodat", libc::SYS_mknodat, "-1 0 0 0", Some("EFAULT"), false),
    row("ptrace", libc::SYS_ptrace, "0x4206 99999999 0 0", Some("ESRCH"), false),
    row("mseal", libc::SYS_mseal, "1 1 0", Some("EINVAL"), false),
    row("futex_waitv", libc::SYS_futex_waitv, "0 0 0 0 0", Some("EINVAL"), false),
    row("memfd_secret", libc::SYS_memfd_secret, "0xff", Some("EINVAL"), false),
    row("clone, with no namespace", libc::SYS_clone, "0x811 0 0 0 0", Some("EINVAL"), false),
    row("socket AF_UNIX", libc::SYS_socket, "1 1 0", None, false),
    row("socket AF_NETLINK", libc::SYS_socket, "16 3 0", None, false),
    row("personality, tell me", libc::SYS_personality, "0xffffffff", None, false),
    // The filter alone keeps these back.
    row("keyctl", libc::SYS_keyctl, "0 -3 0", DENIED, true),
    row("add_key", libc::SYS_add_key, "0 0 0 0 0", DENIED, true),
    row("request_key", libc::SYS_request_key, "0 0 0 0", DENIED, true),
    row("unshare a user namespace", libc::SYS_unshare, "0x10000000", DENIED, true),
    row("clone into a user namespace", libc::SYS_clone, "0x10000200 0 0 0 0", DENIED, true),
    row("clone3", libc::SYS_clone3, "0 0", ABSENT, true),
    row("io_uring_setup", libc::SYS_io_uring_setup, "0 0", DENIED, true),
    row("userfaultfd", libc::SYS_userfaultfd, "0xff", DENIED, true),
    row("personality, no randomised addresses", libc::SYS_personality, "0x40000", DENIED, true),
    row("socket AF_ALG", libc::SYS_socket, "38 5 0", DENIED, true),
    row("socket AF_ALG, with a bit high up", libc::SYS_socket, "0x100000026 5 0", DENIED, true),
    row("socket AF_VSOCK", libc::SYS_socket, "40 1 0", DENIED, true),
    row("kcmp", libc::SYS_kcmp, "1 1 9 0 0", DENIED, true),
    row("setns", libc::SYS_setns, "-1 0", DENIED, true),
    row("fsopen", libc::SYS_fsopen, "0 0", DENIED, false),
    row("mount", libc::SYS_mount, "0 0 0 0 0", DENIED, false),
    row("pivot_root", libc::SYS_pivot_root, "0 0", DENIED, false),
    row("bpf", libc::SYS_bpf, "0xff 0 0", DENIED, false),
    row("perf_event_open", libc::SYS_perf_event_open, "0 0 0 0 0xff", DENIED, false),
    row("open_by_handle_at", libc::SYS_open_by_handle_at, "-1 0 0", DENIED, false),
    row("init_module", libc::SYS_init_module, "0 0 0", DENIED, false),
    row("kexec_load", libc::SYS_kexec_load, "0 99 0 0", DENIED, false),
    row("swapon", libc::SYS_swapon, "0 0", DENIED, false),
    row("reboot, with no magic number", libc::SYS_reboot, "0 0 0 0", DENIED, false),
    row("syslog", libc::SYS_syslog, "99 0 0", DENIED, false),
    row("acct", libc::SYS_acct, "1", DENIED, false),
    row("settimeofday", libc::SYS_settimeofday, "1 0", DENIED, false),
    row("vhangup", libc::SYS_vhangup, "", DENIED, false),
    row("move_pages", libc::SYS_move_pages, "0 0 0 0 0 0", DENIED, true),
    row("a call that no kernel has yet", 4000, "", ABSENT, false),
];

/// Asks one container for all of the calls.
fn answers(host: &Host, edit: impl FnOnce(&mut Value)) -> super::Result<Vec<Option<String>>> {
    let bundle = Bundle::new(host, &["/kit/probe", "session"], edit)?;
    let lines: String = ROWS.iter().map(|row| format!("call {} {}\n", row.number, row.args)).collect();
    let output = bundle.cmd(&["run", "c"]).input(lines).run()?.success()?;
    let answers: Vec<_> = output
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|answer| answer["errno"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(answers.len(), ROWS.len(), "{output}");
    Ok(answers)
}

fn the_default_filter_answers(host: &Host) -> Outcome {
    let filtered = answers(host, |_| {})?;
    let unfiltered = answers(host, |config| config["linux"]["seccomp"] = json!(null))?;
    let mut wrong = Vec::new();
    for ((row, with), without) in ROWS.iter().zip(filtered).zip(unfiltered) {
        // Without an answer of its own there is none to compare: the kernel is older than the call.
        let unknown = without.as_deref() == ABSENT && with == without;
        if !unknown && with.as_deref() != row.answer || row.alone && without.as_deref() == row.answer {
            wrong.push(format!("{}: {with:?} with the filter, {without:?} without", row.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

/// In our list and not in that of Debian's Podman: newer than it, but for two which it refuses by name and Docker does not.
const MORE: &[&str] = &[
    "cachestat",
    "fchmodat2",
    "futex_requeue",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "getxattrat",
    "io_pgetevents",
    "io_pgetevents_time64",
    "listmount",
    "listxattrat",
    "map_shadow_stack",
    "mseal",
    "removexattrat",
    "setxattrat",
    "statmount",
    "uretprobe",
    "vmsplice",
];

/// In its list and not in ours.
const LESS: &[(&str, &[&str])] = &[
    ("by their arguments alone, as in Docker's", &["clone", "clone3", "socket"]),
    (
        "with CAP_SYS_ADMIN alone, as in Docker's: Podman lets a container make user namespaces",
        &[
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "setns",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (
        "with other capabilities alone, as in Docker's",
        &["get_mempolicy", "mbind", "pidfd_getfd", "reboot", "set_mempolicy", "syslog"],
    ),
    ("in nobody's hands, as in Docker's", &["keyctl", "pivot_root"]),
    (
        "there is a newer call for each, and Docker's list has none of these",
        &["readdir", "sigaction", "signal", "sigpending", "sigsuspend"],
    ),
    ("hides its arguments, so that a filter could be passed by", &["socketcall"]),
    ("no such call on these machines", &["recv", "send", "syscall", "timerfd"]),
];

/// The other list is data of Debian's, read where it is installed: what differs must be known, and have a reason.
fn the_default_filter_is_as_others(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["true"], |_| {})?;
    let config: Value = serde_json::from_slice(&fs::read(bundle.config())?)?;
    let other: Value = serde_json::from_slice(&fs::read("/usr/share/containers/seccomp.json")?)?;
    let capabilities = &config["process"]["capabilities"]["bounding"];
    let (ours, theirs) = (allowed(&config["linux"]["seccomp"], capabilities), allowed(&other, capabilities));
    assert!(ours.len() > 300 && theirs.len() > 300, "{} and {}", ours.len(), theirs.len());
    let less: BTreeSet<&str> = LESS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    assert!(MORE.iter().all(|name| ours.contains(*name)), "ours lacks one of {MORE:?}");
    assert!(less.iter().all(|name| !ours.contains(*name)), "ours has one of {less:?}");
    // Each version of the other list has its own calls, so a difference that is gone is none to fail for.
    let known = |name: &str| MORE.contains(&name) || less.contains(name);
    let unknown: Vec<_> = ours.symmetric_difference(&theirs).filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    Ok(())
}

/// The calls that a list allows whatever their arguments, to who has these capabilities, on a 64-bit PC.
fn allowed(list: &Value, capabilities: &Value) -> BTreeSet<String> {
    let has = |name: &Value| capabilities.as_array().is_some_and(|all| all.contains(name));
    let names = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let here = |arch: &Value| ["amd64", "x86", "x32"].iter().any(|name| arch == name);
    let rules = names(&list["syscalls"]).into_iter().filter(|rule| {
        rule["action"] == "SCMP_ACT_ALLOW"
            && names(&rule["args"]).is_empty()
            && names(&rule["includes"]["caps"]).iter().all(has)
            && !names(&rule["excludes"]["caps"]).iter().any(has)
            && (names(&rule["includes"]["arches"]).is_empty()
                || names(&rule["includes"]["arches"]).iter().any(here))
            && !names(&rule["excludes"]["arches"]).iter().any(here)
    });
    rules.flat_map(|rule| names(&rule["names"])).filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
