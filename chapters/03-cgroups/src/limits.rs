//! What a container may use: the one plain struct that every controller reads.
//!
//! Nothing here talks to the kernel. [`Limits::check`] refuses what no kernel would take, before anything is changed.

use std::path::Path;
use std::str::FromStr;

use crate::more::More;
use crate::{Error, size};

/// The limits of one cgroup. `None`, or an empty list, leaves the kernel's own value alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Memory in bytes, page cache and kernel memory of the container included; `u64::MAX` takes a limit away.
    pub memory: Option<u64>,
    /// Memory *and* swap together, in bytes, as Docker counts it; -1 for no limit on swap. Not given, it is twice `memory`, where
    /// the host accounts for swap at all.
    pub memory_swap: Option<i64>,
    /// What the kernel tries to leave to the container when memory is short, in bytes.
    pub memory_reservation: Option<u64>,
    /// How many processors' worth of time it may use, as Docker's `--cpus`: 0.5 is half of one.
    pub cpus: Option<f64>,
    /// The same as a quota and a period, as OCI and the kernel have it. Give this or `cpus`.
    pub cpu_max: Option<CpuMax>,
    /// Its share when processors are contended, 1 to 10000; the kernel gives everybody 100.
    pub cpu_weight: Option<u64>,
    /// The same as version 1 and OCI have it, 2 to 262144; the kernel gives everybody 1024. Give this or `cpu_weight`.
    pub cpu_shares: Option<u64>,
    /// The processors it may run on, as a list: `0-2,5`.
    pub cpuset: Option<String>,
    /// The memory nodes it may allocate from, as a list.
    pub cpuset_mems: Option<String>,
    /// How many tasks (processes and threads) it may have; 0 or less for no limit.
    pub pids: Option<i64>,
    /// Limits for block devices.
    pub io_max: Vec<IoMax>,
    /// Huge pages: the page's size as the kernel names it (`2MB`), and bytes.
    pub hugetlb: Vec<(String, u64)>,
    /// What a container engine asks for besides: beyond this chapter.
    pub more: More,
}

/// `quota` of every `period`, both in microseconds of all processors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMax {
    /// The time that may be used in each period; `None` for no limit.
    pub quota: Option<u64>,
    /// 1000 to 1000000.
    pub period: u64,
}

/// Limits of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoMax {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Bytes read a second.
    pub rbps: Option<u64>,
    /// Bytes written a second.
    pub wbps: Option<u64>,
    /// Reads a second.
    pub riops: Option<u64>,
    /// Writes a second.
    pub wiops: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited. Rules for devices are none: a container has them whether or not somebody asked.
    pub fn is_empty(&self) -> bool {
        let more = More {
            devices: None,
            wide: false,
            swap_untouched: false,
            check_before_update: false,
            ..self.more.clone()
        };
        let none = Self { more, ..self.clone() };
        none == Self::default()
    }

    /// Refuses what no kernel would take, before anything has been changed.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the limit named as the user typed it.
    pub fn check(&self) -> Result<(), Error> {
        self.check_memory()?;
        self.more.check()?;
        if let Some(cpus) = self.cpus
            && !(0.01..=1e6).contains(&cpus)
        {
            return invalid("--cpus", &cpus, "the least is 0.01, a thousandth of a second in each tenth");
        }
        if let (Some(cpus), Some(_)) = (self.cpus, self.cpu_max) {
            return invalid(
                "--cpus",
                &cpus,
                "a quota and a period were given as well, and they say the same thing",
            );
        }
        if let Some(CpuMax { period, .. }) = self.cpu_max
            && !(1000..=1_000_000).contains(&period)
        {
            return invalid("cpu period", &period, "it must be 1000 to 1000000 microseconds");
        }
        if let Some(weight) = self.cpu_weight
            && !(1..=10_000).contains(&weight)
        {
            return invalid("--cpu-weight", &weight, "it must be 1 to 10000; 100 is what everybody has");
        }
        if let (Some(weight), Some(_)) = (self.cpu_weight, self.cpu_shares) {
            return invalid(
                "--cpu-weight",
                &weight,
                "shares were given as well, and they say the same thing",
            );
        }
        for (limit, list) in [("--cpuset", &self.cpuset), ("--cpuset-mems", &self.cpuset_mems)] {
            if let Some(list) = list
                && crate::cpuset::parse(list).is_none()
            {
                return invalid(limit, list, "it must be a list of numbers and ranges, as in 0-2,5");
            }
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), Error> {
        if let Some(memory @ ..4096) = self.memory {
            return invalid("--memory", &memory, "the least is one page, 4k, and a program needs more");
        }
        if let Some(total) = self.memory_swap.and_then(|total| u64::try_from(total).ok()) {
            match self.memory {
                None => {
                    return invalid(
                        "--memory-swap",
                        &total,
                        "it counts memory and swap together, so --memory must be given too",
                    );
                }
                Some(memory) if total < memory => {
                    return invalid(
                        "--memory-swap",
                        &total,
                        "it counts memory and swap together, so it cannot be below --memory",
                    );
                }
                Some(_) => {}
            }
        } else if let Some(total @ i64::MIN..-1) = self.memory_swap {
            return invalid("--memory-swap", &total, "only -1 stands for no limit");
        }
        Ok(())
    }
}

