//! What a process can see from where it stands.
//!
//! See proc(5), namespaces(7), user_namespaces(7), capabilities(7), cgroups(7).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use caps::CapSet;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{getegid, geteuid, getgroups, getpid, getppid};
use serde::Serialize;

use crate::descriptors::Descriptor;
use crate::{cgroup, mounts, network, processes};

/// The namespaces by the field's names, beside their names in `/proc/PID/ns`.
const NAMESPACES: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

/// The whole report; a field is `null` where the container shows no `/proc` to read it from.
#[derive(Serialize)]
pub(crate) struct Report {
    pid: i32,
    parent: i32,
    /// Every process that can be seen, and how it was found: `proc`, or `kill` (a signal 0 to each number).
    pids: Vec<i32>,
    pids_by: &'static str,
    hostname: String,
    domainname: String,
    kernel: String,
    /// `/` as `device:inode`.
    root: Option<String>,
    working_directory: Option<String>,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    uid_map: Option<Vec<[u32; 3]>>,
    gid_map: Option<Vec<[u32; 3]>>,
    namespaces: Option<BTreeMap<&'static str, u64>>,
    mounts: Option<Vec<mounts::Mount>>,
    capabilities: BTreeMap<&'static str, Vec<String>>,
    seccomp: Option<Seccomp>,
    no_new_privs: Option<bool>,
    cgroups: Option<Vec<cgroup::Line>>,
    /// The control files that can be read, and what stands in them.
    limits: BTreeMap<&'static str, String>,
    interfaces: Vec<network::Interface>,
    routes: Option<Vec<network::Route>>,
    /// Names only: values may be secrets.
    environment: Vec<String>,
    descriptors: Vec<Descriptor>,
    /// Seconds since the machine started, as CLOCK_BOOTTIME tells them in this time namespace.
    boot_time: Option<f64>,
    /// System V shared memory: the keys that can be seen.
    ipc_keys: Option<Vec<i64>>,
}

#[derive(Serialize)]
struct Seccomp {
    /// 0 off, 1 strict, 2 filter.
    mode: u32,
    /// How many filters stand one above the other.
    filters: Option<u32>,
}

impl Report {
    pub(crate) fn read(descriptors: Vec<Descriptor>) -> Self {
        let uname = nix::sys::utsname::uname().ok();
        let field = |get: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname.as_ref().map(|uname| get(uname).to_string_lossy().into_owned()).unwrap_or_default()
        };
        let (pids, pids_by) = processes::seen();
        let mounts = mounts::read();
        let cgroups = cgroup::read();
        let limits = cgroup::limits(mounts.as_deref().unwrap_or(&[]), cgroups.as_deref().unwrap_or(&[]));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |name| processes::field(&status, name).and_then(|value| value.parse::<u32>().ok());
        Self {
            pid: getpid().as_raw(),
            parent: getppid().as_raw(),
            pids,
            pids_by,
            hostname: field(|uname| uname.nodename()),
            domainname: field(|uname| uname.domainname()),
            kernel: field(|uname| uname.release()),
            root: identity("/"),
            working_directory: std::env::current_dir().ok().map(|path| path.display().to_string()),
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            groups: getgroups().unwrap_or_default().into_iter().map(nix::unistd::Gid::as_raw).collect(),
            uid_map: id_map("/proc/self/uid_map"),
            gid_map: id_map("/proc/self/gid_map"),
            namespaces: namespaces(),
            mounts,
            capabilities: capabilities(),
            seccomp: number("Seccomp").map(|mode| Seccomp { mode, filters: number("Seccomp_filters") }),
            no_new_privs: nix::sys::prctl::get_no_new_privs().ok(),
            cgroups,
            limits,
            interfaces: network::interfaces(),
            routes: network::routes(),
            environment: std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect(),
            descriptors,
            boot_time: clock_gettime(ClockId::CLOCK_BOOTTIME)
                .ok()
                .map(|time| std::time::Duration::from(time).as_secs_f64()),
            ipc_keys: ipc_keys(),
        }
    }
}

/// A file's device and inode: the same in every mount namespace, unlike its path.
pub(crate) fn identity(path: &str) -> Option<String> {
    fs::metadata(path).ok().map(|data| format!("{}:{}", data.dev(), data.ino()))
}

fn namespaces() -> Option<BTreeMap<&'static str, u64>> {
    fs::metadata("/proc/self/ns").ok()?;
    let inode = |file: &str| fs::metadata(format!("/proc/self/ns/{file}")).ok().map(|data| data.ino());
    Some(NAMESPACES.iter().filter_map(|&(name, file)| Some((name, inode(file)?))).collect())
}

/// Inside, outside, count: one line a range.
fn id_map(path: &str) -> Option<Vec<[u32; 3]>> {
    let text = fs::read_to_string(path).ok()?;
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
        Some([numbers.next()?, numbers.next()?, numbers.next()?])
    };
    Some(text.lines().filter_map(range).collect())
}

fn capabilities() -> BTreeMap<&'static str, Vec<String>> {
    let sets = [
        ("effective", CapSet::Effective),
        ("permitted", CapSet::Permitted),
        ("inheritable", CapSet::Inheritable),
        ("bounding", CapSet::Bounding),
        ("ambient", CapSet::Ambient),
    ];
    let names = |set| {
        let mut names: Vec<_> =
            caps::read(None, set).unwrap_or_default().iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    sets.into_iter().map(|(name, set)| (name, names(set))).collect()
}

fn ipc_keys() -> Option<Vec<i64>> {
    let text = fs::read_to_string("/proc/sysvipc/shm").ok()?;
    Some(text.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect())
}
