//! Limits and devices beyond memory, processors and processes, as Docker's flags ask for them.
//!
//! What is kept here was read and checked; how it becomes the runtime's configuration is in `shim/limits.rs`. A device is kept by its
//! path: its numbers are looked up at each start, for the host may give it others when it boots anew.

use std::path::{Path, PathBuf};

use cgroups::size;
use oci_spec::runtime::PosixRlimitType;
use serde::{Deserialize, Serialize};

use crate::Error;

/// All of them; none of the fields must be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes that the container keeps when memory is short (`--memory-reservation`).
    pub memory_reservation: Option<u64>,
    /// Bytes of memory and swap together; -1 for no limit (`--memory-swap`).
    pub memory_swap: Option<i64>,
    /// 0 to 100, version 1 alone (`--memory-swappiness`).
    pub memory_swappiness: Option<u64>,
    /// Whoever is at the limit waits and is not killed, version 1 alone (`--oom-kill-disable`).
    pub oom_kill_disable: bool,
    /// -1000 to 1000 (`--oom-score-adj`).
    pub oom_score_adj: Option<i32>,
    /// Relative weight, 1024 for the usual one (`--cpu-shares`).
    pub cpu_shares: Option<u64>,
    /// Microseconds of each period (`--cpu-quota`).
    pub cpu_quota: Option<i64>,
    /// Microseconds (`--cpu-period`).
    pub cpu_period: Option<u64>,
    /// Processors by number (`--cpuset-cpus`).
    pub cpuset_cpus: Option<String>,
    /// Memory nodes by number (`--cpuset-mems`).
    pub cpuset_mems: Option<String>,
    /// 10 to 1000 (`--blkio-weight`).
    pub blkio_weight: Option<u16>,
    /// Bytes a second that are read from a device (`--device-read-bps`).
    pub device_read_bps: Vec<Throttle>,
    /// Bytes a second that are written (`--device-write-bps`).
    pub device_write_bps: Vec<Throttle>,
    /// Reads a second (`--device-read-iops`).
    pub device_read_iops: Vec<Throttle>,
    /// Writes a second (`--device-write-iops`).
    pub device_write_iops: Vec<Throttle>,
    /// Limits of each process, setrlimit(2) (`--ulimit`).
    pub ulimits: Vec<Ulimit>,
    /// Devices of the host's (`--device`).
    pub devices: Vec<Device>,
    /// The cgroup that the container's is made in, in place of `/sampan` (`--cgroup-parent`).
    pub cgroup_parent: Option<PathBuf>,
}

/// The most that goes through a device each second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// The device, a whole disk.
    pub path: PathBuf,
    /// Bytes or operations.
    pub rate: u64,
}

/// A limit of each process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Which.
    pub kind: PosixRlimitType,
    /// What is in force.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// A device of the host's in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// On the host.
    pub host: PathBuf,
    /// In the container.
    pub container: PathBuf,
    /// Of `r`, `w` and `m`: read, write, make.
    pub access: String,
}

impl Throttle {
    /// Reads `PATH:RATE`, a rate of bytes as `1m`.
    ///
    /// # Errors
    /// A sentence that says what is wrong, for the command line's message.
    pub fn bytes(text: &str) -> Result<Self, String> {
        Self::parse(text, size::parse)
    }

    /// Reads `PATH:RATE`, a number of operations.
    ///
    /// # Errors
    /// As for [`Throttle::bytes`].
    pub fn operations(text: &str) -> Result<Self, String> {
        Self::parse(text, |rate| rate.parse().map_err(|_| format!("{rate:?} is no number of operations")))
    }

    fn parse(text: &str, rate: impl Fn(&str) -> Result<u64, String>) -> Result<Self, String> {
        match text.rsplit_once(':') {
            Some((path, number)) if path.starts_with('/') => {
                Ok(Self { path: path.into(), rate: rate(number)? })
            }
            _ => Err("write a device and a rate, as in /dev/sda:1m".to_owned()),
        }
    }
}

impl Ulimit {
    /// Reads `NAME=SOFT[:HARD]`; -1 is no limit.
    ///
    /// # Errors
    /// A sentence that says what is wrong, for the command line's message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?}: write a name and one or two numbers, as in nofile=1024:2048");
        let (name, numbers) = text.split_once('=').ok_or_else(form)?;
        let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
        let kind = kind.parse().map_err(|_| format!("{name:?} is no limit of setrlimit(2)"))?;
        let number = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            text => text.parse().map_err(|_| form()),
        };
        let (soft, hard) = numbers.split_once(':').unwrap_or((numbers, numbers));
        let (soft, hard) = (number(soft)?, number(hard)?);
        if soft > hard {
            return Err(format!("{text:?}: the first number is above the second, which it may not pass"));
        }
        Ok(Self { kind, soft, hard })
    }
}

