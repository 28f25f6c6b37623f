//! Processor time: a ceiling, and a share when processors are contended.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | ceiling | `cpu.max`: `QUOTA PERIOD` | `cpu.cfs_quota_us`, `cpu.cfs_period_us` |
//! | share | `cpu.weight`: 1 to 10000, 100 for everybody | `cpu.shares`: 2 to 262144, 1024 for everybody |
//! | time used | `cpu.stat`: `usage_usec` | `cpuacct.usage`, in nanoseconds, another controller |
//! | user and system time | `cpu.stat`: `user_usec`, `system_usec` | `cpuacct.usage_user`, `cpuacct.usage_sys` |
//! | throttled | `cpu.stat`: `nr_throttled`, `throttled_usec` | `cpu.stat`: `nr_throttled`, `throttled_time` in nanoseconds |
//!
//! The *quota* is time in each *period*, of all processors together: 50000 of 100000 microseconds is half a processor, 200000
//! is two. When it is used up the whole cgroup stands still until the next period: it is *throttled*. Docker's `--cpus 0.5`
//! is that, with a period of 100000. The *weight* is no ceiling: alone on a machine, weight 1 gets all of it.
//!
//! What the kernel requires: 1. a period of 1000 to 1000000; 2. a quota of at least 1000; 3. in version 1 the period before the
//! quota, for no quota may be above the parent's ratio at any moment.
//!
//! See cgroups(7), sched(7); kernel: cgroup-v2.rst "CPU", scheduler/sched-bwc.rst.

use std::path::Path;

use crate::file::{Setting, keyed, number};
use crate::hierarchy::Version;
use crate::limits::{CpuMax, Limits};

/// The period of Docker, and of the kernel, in microseconds.
pub const PERIOD: u64 = 100_000;

/// What the kernel tells of a cgroup's processor time, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Time used on all processors.
    pub usage: u64,
    /// That part of it which was spent in programs.
    pub user: u64,
    /// That part of it which was spent in the kernel.
    pub system: u64,
    /// Periods in which it wanted to run, where there is a ceiling.
    pub periods: u64,
    /// Periods at whose end it stood still.
    pub throttled_periods: u64,
    /// How long it stood still.
    pub throttled: u64,
}

impl CpuMax {
    /// `cpus` processors, in Docker's period.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub fn from_cpus(cpus: f64) -> Self {
        // Limits::check has refused everything that is not 0.01 to a million.
        Self { quota: Some((cpus * PERIOD as f64).round() as u64), period: PERIOD }
    }
}

/// The shares of version 1 for a weight of version 2.
///
/// The two ranges are no multiples of each other. Three points must meet: the least (1 and 2), what everybody has (100 and 1024)
/// and the most (10000 and 262144). The curve through them is a parabola in the logarithms; OCI runtimes use the same.
// ANCHOR: shares
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub fn shares_from_weight(weight: u64) -> u64 {
    let log_weight = (weight.clamp(1, 10_000) as f64).log10();
    let root = (125.0_f64 * 125.0 + 4.0 * 612.0 * (log_weight + 7.0 / 34.0)).sqrt();
    (((root - 125.0) / 2.0).exp2().round() as u64).clamp(2, 262_144)
}

/// The weight of version 2 for shares of version 1: the other way on the curve of [`shares_from_weight`].
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub fn weight_from_shares(shares: u64) -> u64 {
    let log_shares = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (log_shares * log_shares + 125.0 * log_shares) / 612.0 - 7.0 / 34.0;
    // The rounding error of the logarithms must not lift an exact power to the next number.
    ((10.0_f64.powf(exponent) - 1e-6).ceil() as u64).clamp(1, 10_000)
}
// ANCHOR_END: shares

/// What is to be written, in this order.
pub(crate) fn settings(version: Version, limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    let share = match version {
        Version::V2 => limits.cpu_weight.or(limits.cpu_shares.map(weight_from_shares)),
        Version::V1 => limits.cpu_shares.or(limits.cpu_weight.map(shares_from_weight)),
    };
    if let Some(share) = share {
        let file = if version == Version::V2 { "cpu.weight" } else { "cpu.shares" };
        settings.push(Setting::new(file, &share, "--cpu-weight", "its share while processors are contended"));
    }
    if let Some(CpuMax { quota, period }) = limits.cpu_max.or(limits.cpus.map(CpuMax::from_cpus)) {
        let why = "when the quota of a period is used up, all of it stands still until the next";
        match version {
            Version::V2 => {
                let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
                settings.push(Setting::new("cpu.max", &format!("{quota} {period}"), "--cpus", why));
            }
            Version::V1 => {
                let quota = quota.map_or("-1".to_owned(), |quota| quota.to_string());
                settings.push(Setting::new(
                    "cpu.cfs_period_us",
                    &period,
                    "--cpus",
                    "what the quota is a part of",
                ));
                settings.push(Setting::new("cpu.cfs_quota_us", &quota, "--cpus", why));
            }
        }
    }
    settings
}

