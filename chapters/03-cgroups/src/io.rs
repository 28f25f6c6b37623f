//! How fast a cgroup may read and write block devices.
//!
//! | what | version 2 (`io`) | version 1 (`blkio`) |
//! |---|---|---|
//! | bytes read a second | `io.max`: `MAJ:MIN rbps=N` | `blkio.throttle.read_bps_device`: `MAJ:MIN N` |
//! | bytes written a second | `io.max`: `wbps=N` | `blkio.throttle.write_bps_device` |
//! | reads a second | `io.max`: `riops=N` | `blkio.throttle.read_iops_device` |
//! | writes a second | `io.max`: `wiops=N` | `blkio.throttle.write_iops_device` |
//! | done so far | `io.stat`: `MAJ:MIN rbytes= wbytes= rios= wios=` | `blkio.throttle.io_service_bytes`, `io_serviced`: `MAJ:MIN Read N` |
//!
//! What the kernel requires: 1. a whole disk: a partition gives ENODEV, for the queue belongs to the disk; 2. in version 1 only
//! reads and *direct* writes are counted, because who dirtied a page is not known when it is written back; version 2 knows,
//! for `io` and `memory` are one cgroup there.
//!
//! See cgroups(7); kernel: cgroup-v2.rst "IO", cgroup-v1/blkio-controller.rst.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Limits;
use crate::file::Setting;
use crate::hierarchy::Version;
use crate::limits::IoMax;

/// What a cgroup has done with one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoStats {
    /// The device's major and minor number.
    pub device: (u32, u32),
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

const WHY: &str = "above this rate a request waits in the device's queue";

/// What is to be written.
pub(crate) fn settings(version: Version, limits: &Limits) -> Vec<Setting> {
    limits.io_max.iter().flat_map(|io| of_device(version, io)).collect()
}

fn of_device(version: Version, io: &IoMax) -> Vec<Setting> {
    let device = format!("{}:{}", io.major, io.minor);
    let limits = [
        ("rbps", "read_bps", io.rbps),
        ("wbps", "write_bps", io.wbps),
        ("riops", "read_iops", io.riops),
        ("wiops", "write_iops", io.wiops),
    ];
    let given = limits.iter().filter_map(|(v2, v1, value)| value.map(|value| (v2, v1, value)));
    match version {
        Version::V2 => {
            let list: String = given.map(|(key, _, value)| format!(" {key}={value}")).collect();
            vec![Setting::new("io.max", &format!("{device}{list}"), "--io-max", WHY)]
        }
        Version::V1 => given
            .map(|(_, name, value)| {
                let file = format!("blkio.throttle.{name}_device");
                Setting::new(file, &format!("{device} {value}"), "--io-max", WHY)
            })
            .collect(),
    }
}

/// Reads the state back, a device an entry.
pub(crate) fn stats(version: Version, dir: &Path) -> Vec<IoStats> {
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    match version {
        Version::V2 => parse_v2(&read("io.stat")),
        Version::V1 => {
            parse_v1(&read("blkio.throttle.io_service_bytes"), &read("blkio.throttle.io_serviced"))
        }
    }
}

fn parse_v2(text: &str) -> Vec<IoStats> {
    let line = |line: &str| {
        let (device, values) = line.split_once(' ')?;
        let mut stats = IoStats { device: device_of(device)?, ..IoStats::default() };
        for (key, value) in values.split(' ').filter_map(|value| value.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => stats.read_bytes = value,
                "wbytes" => stats.write_bytes = value,
                "rios" => stats.reads = value,
                "wios" => stats.writes = value,
                _ => {}
            }
        }
        Some(stats)
    };
    text.lines().filter_map(line).collect()
}

fn parse_v1(bytes: &str, counts: &str) -> Vec<IoStats> {
    let mut devices: BTreeMap<(u32, u32), IoStats> = BTreeMap::new();
    for (text, in_bytes) in [(bytes, true), (counts, false)] {
        for line in text.lines() {
            let mut words = line.split(' ');
            let (device, what, value) = (words.next().and_then(device_of), words.next(), words.next());
            let (Some(device), Some(what), Some(value)) = (device, what, value) else { continue };
            let stats = devices.entry(device).or_insert(IoStats { device, ..IoStats::default() });
            let value = value.parse().unwrap_or(0);
            match (what, in_bytes) {
                ("Read", true) => stats.read_bytes = value,
                ("Write", true) => stats.write_bytes = value,
                ("Read", false) => stats.reads = value,
                ("Write", false) => stats.writes = value,
                _ => {}
            }
        }
    }
    devices.into_values().collect()
}

fn device_of(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_version_2_and_a_file_each_in_version_1() {
        let io = IoMax { major: 8, minor: 16, rbps: Some(1024), wiops: Some(5), ..IoMax::default() };
        let limits = Limits { io_max: vec![io], ..Limits::default() };
        let plan = |version| -> Vec<_> {
            settings(version, &limits).into_iter().map(|setting| (setting.file, setting.value)).collect()
        };
        assert_eq!(plan(Version::V2), [("io.max".to_owned(), "8:16 rbps=1024 wiops=5".to_owned())]);
        assert_eq!(
            plan(Version::V1),
            [
                ("blkio.throttle.read_bps_device".to_owned(), "8:16 1024".to_owned()),
                ("blkio.throttle.write_iops_device".to_owned(), "8:16 5".to_owned())
            ]
        );
    }

    #[test]
    fn both_versions_tell_the_same() {
        let v2 = parse_v2("254:0 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=0 dios=0\n");
        let v1 = parse_v1(
            "254:0 Read 4096\n254:0 Write 1\n254:0 Sync 0\nTotal 4097\n",
            "254:0 Read 2\n254:0 Write 3\nTotal 5\n",
        );
        assert_eq!(v1, v2);
        assert_eq!(v1, [IoStats { device: (254, 0), read_bytes: 4096, write_bytes: 1, reads: 2, writes: 3 }]);
    }
}