impl Device {
    /// Reads `HOST[:CONTAINER[:ACCESS]]`.
    ///
    /// # Errors
    /// A sentence that says what is wrong, for the command line's message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_access = |text: &str| !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter));
        let parts: Vec<_> = text.split(':').collect();
        let (host, container, access) = match parts[..] {
            [host] => (host, host, "rwm"),
            [host, access] if is_access(access) => (host, host, access),
            [host, container] => (host, container, "rwm"),
            [host, container, access] if is_access(access) => (host, container, access),
            _ => return Err("write /dev/HOST[:/dev/CONTAINER[:rwm]]".to_owned()),
        };
        let (host, container) = (Path::new(host), Path::new(container));
        if !host.is_absolute() || !container.is_absolute() {
            return Err("write absolute paths, as in /dev/fuse".to_owned());
        }
        Ok(Self { host: host.to_owned(), container: container.to_owned(), access: access.to_owned() })
    }
}

impl Limits {
    /// What does not go together, or with the two that have short flags.
    pub(crate) fn check(&self, memory: Option<u64>, cpus: Option<f64>) -> Result<(), Error> {
        let swap = self.memory_swap.filter(|swap| *swap > 0);
        let wrong = if cpus.is_some() && (self.cpu_quota.is_some() || self.cpu_period.is_some()) {
            "--cpus is a quota and a period: leave --cpu-quota and --cpu-period out"
        } else if swap.is_some() && memory.is_none() {
            "--memory-swap counts memory and swap together: -m must be given too"
        } else if swap.and_then(|swap| u64::try_from(swap).ok()).is_some_and(|swap| Some(swap) < memory) {
            "--memory-swap counts memory and swap together: it is at least what -m is"
        } else if self.memory_reservation.is_some_and(|kept| memory.is_some_and(|memory| kept > memory)) {
            "--memory-reservation is at most what -m is"
        } else if self.memory_swappiness.is_some_and(|percent| percent > 100) {
            "--memory-swappiness goes from 0 to 100"
        } else if self.cpu_period.is_some_and(|period| period != 0 && !(1000..=1_000_000).contains(&period)) {
            "--cpu-period goes from 1000 to 1000000 microseconds"
        } else if self.cpu_quota.is_some_and(|quota| (1..1000).contains(&quota)) {
            "--cpu-quota is at least 1000 microseconds, or -1 for no limit"
        } else if self.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            "--oom-score-adj goes from -1000 to 1000"
        } else if self.blkio_weight.is_some_and(|weight| weight != 0 && !(10..=1000).contains(&weight)) {
            "--blkio-weight goes from 10 to 1000"
        } else {
            return Ok(());
        };
        Err(Error::Invalid(wrong.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_one_to_three_parts() {
        let device = |host: &str, container: &str, access: &str| {
            Ok(Device { host: host.into(), container: container.into(), access: access.into() })
        };
        assert_eq!(Device::parse("/dev/a"), device("/dev/a", "/dev/a", "rwm"));
        assert_eq!(Device::parse("/dev/a:r"), device("/dev/a", "/dev/a", "r"));
        assert_eq!(Device::parse("/dev/a:/dev/b"), device("/dev/a", "/dev/b", "rwm"));
        assert_eq!(Device::parse("/dev/a:/dev/b:rw"), device("/dev/a", "/dev/b", "rw"));
        for wrong in ["a", "/dev/a:b", "/dev/a:/dev/b:x", "/dev/a:/dev/b:", "/a:/b:r:w", ""] {
            Device::parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn rates_and_ulimits_are_read_as_docker_reads_them() {
        assert_eq!(Throttle::bytes("/dev/sda:1m"), Ok(Throttle { path: "/dev/sda".into(), rate: 1 << 20 }));
        assert_eq!(Throttle::operations("/dev/a:b:7"), Ok(Throttle { path: "/dev/a:b".into(), rate: 7 }));
        Throttle::operations("/dev/sda:1m").unwrap_err();
        Throttle::bytes("sda:1m").unwrap_err();
        let nofile = |soft, hard| Ok(Ulimit { kind: PosixRlimitType::RlimitNofile, soft, hard });
        assert_eq!(Ulimit::parse("nofile=5"), nofile(5, 5));
        assert_eq!(Ulimit::parse("nofile=5:-1"), nofile(5, u64::MAX));
        for wrong in ["nofile", "files=5", "nofile=6:5", "nofile=x"] {
            Ulimit::parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let check = |limits: Limits, memory| limits.check(memory, Some(1.0)).unwrap_err();
        check(Limits { cpu_quota: Some(1), ..Limits::default() }, None);
        check(Limits { memory_swap: Some(1), ..Limits::default() }, Some(2));
        check(Limits { memory_swap: Some(1), ..Limits::default() }, None);
        Limits { cpu_quota: Some(999), ..Limits::default() }.check(None, None).unwrap_err();
        Limits { cpu_period: Some(999), ..Limits::default() }.check(None, None).unwrap_err();
        check(Limits { blkio_weight: Some(9), ..Limits::default() }, None);
        Limits { memory_swap: Some(-1), ..Limits::default() }.check(Some(2), None).unwrap();
        Limits { memory_swap: Some(-1), ..Limits::default() }.check(None, None).unwrap();
    }
}