/// Reads the state back: `cpu` is the directory with the controller, `usage` the one that counts time (of either version).
pub(crate) fn stats(cpu: Option<(Version, &Path)>, usage: Option<(Version, &Path)>) -> Option<CpuStats> {
    let mut stats = CpuStats::default();
    match usage? {
        (Version::V2, dir) => {
            let read = |key| keyed(dir, "cpu.stat", key).unwrap_or(0);
            (stats.usage, stats.user, stats.system) =
                (read("usage_usec"), read("user_usec"), read("system_usec"));
        }
        (Version::V1, dir) => {
            let read = |file| number(dir, file).unwrap_or(0) / 1000;
            (stats.usage, stats.user, stats.system) =
                (read("cpuacct.usage"), read("cpuacct.usage_user"), read("cpuacct.usage_sys"));
        }
    }
    if let Some((version, dir)) = cpu {
        let read = |key| keyed(dir, "cpu.stat", key).unwrap_or(0);
        stats.periods = read("nr_periods");
        stats.throttled_periods = read("nr_throttled");
        stats.throttled = match version {
            Version::V2 => read("throttled_usec"),
            Version::V1 => read("throttled_time") / 1000,
        };
    }
    Some(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_fixed_points_meet() {
        for (weight, shares) in [(1, 2), (100, 1024), (10_000, 262_144)] {
            assert_eq!(shares_from_weight(weight), shares);
            assert_eq!(weight_from_shares(shares), weight);
        }
        assert_eq!(weight_from_shares(0), 1);
        assert_eq!(weight_from_shares(u64::MAX), 10_000);
    }

    #[test]
    fn the_curve_only_rises() {
        assert!((1..10_000).all(|weight| shares_from_weight(weight) <= shares_from_weight(weight + 1)));
        assert!(
            (2..262_144)
                .step_by(97)
                .all(|shares| weight_from_shares(shares) <= weight_from_shares(shares + 97))
        );
    }

    #[test]
    fn cpus_become_a_quota() {
        assert_eq!(CpuMax::from_cpus(0.5), CpuMax { quota: Some(50_000), period: 100_000 });
        assert_eq!(CpuMax::from_cpus(1.1).quota, Some(110_000));
        assert_eq!(CpuMax::from_cpus(0.01).quota, Some(1_000));
    }

    #[test]
    fn the_period_is_written_before_the_quota() {
        let limits = Limits { cpus: Some(0.5), cpu_weight: Some(100), ..Limits::default() };
        let files = |version| -> Vec<_> {
            settings(version, &limits)
                .into_iter()
                .map(|setting| format!("{}={}", setting.file, setting.value))
                .collect()
        };
        assert_eq!(files(Version::V2), ["cpu.weight=100", "cpu.max=50000 100000"]);
        assert_eq!(
            files(Version::V1),
            ["cpu.shares=1024", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"]
        );
    }

    #[test]
    fn shares_are_written_as_they_are_where_they_are_the_kernels_own() {
        let limits = Limits { cpu_shares: Some(512), ..Limits::default() };
        assert_eq!(settings(Version::V1, &limits)[0].value, "512");
        assert_eq!(settings(Version::V2, &limits)[0].value, weight_from_shares(512).to_string());
    }

    #[test]
    fn no_limit_has_its_own_word_in_each() {
        let limits = Limits { cpu_max: Some(CpuMax { quota: None, period: PERIOD }), ..Limits::default() };
        assert_eq!(settings(Version::V2, &limits)[0].value, "max 100000");
        assert_eq!(settings(Version::V1, &limits)[1].value, "-1");
    }

    #[test]
    fn version_1_counts_in_nanoseconds() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cpu.stat"), "nr_periods 5\nnr_throttled 3\nthrottled_time 2000000\n")
            .unwrap();
        std::fs::write(dir.path().join("cpuacct.usage"), "7000\n").unwrap();
        let here = Some((Version::V1, dir.path()));
        let stats = stats(here, here).unwrap();
        assert_eq!((stats.usage, stats.periods, stats.throttled_periods, stats.throttled), (7, 5, 3, 2000));
    }
}
