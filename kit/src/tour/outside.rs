//! What the host's /proc says of a process: the outside of every cell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::judge::{Host, Outside};
use crate::mountinfo;

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

/// The host, as this process stands in it.
pub(crate) fn host() -> Host {
    Host {
        root: identity(Path::new("/")),
        hostname: nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        namespaces: namespaces(Path::new("/proc/self")),
        mounts: mounts(Path::new("/proc/self")),
        addresses: addresses(Path::new("/proc/thread-self")),
    }
}

/// A process, before anything is tried in it.
pub(crate) fn process(pid: i32) -> Outside {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let bits = |name: &str| u64::from_str_radix(field(name), 16).unwrap_or_default();
    Outside {
        pid,
        inner_pid: field("NSpid:").split_whitespace().last().and_then(|pid| pid.parse().ok()).unwrap_or(pid),
        root: identity(&proc.join("root/")),
        uid_map: fs::read_to_string(proc.join("uid_map"))
            .unwrap_or_default()
            .lines()
            .filter_map(map_line)
            .collect(),
        namespaces: namespaces(&proc),
        mounts: mounts(&proc),
        bounding: bits("CapBnd:"),
        effective: bits("CapEff:"),
        seccomp: field("Seccomp:").parse().unwrap_or_default(),
        cgroups: cgroup_lines(&proc).into_iter().map(|(_, path)| path).collect(),
        addresses: addresses(&proc),
        ..Outside::default()
    }
}

/// What the kernel has counted against the limits of a process's cgroup, after they were tried.
pub(crate) fn limits(pid: i32, outside: &mut Outside) {
    let find = |controller: &str, v1: &str, v2: &str| cgroup_file(pid, controller, v1, v2);
    let number = |text: Option<String>| text.and_then(|text| text.trim().parse::<u64>().ok());
    outside.memory = number(find("memory", "memory.limit_in_bytes", "memory.max")).zip(
        number(find("memory", "memory.failcnt", ""))
            .or_else(|| find("memory", "", "memory.events").and_then(|text| value(&text, "max"))),
    );
    outside.pids = number(find("pids", "pids.max", "pids.max"))
        .zip(find("pids", "pids.events", "pids.events").and_then(|text| value(&text, "max")));
    let quota = find("cpu", "cpu.cfs_quota_us", "")
        .zip(find("cpu", "cpu.cfs_period_us", ""))
        .map(|(quota, period)| format!("{} {period}", quota.trim()));
    let quota = quota.or_else(|| find("cpu", "", "cpu.max")).and_then(|text| {
        let (quota, period) = text.trim().split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    });
    outside.cpus =
        quota.zip(find("cpu", "cpu.stat", "cpu.stat").and_then(|text| value(&text, "nr_throttled")));
    let rate = find("blkio", "blkio.throttle.write_bps_device", "")
        .and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
    outside.write_rate = rate.or_else(|| {
        let text = find("io", "", "io.max")?;
        text.split_whitespace().find_map(|word| word.strip_prefix("wbps=")?.parse().ok())
    });
}

/// The number behind a word at the beginning of a line.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// A file of the process's cgroup, in whichever hierarchy has the controller.
fn cgroup_file(pid: i32, controller: &str, v1: &str, v2: &str) -> Option<String> {
    let lines = cgroup_lines(&PathBuf::from(format!("/proc/{pid}")));
    mountinfo::read(Path::new("/proc/self")).into_iter().find_map(|mount| {
        let file = match mount.fstype.as_str() {
            "cgroup" if mount.options.iter().any(|option| option == controller) => v1,
            "cgroup2" => v2,
            _ => return None,
        };
        let own = |names: &str| {
            if mount.fstype == "cgroup2" {
                names.is_empty()
            } else {
                names.split(',').any(|name| name == controller)
            }
        };
        let (_, path) = lines.iter().find(|(names, _)| own(names))?;
        let file = (!file.is_empty()).then(|| mount.target.join(path.trim_start_matches('/')).join(file))?;
        fs::read_to_string(file).ok()
    })
}

/// Controllers and path of each hierarchy.
fn cgroup_lines(proc: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(proc.join("cgroup")).unwrap_or_default();
    let line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        Some((names.to_owned(), path.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Device and inode, as the probe writes them.
fn identity(path: &Path) -> String {
    fs::metadata(path).map(|data| format!("{}:{}", data.dev(), data.ino())).unwrap_or_default()
}

fn namespaces(proc: &Path) -> BTreeMap<String, u64> {
    let inode = |file: &str| fs::metadata(proc.join("ns").join(file)).ok().map(|data| data.ino());
    NAMESPACES.iter().filter_map(|(name, file)| Some(((*name).to_owned(), inode(file)?))).collect()
}

fn mounts(proc: &Path) -> BTreeSet<u64> {
    let text = fs::read_to_string(proc.join("mountinfo")).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

/// The IPv4 addresses of a network namespace without loopback's, from its routing table.
fn addresses(proc: &Path) -> BTreeSet<Ipv4Addr> {
    let text = fs::read_to_string(proc.join("net/fib_trie")).unwrap_or_default();
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last.filter(|address| !address.is_loopback()));
        }
    }
    found
}

fn map_line(line: &str) -> Option<[u32; 3]> {
    let numbers: Vec<u32> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    numbers.try_into().ok()
}
