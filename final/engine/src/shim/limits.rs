//! Limits and devices, from the flags to the runtime's configuration.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use nix::sys::stat::{major, minor};
use oci_spec::runtime::{
    Linux, LinuxBlockIo, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPids,
    LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, PosixRlimit, PosixRlimitBuilder,
};

use crate::Error;
use crate::container::Config;
use crate::container::limits::{Device, Throttle, Ulimit};

/// The period over which processor time is given out, in microseconds: Docker's.
const CPU_PERIOD: u64 = 100_000;

/// The flags as the specification's `linux.resources`.
// ANCHOR: resources
pub(super) fn resources(config: &Config) -> Result<LinuxResources, Error> {
    let mut resources = LinuxResources::default();
    resources.set_memory(memory(config)?).set_cpu(cpu(config)?).set_block_io(block_io(config)?);
    if let Some(limit) = config.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(if limit <= 0 { -1 } else { limit });
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

fn memory(config: &Config) -> Result<Option<LinuxMemory>, Error> {
    let limits = &config.limits;
    let bytes = |flag: &str, bytes: Option<u64>| {
        let bytes = bytes.map(i64::try_from).transpose();
        bytes.map_err(|_| Error::Invalid(format!("{flag}: more than any machine has")))
    };
    let limit = bytes("-m", config.memory)?;
    // As much swap again, as Docker has it.
    let swap = limits.memory_swap.filter(|swap| *swap != 0).or(limit.map(|limit| limit.saturating_mul(2)));
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(limit)
        .set_swap(swap)
        .set_reservation(bytes("--memory-reservation", limits.memory_reservation)?)
        .set_swappiness(limits.memory_swappiness)
        .set_disable_oom_killer(limits.oom_kill_disable.then_some(true));
    Ok((memory != LinuxMemory::default()).then_some(memory))
}
// ANCHOR_END: resources

fn cpu(config: &Config) -> Result<Option<LinuxCpu>, Error> {
    let limits = &config.limits;
    let (mut period, mut quota) = (limits.cpu_period, limits.cpu_quota);
    if let Some(cpus) = config.cpus {
        if !(cpus > 0.0 && cpus < 100_000.0) {
            return Err(Error::Invalid(format!("--cpus {cpus}: a number of processors above 0")));
        }
        #[allow(clippy::cast_possible_truncation, reason = "below 10^10 after the check above")]
        let of_period = (cpus * 100_000.0) as i64;
        (period, quota) = (Some(CPU_PERIOD), Some(of_period.max(1000)));
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_period(period)
        .set_quota(quota)
        .set_shares(limits.cpu_shares)
        .set_cpus(limits.cpuset_cpus.clone())
        .set_mems(limits.cpuset_mems.clone());
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

fn block_io(config: &Config) -> Result<Option<LinuxBlockIo>, Error> {
    let limits = &config.limits;
    let throttles = |flag: &str, list: &[Throttle]| {
        let all = list.iter().map(|it| throttle(flag, it)).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, Error>((!all.is_empty()).then_some(all))
    };
    let mut io = LinuxBlockIo::default();
    io.set_weight(limits.blkio_weight.filter(|weight| *weight != 0))
        .set_throttle_read_bps_device(throttles("--device-read-bps", &limits.device_read_bps)?)
        .set_throttle_write_bps_device(throttles("--device-write-bps", &limits.device_write_bps)?)
        .set_throttle_read_iops_device(throttles("--device-read-iops", &limits.device_read_iops)?)
        .set_throttle_write_iops_device(throttles("--device-write-iops", &limits.device_write_iops)?);
    Ok((io != LinuxBlockIo::default()).then_some(io))
}

fn throttle(flag: &str, Throttle { path, rate }: &Throttle) -> Result<LinuxThrottleDevice, Error> {
    let (kind, about) = stat(flag, path)?;
    if kind != LinuxDeviceType::B {
        return Err(Error::Invalid(format!("{flag} {}: it is no block device", path.display())));
    }
    let device = LinuxThrottleDeviceBuilder::default()
        .major(number(major(about.st_rdev())))
        .minor(number(minor(about.st_rdev())))
        .rate(*rate)
        .build();
    device.map_err(super::resources::invalid)
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn stat(flag: &str, path: &Path) -> Result<(LinuxDeviceType, fs::Metadata), Error> {
    let about =
        fs::metadata(path).map_err(|error| Error::Invalid(format!("{flag} {}: {error}", path.display())))?;
    let kind = about.file_type();
    if kind.is_block_device() {
        Ok((LinuxDeviceType::B, about))
    } else if kind.is_char_device() {
        Ok((LinuxDeviceType::C, about))
    } else {
        Err(Error::Invalid(format!("{flag} {}: it is no device", path.display())))
    }
}

/// The limits of each process.
pub(super) fn rlimits(config: &Config) -> Result<Vec<PosixRlimit>, Error> {
    let one = |it: &Ulimit| PosixRlimitBuilder::default().typ(it.kind).soft(it.soft).hard(it.hard).build();
    config.limits.ulimits.iter().map(|it| one(it).map_err(super::resources::invalid)).collect()
}

/// Adds the host's devices, each with the rule that allows it, and says where the cgroup is.
pub(super) fn add(config: &Config, linux: &mut Linux) -> Result<(), Error> {
    if config.limits.cgroup_parent.is_some() {
        linux.set_cgroups_path(Some(Path::new("/").join(config.cgroup())));
    }
    for Device { host, container, access } in &config.limits.devices {
        let (kind, about) = stat("--device", host)?;
        let (major, minor) = (number(major(about.st_rdev())), number(minor(about.st_rdev())));
        let mut device = LinuxDevice::default();
        device
            .set_path(container.clone())
            .set_typ(kind)
            .set_major(major)
            .set_minor(minor)
            .set_file_mode(Some(about.st_mode() & 0o777))
            .set_uid(Some(about.st_uid()))
            .set_gid(Some(about.st_gid()));
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(kind))
            .set_major(Some(major))
            .set_minor(Some(minor))
            .set_access(Some(access.clone()));
        let mut devices = linux.devices().clone().unwrap_or_default();
        devices.push(device);
        linux.set_devices(Some(devices));
        if let Some(resources) = linux.resources_mut() {
            let mut rules = resources.devices().clone().unwrap_or_default();
            rules.push(rule);
            resources.set_devices(Some(rules));
        }
    }
    Ok(())
}
