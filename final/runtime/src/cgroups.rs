//! `linux.resources` and `cgroupsPath`: translated for chapter 3.
//!
//! The specification speaks of version 1 (`shares`, `quota`), as Docker does; chapter 3 speaks of what is meant, and writes
//! either version's files.
//!
//! A container without limits gets a cgroup too, for its statistics and so that all of it can be killed; where this user may make
//! none it goes without. Where a limit was asked for and cannot be had, that is an error: never silently less.

use std::path::{Component, Path};

use ::cgroups::{Cgroup, CpuMax, Hierarchies, IoMax, Limits};
use oci_spec::runtime::{Linux, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use crate::Error;

/// Makes the container's cgroup.
///
/// # Errors
/// [`Error::Config`] for a path that is none; chapter 3's errors where a limit cannot be had.
pub(crate) fn create(id: &str, linux: &Linux) -> Result<Option<Cgroup>, Error> {
    let limits = linux.resources().as_ref().map(limits).transpose()?.unwrap_or_default();
    check(linux.cgroups_path().as_deref())?;
    let made =
        Hierarchies::find(Path::new("/proc/self")).and_then(|hierarchies| match linux.cgroups_path() {
            Some(path) => Cgroup::create_at(&hierarchies, relative(path), &limits),
            None => Cgroup::create(&hierarchies, id, &limits),
        });
    match made {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(
            ::cgroups::Error::NoHierarchy
            | ::cgroups::Error::NotDelegated { .. }
            | ::cgroups::Error::Occupied { .. },
        ) if limits.is_empty() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Finds the cgroup of a container that was created, or one `below` it; none where the container went without.
///
/// # Errors
/// Chapter 3's.
pub fn open(id: &str, linux: &Linux, below: Option<&Path>) -> Result<Option<Cgroup>, Error> {
    check(linux.cgroups_path().as_deref())?;
    let path = match linux.cgroups_path() {
        Some(path) => relative(path).to_owned(),
        None => Path::new(::cgroups::cgroup::FOLDER).join(id),
    };
    let path = match below {
        None => path,
        Some(below) => {
            // runc's `controller:path` names one hierarchy; here it is the same path in all that have it.
            let text = below.to_string_lossy();
            let below = Path::new(text.rsplit(':').next().unwrap_or_default()).to_owned();
            check(Some(&below))?;
            path.join(relative(&below))
        }
    };
    let opened = Hierarchies::find(Path::new("/proc/self"))
        .and_then(|hierarchies| Cgroup::open_at(&hierarchies, &path));
    match opened {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(error @ ::cgroups::Error::NoSuchCgroup(_)) if below.is_some() => Err(error.into()),
        Err(::cgroups::Error::NoHierarchy | ::cgroups::Error::NoSuchCgroup(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A path is below the hierarchies, also where it begins with a slash.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn check(path: Option<&Path>) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    let plain = relative(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || relative(path).as_os_str().is_empty() {
        return Err(Error::config("linux.cgroupsPath", format!("{path:?} is no path below a hierarchy")));
    }
    if path.to_string_lossy().contains(':') {
        return Err(Error::config("linux.cgroupsPath", "systemd's slice:prefix:name is not supported"));
    }
    Ok(())
}

fn limits(resources: &LinuxResources) -> Result<Limits, Error> {
    let mut limits = Limits::default();
    if let Some(memory) = resources.memory() {
        set_memory(&mut limits, memory);
    }
    if let Some(cpu) = resources.cpu() {
        set_cpu(&mut limits, cpu);
    }
    limits.pids = resources.pids().as_ref().map(|pids| pids.limit());
    if let Some(io) = resources.block_io() {
        set_io(&mut limits, io.throttle_read_bps_device().as_deref(), |io, rate| io.rbps = Some(rate))?;
        set_io(&mut limits, io.throttle_write_bps_device().as_deref(), |io, rate| io.wbps = Some(rate))?;
        set_io(&mut limits, io.throttle_read_iops_device().as_deref(), |io, rate| io.riops = Some(rate))?;
        set_io(&mut limits, io.throttle_write_iops_device().as_deref(), |io, rate| io.wiops = Some(rate))?;
    }
    for pages in resources.hugepage_limits().iter().flatten() {
        let limit = u64::try_from(pages.limit()).unwrap_or(u64::MAX);
        limits.hugetlb.push((pages.page_size().clone(), limit));
    }
    Ok(limits)
}

/// A negative number is no limit, and zero was never set.
fn positive(value: Option<i64>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
}

fn set_memory(limits: &mut Limits, memory: &LinuxMemory) {
    limits.memory = positive(memory.limit());
    limits.memory_reservation = positive(memory.reservation());
    limits.memory_swap = memory.swap().filter(|swap| *swap != 0);
    if limits.memory.is_none() {
        // Swap is counted with memory: without a limit on that it says nothing.
        limits.memory_swap = limits.memory_swap.filter(|swap| *swap > 0);
    }
}

fn set_cpu(limits: &mut Limits, cpu: &LinuxCpu) {
    const PERIOD: u64 = 100_000;
    if let Some(quota) = positive(cpu.quota()) {
        let period = cpu.period().filter(|period| *period > 0).unwrap_or(PERIOD);
        limits.cpu_max = Some(CpuMax { quota: Some(quota), period });
    }
    limits.cpu_shares = cpu.shares().filter(|shares| *shares > 0);
    limits.cpuset = cpu.cpus().clone().filter(|list| !list.is_empty());
    limits.cpuset_mems = cpu.mems().clone().filter(|list| !list.is_empty());
}

fn set_io(
    limits: &mut Limits,
    devices: Option<&[LinuxThrottleDevice]>,
    set: fn(&mut IoMax, u64),
) -> Result<(), Error> {
    for device in devices.unwrap_or_default() {
        let number = |number: i64| {
            u32::try_from(number)
                .map_err(|_| Error::config("linux.resources.blockIO", format!("no device number {number}")))
        };
        let (major, minor) = (number(device.major())?, number(device.minor())?);
        let at =
            limits.io_max.iter().position(|io| (io.major, io.minor) == (major, minor)).unwrap_or_else(|| {
                limits.io_max.push(IoMax { major, minor, ..IoMax::default() });
                limits.io_max.len() - 1
            });
        set(&mut limits.io_max[at], device.rate());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(json: &str) -> Limits {
        limits(&serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn limits_are_translated_one_by_one() {
        let json = r#"{"memory":{"limit":67108864,"swap":-1},"cpu":{"quota":50000,"period":100000,"shares":1024,"cpus":"0-1"},
            "pids":{"limit":7},"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}],
            "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":6}]}}"#;
        let limits = translated(json);
        assert_eq!((limits.memory, limits.memory_swap, limits.pids), (Some(64 << 20), Some(-1), Some(7)));
        assert_eq!(limits.cpu_max, Some(CpuMax { quota: Some(50_000), period: 100_000 }));
        assert_eq!((limits.cpu_shares, limits.cpuset.as_deref()), (Some(1024), Some("0-1")));
        assert_eq!(
            limits.io_max,
            [IoMax { major: 8, minor: 0, rbps: Some(5), wbps: Some(6), ..IoMax::default() }]
        );
    }

    #[test]
    fn no_limit_is_none() {
        assert!(
            translated(r#"{"memory":{"limit":-1,"swap":-1},"cpu":{"quota":-1,"period":100000,"shares":0}}"#)
                .is_empty()
        );
        assert!(translated(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#).is_empty());
    }

    #[test]
    fn a_path_stays_below_the_hierarchies() {
        for path in ["/", "../x", "/a/../b", "a:b:c", ""] {
            check(Some(Path::new(path))).unwrap_err();
        }
        check(Some(Path::new("/sampan/x"))).unwrap();
    }
}
