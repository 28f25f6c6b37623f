//! Limits as properties of a unit, under the names that systemd.resource-control(5) gives them.
//!
//! systemd speaks of version 2: weights, and swap by itself. What it has no property for stands in the cgroup's file alone.

use ::cgroups::cpu::weight_from_shares;
use ::cgroups::io_weight::stretched;
use ::cgroups::{CpuMax, Limits, cpuset};

use super::wire::Value;

/// The properties for limits that are given.
pub(super) fn of(limits: &Limits) -> Vec<(String, Value)> {
    let more = &limits.more;
    let mut all: Vec<(String, Value)> = Vec::new();
    let mut set = |name: &str, value: Option<Value>| all.extend(value.map(|value| (name.to_owned(), value)));
    // For systemd, too, the largest number is no limit.
    set("MemoryMax", limits.memory.map(Value::U64));
    set("MemoryLow", limits.memory_reservation.map(Value::U64));
    let swap = limits.memory_swap.map(|total| {
        u64::try_from(total).map_or(u64::MAX, |total| total.saturating_sub(limits.memory.unwrap_or(0)))
    });
    set("MemorySwapMax", swap.map(Value::U64));
    set("CPUWeight", limits.cpu_weight.or(limits.cpu_shares.map(weight_from_shares)).map(Value::U64));
    let ceiling = limits.cpu_max.or(limits.cpus.map(CpuMax::from_cpus));
    set("CPUQuotaPerSecUSec", ceiling.map(|it| Value::U64(per_second(it))));
    // Also the usual one: an update may come back to it from another.
    set("CPUQuotaPeriodUSec", ceiling.map(|it| Value::U64(it.period)));
    set("AllowedCPUs", limits.cpuset.as_deref().and_then(mask));
    set("AllowedMemoryNodes", limits.cpuset_mems.as_deref().and_then(mask));
    let tasks = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX);
    set("TasksMax", limits.pids.map(|limit| Value::U64(tasks(limit))));
    set("IOWeight", more.io_weight.map(|weight| Value::U64(stretched(weight).into())));
    all
}

/// Time of each second, rounded up to the ten milliseconds in which systemd counts.
fn per_second(CpuMax { quota, period }: CpuMax) -> u64 {
    const UNIT: u64 = 10_000;
    let Some(quota) = quota else { return u64::MAX };
    (u128::from(quota) * 1_000_000 / u128::from(period.max(1)))
        .try_into()
        .unwrap_or(u64::MAX / 2)
        .next_multiple_of(UNIT)
}

/// A list as bits, the first processor the lowest bit of the first byte.
fn mask(list: &str) -> Option<Value> {
    let ranges = cpuset::parse(list)?;
    let most = ranges.iter().map(|(_, last)| *last).max().filter(|most| *most < 8192)?;
    let mut bits = vec![0_u8; most as usize / 8 + 1];
    for number in ranges.into_iter().flat_map(|(first, last)| first..=last) {
        bits[number as usize / 8] |= 1 << (number % 8);
    }
    Some(Value::Bytes(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_property() {
        let limits = Limits {
            memory: Some(100),
            memory_swap: Some(150),
            cpu_shares: Some(1024),
            cpu_max: Some(CpuMax { quota: Some(33_333), period: 100_000 }),
            cpuset: Some("0-1,9".into()),
            pids: Some(-1),
            ..Limits::default()
        };
        let expected = [
            ("MemoryMax", Value::U64(100)),
            ("MemorySwapMax", Value::U64(50)),
            ("CPUWeight", Value::U64(100)),
            ("CPUQuotaPerSecUSec", Value::U64(340_000)),
            ("CPUQuotaPeriodUSec", Value::U64(100_000)),
            ("AllowedCPUs", Value::Bytes(vec![3, 2])),
            ("TasksMax", Value::U64(u64::MAX)),
        ];
        assert_eq!(of(&limits), expected.map(|(name, value)| (name.to_owned(), value)));
        assert!(of(&Limits::default()).is_empty());
    }

    #[test]
    fn no_ceiling_is_the_largest_number() {
        assert_eq!(per_second(CpuMax { quota: None, period: 100_000 }), u64::MAX);
    }
}
