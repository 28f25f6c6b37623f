//! `linux.resources`: translated for chapter 3.
//!
//! The specification speaks of version 1 (`shares`, `quota`), as Docker does; chapter 3 speaks of what is meant, and writes
//! either version's files. What runc makes of a field where the specification leaves it open, this does too:
//!
//! | field | value | meaning |
//! |---|---|---|
//! | `memory.limit`, `swap`, `cpu.quota` | -1 | no limit |
//! | the same | 0 | not given |
//! | `memory.limit` -1 without `swap` | | no limit on swap either |
//! | `memory.kernel`, `kernelTCP`, `useHierarchy` | any | without effect: the kernel has counted this with memory since 5.4, always |
//! | `cpu.shares` | 2 to 262144 | in version 2 the weight on the curve through (2, 1), (1024, 100) and (262144, 10000), as newer runc and crun have it |
//! | `devices` | | denied unless allowed, and then [`ALLOWED`] as well |
//!
//! See runtime-spec: config-linux.md, "Control groups".

use ::cgroups::{Access, CpuMax, DeviceKind, DeviceRule, IoMax, IoWeight, Limits, More, RdmaMax};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
    LinuxThrottleDevice,
};

use crate::Error;

/// What every container may use, with the major and minor numbers of character devices: all terminals of its own `/dev/pts`, `ptmx`,
/// `tty`, and the five that no program does without.
const ALLOWED: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// The period of processor time where none is given, in microseconds.
const PERIOD: u64 = 100_000;

/// The limits of a container; without `resources` its devices alone.
///
/// # Errors
/// [`Error::Config`], with the field.
pub(crate) fn limits(resources: Option<&LinuxResources>) -> Result<Limits, Error> {
    let mut limits = resources.map_or(Ok(Limits::default()), changes)?;
    let mut rules = limits.more.devices.take().unwrap_or_default();
    rules.extend(always_allowed());
    limits.more.devices = Some(rules);
    Ok(limits)
}

/// The same for an update: what is not given stays, also the devices.
///
/// # Errors
/// [`Error::Config`], with the field.
pub(crate) fn changes(resources: &LinuxResources) -> Result<Limits, Error> {
    let mut limits = Limits::default();
    limits.more.swap_untouched = true;
    if let Some(memory) = resources.memory() {
        set_memory(&mut limits, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        set_cpu(&mut limits, cpu);
    }
    // Zero was never set.
    limits.pids = resources.pids().as_ref().map(|pids| pids.limit()).filter(|limit| *limit != 0);
    if let Some(io) = resources.block_io() {
        set_io(&mut limits, io)?;
    }
    for pages in resources.hugepage_limits().iter().flatten() {
        let limit = u64::try_from(pages.limit()).unwrap_or(u64::MAX);
        limits.hugetlb.push((pages.page_size().clone(), limit));
    }
    if let Some(network) = resources.network() {
        limits.more.net_class = network.class_id().filter(|class| *class != 0);
        let priorities = network.priorities().iter().flatten();
        limits.more.net_priorities = priorities.map(|it| (it.name().clone(), it.priority())).collect();
    }
    for (device, rdma) in resources.rdma().iter().flatten() {
        let (handles, objects) = (rdma.hca_handles(), rdma.hca_objects());
        limits.more.rdma.push(RdmaMax { device: device.clone(), handles, objects });
    }
    limits.more.rdma.sort_by(|one, other| one.device.cmp(&other.device));
    limits.more.unified = resources.unified().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    limits.more.unified.sort();
    limits.more.devices = resources.devices().as_ref().map(|rules| device_rules(rules)).transpose()?;
    Ok(limits)
}

/// A negative number is no limit, and zero was never set.
fn amount(value: Option<i64>) -> Option<u64> {
    value.filter(|value| *value != 0).map(|value| u64::try_from(value).unwrap_or(u64::MAX))
}

fn set_memory(limits: &mut Limits, memory: &LinuxMemory) -> Result<(), Error> {
    limits.memory = amount(memory.limit());
    limits.memory_reservation = amount(memory.reservation());
    limits.memory_swap = memory.swap().filter(|swap| *swap != 0);
    if limits.memory_swap.is_none() && limits.memory == Some(u64::MAX) {
        limits.memory_swap = Some(-1);
    }
    if limits.memory_swap.is_some_and(|swap| swap > 0)
        && limits.memory.is_none_or(|memory| memory == u64::MAX)
    {
        let reason = "it counts memory and swap together: linux.resources.memory.limit must be given too";
        return Err(Error::config("linux.resources.memory.swap", reason));
    }
    let more = &mut limits.more;
    more.swappiness = memory.swappiness();
    // What is not disabled is as the kernel has it.
    more.oom_kill_disable = memory.disable_oom_killer().filter(|disabled| *disabled);
    more.check_before_update = memory.check_before_update().unwrap_or(false);
    Ok(())
}

fn set_cpu(limits: &mut Limits, cpu: &LinuxCpu) {
    let period = cpu.period().filter(|period| *period > 0);
    if cpu.quota().is_some_and(|quota| quota != 0) || period.is_some() {
        let quota = cpu.quota().and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0);
        limits.cpu_max = Some(CpuMax { quota, period: period.unwrap_or(PERIOD) });
    }
    limits.cpu_shares = cpu.shares().filter(|shares| *shares > 0);
    limits.cpuset = cpu.cpus().clone().filter(|list| !list.is_empty());
    limits.cpuset_mems = cpu.mems().clone().filter(|list| !list.is_empty());
    let more = &mut limits.more;
    more.cpu_burst = cpu.burst();
    more.cpu_idle = cpu.idle();
    more.realtime_runtime = cpu.realtime_runtime().filter(|runtime| *runtime != 0);
    more.realtime_period = cpu.realtime_period().filter(|period| *period > 0);
}