pub(crate) fn invalid<T>(limit: &'static str, value: &impl ToString, reason: &str) -> Result<T, Error> {
    Err(Error::Invalid { limit, value: value.to_string(), reason: reason.to_owned() })
}

impl FromStr for IoMax {
    type Err = String;

    /// `DEV:rbps=1m,wbps=1m`: the device as a path (`/dev/vda`) or as numbers (`254:0`).
    fn from_str(text: &str) -> Result<Self, String> {
        let (device, limits) = text
            .rsplit_once(':')
            .filter(|(_, limits)| limits.contains('='))
            .ok_or_else(|| format!("{text:?} is no limit of a device: write DEV:rbps=1m,wbps=1m"))?;
        let (major, minor) = device_number(device)?;
        let mut io = Self { major, minor, ..Self::default() };
        for limit in limits.split(',') {
            let (key, value) = limit.split_once('=').ok_or_else(|| format!("{limit:?} has no value"))?;
            let value = Some(size::parse(value)?).filter(|&value| value > 0);
            let value = Some(
                value.ok_or_else(|| format!("{limit:?} would stop the device: leave it out for no limit"))?,
            );
            match key {
                "rbps" => io.rbps = value,
                "wbps" => io.wbps = value,
                "riops" => io.riops = value,
                "wiops" => io.wiops = value,
                _ => return Err(format!("{key:?} is none of rbps, wbps, riops, wiops")),
            }
        }
        Ok(io)
    }
}

fn device_number(device: &str) -> Result<(u32, u32), String> {
    if let Some((major, minor)) = device.split_once(':') {
        let number = |text: &str| text.parse().map_err(|_| format!("{device:?} is no device number"));
        return Ok((number(major)?, number(minor)?));
    }
    let stat = rustix::fs::stat(Path::new(device)).map_err(|error| format!("{device}: {error}"))?;
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::BlockDevice => {
            Ok((rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
        }
        _ => Err(format!("{device} is no block device")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(limits: &Limits) -> String {
        limits.check().unwrap_err().to_string()
    }

    #[test]
    fn no_limit_is_no_limit() {
        assert!(Limits::default().is_empty());
        Limits::default().check().unwrap();
        assert!(!Limits { pids: Some(1), ..Limits::default() }.is_empty());
    }

    #[test]
    fn swap_is_counted_together_with_memory() {
        let swap =
            |memory, memory_swap| Limits { memory, memory_swap: Some(memory_swap), ..Limits::default() };
        swap(Some(4096), 4096).check().unwrap();
        swap(Some(4096), -1).check().unwrap();
        assert!(refused(&swap(Some(4096), 4095)).starts_with("--memory-swap 4095: "));
        assert!(refused(&swap(None, 64)).contains("--memory must be given"));
        assert!(refused(&Limits { memory: Some(1024), ..Limits::default() }).starts_with("--memory 1024: "));
        assert!(refused(&swap(Some(4096), -2)).contains("-1"));
    }

    #[test]
    fn values_out_of_range_are_named() {
        for cpus in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(refused(&Limits { cpus: Some(cpus), ..Limits::default() }).starts_with("--cpus"));
        }
        for weight in [0, 10_001] {
            let limits = Limits { cpu_weight: Some(weight), ..Limits::default() };
            assert!(refused(&limits).starts_with("--cpu-weight"));
        }
        let limits = Limits { cpuset: Some("0-".into()), ..Limits::default() };
        assert!(refused(&limits).starts_with("--cpuset 0-: "));
    }

    #[test]
    fn a_device_is_a_number_or_a_path() {
        let io: IoMax = "254:0:rbps=1m,wiops=20".parse().unwrap();
        assert_eq!(
            io,
            IoMax { major: 254, minor: 0, rbps: Some(1 << 20), wiops: Some(20), ..IoMax::default() }
        );
        for wrong in
            ["254:0", "/dev/null:rbps=1m", "254:0:speed=1", "254:0:rbps=0", "x:y:rbps=1", "/nowhere:rbps=1"]
        {
            assert!(wrong.parse::<IoMax>().is_err(), "{wrong}");
        }
    }
}
