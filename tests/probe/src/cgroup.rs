//! The cgroups of this process, and the limits that can be read from inside. See cgroups(7).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::mounts::Mount;

/// What is read, in version 2's names and in version 1's.
const FILES: [&str; 17] = [
    "memory.max",
    "memory.swap.max",
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus",
    "pids.max",
    "io.max",
    "cgroup.freeze",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.shares",
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "freezer.state",
    "pids.current",
];

/// One line of `/proc/self/cgroup`.
#[derive(Serialize)]
pub(crate) struct Line {
    hierarchy: u32,
    /// Empty on version 2.
    controllers: Vec<String>,
    path: String,
}

pub(crate) fn read() -> Option<Vec<Line>> {
    Some(fs::read_to_string("/proc/self/cgroup").ok()?.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Line> {
    let mut parts = line.splitn(3, ':');
    Some(Line {
        hierarchy: parts.next()?.parse().ok()?,
        controllers: parts.next()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        path: parts.next()?.to_owned(),
    })
}

/// Reads the control files of this process's cgroup through every cgroup mount that shows it.
pub(crate) fn limits(mounts: &[Mount], lines: &[Line]) -> BTreeMap<&'static str, String> {
    let mut limits = BTreeMap::new();
    for mount in mounts.iter().filter(|mount| mount.fstype.starts_with("cgroup")) {
        let line = lines.iter().find(|line| match mount.fstype.as_str() {
            "cgroup2" => line.hierarchy == 0,
            _ => line.controllers.iter().any(|name| mount.super_options.contains(name)),
        });
        // A mount shows a part of the hierarchy; a cgroup outside that part cannot be looked up.
        let Some(below) = line.and_then(|line| Path::new(&line.path).strip_prefix(&mount.root).ok()) else {
            continue;
        };
        let directory = Path::new(&mount.target).join(below);
        for file in FILES {
            if let Ok(text) = fs::read_to_string(directory.join(file)) {
                limits.insert(file, text.trim().to_owned());
            }
        }
    }
    limits
}