fn set_io(limits: &mut Limits, io: &LinuxBlockIo) -> Result<(), Error> {
    set_rate(limits, io.throttle_read_bps_device().as_deref(), |io, rate| io.rbps = Some(rate))?;
    set_rate(limits, io.throttle_write_bps_device().as_deref(), |io, rate| io.wbps = Some(rate))?;
    set_rate(limits, io.throttle_read_iops_device().as_deref(), |io, rate| io.riops = Some(rate))?;
    set_rate(limits, io.throttle_write_iops_device().as_deref(), |io, rate| io.wiops = Some(rate))?;
    let given = |weight: Option<u16>| weight.filter(|weight| *weight > 0);
    limits.more.io_weight = given(io.weight());
    limits.more.io_leaf_weight = given(io.leaf_weight());
    for device in io.weight_device().iter().flatten() {
        let (major, minor) = numbers("linux.resources.blockIO", device.major(), device.minor())?;
        let (weight, leaf_weight) = (given(device.weight()), given(device.leaf_weight()));
        limits.more.io_device_weights.push(IoWeight { major, minor, weight, leaf_weight });
    }
    Ok(())
}

fn set_rate(
    limits: &mut Limits,
    devices: Option<&[LinuxThrottleDevice]>,
    set: fn(&mut IoMax, u64),
) -> Result<(), Error> {
    for device in devices.unwrap_or_default() {
        let (major, minor) = numbers("linux.resources.blockIO", device.major(), device.minor())?;
        let at =
            limits.io_max.iter().position(|io| (io.major, io.minor) == (major, minor)).unwrap_or_else(|| {
                limits.io_max.push(IoMax { major, minor, ..IoMax::default() });
                limits.io_max.len() - 1
            });
        set(&mut limits.io_max[at], device.rate());
    }
    Ok(())
}

fn numbers(field: &str, major: i64, minor: i64) -> Result<(u32, u32), Error> {
    // What the kernel has room for: 12 bits and 20 bits.
    let number = |number: i64, most: u32| {
        let fits = u32::try_from(number).ok().filter(|number| *number <= most);
        fits.ok_or_else(|| Error::config(field, format!("no device has the number {number}")))
    };
    Ok((number(major, 0xfff)?, number(minor, 0xf_ffff)?))
}

fn device_rules(rules: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>, Error> {
    let field = "linux.resources.devices";
    let number = |number: Option<i64>, most: i64| match number {
        // runc writes -1 for all.
        None | Some(-1) => Ok(None),
        Some(number) if (0..=most).contains(&number) => Ok(u32::try_from(number).ok()),
        Some(number) => Err(Error::config(field, format!("no device has the number {number}"))),
    };
    let rule = |rule: &LinuxDeviceCgroup| {
        let kind = match rule.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::B) => Some(DeviceKind::Block),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(DeviceKind::Char),
            Some(LinuxDeviceType::P) => return Err(Error::config(field, "a FIFO is no device: a, b or c")),
        };
        let text = rule.access().as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
        let access = Access::parse(text)
            .ok_or_else(|| Error::config(field, format!("{text:?} is no access: r, w and m are")))?;
        let (major, minor) = (number(rule.major(), 0xfff)?, number(rule.minor(), 0xf_ffff)?);
        Ok(DeviceRule { allow: rule.allow(), kind, major, minor, access })
    };
    rules.iter().map(rule).collect()
}

/// Any node may be made, since that opens nothing; and these may be used.
fn always_allowed() -> impl Iterator<Item = DeviceRule> {
    let rule =
        |kind, major, minor, access| DeviceRule { allow: true, kind: Some(kind), major, minor, access };
    let made = [DeviceKind::Char, DeviceKind::Block].map(|kind| rule(kind, None, None, Access::MKNOD));
    let used = ALLOWED.map(|(major, minor)| rule(DeviceKind::Char, Some(major), minor, Access::ALL));
    made.into_iter().chain(used)
}

/// Whether the rules allow every device, as `--privileged` has it: the last rule for all of them, and none after it that denies.
pub(crate) fn allows_everything(more: &More) -> bool {
    more.devices.as_ref().is_some_and(|rules| {
        rules
            .iter()
            .rposition(DeviceRule::is_everything)
            .is_some_and(|at| rules[at..].iter().all(|it| it.allow))
    })
}

#[cfg(test)]
mod tests;
