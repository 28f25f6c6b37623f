//! Beyond this chapter: processor time for special cases.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | time saved up for later | `cpu.max.burst` | `cpu.cfs_burst_us` |
//! | only when nobody else wants it | `cpu.idle` | `cpu.idle` |
//! | realtime | none: realtime tasks belong to the topmost cgroup | `cpu.rt_runtime_us`, `cpu.rt_period_us` |
//!
//! What the kernel requires: 1. a burst is at most the quota, so it is written after it; 2. a cgroup that is idle has no weight,
//! and writing one gives EINVAL: idle is written last; 3. realtime time is given out from the top: the cgroup around must have it,
//! else EINVAL; and the kernel must have been built with `CONFIG_RT_GROUP_SCHED`.
//!
//! See sched(7); kernel: cgroup-v2.rst "CPU", scheduler/sched-bwc.rst, scheduler/sched-rt-group.rst.

use crate::Limits;
use crate::file::{Missing, Setting};
use crate::hierarchy::Version;

const NO_REALTIME: Missing =
    Missing::Refuse { limit: "cpu.realtimeRuntime", remedy: "it was built without CONFIG_RT_GROUP_SCHED" };

/// What is to be written, in this order, after [`crate::cpu`]'s.
pub(crate) fn settings(version: Version, limits: &Limits) -> Vec<Setting> {
    let more = &limits.more;
    let burst = if version == Version::V2 { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
    let mut settings = Vec::new();
    let why = "time that was not used in quiet periods may be used above the quota";
    settings.extend(more.cpu_burst.map(|it| Setting::new(burst, &it, "cpu.burst", why)));
    if version == Version::V1 {
        let why = "of each realtime period so much, for tasks with a realtime priority";
        let limit = "cpu.realtimeRuntime";
        let period = more.realtime_period.map(|it| Setting::new("cpu.rt_period_us", &it, limit, why));
        let runtime = more.realtime_runtime.map(|it| Setting::new("cpu.rt_runtime_us", &it, limit, why));
        settings.extend(period.into_iter().chain(runtime).map(|it| it.missing(NO_REALTIME)));
    }
    let why = "it runs only when nobody else wants the processor";
    settings.extend(more.cpu_idle.map(|it| Setting::new("cpu.idle", &it, "cpu.idle", why)));
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::More;

    #[test]
    fn each_version_has_its_own_files() {
        let more = More {
            cpu_burst: Some(5),
            cpu_idle: Some(1),
            realtime_runtime: Some(7),
            realtime_period: Some(9),
            ..More::default()
        };
        let limits = Limits { more, ..Limits::default() };
        let files = |version| -> Vec<_> {
            settings(version, &limits).into_iter().map(|it| format!("{}={}", it.file, it.value)).collect()
        };
        assert_eq!(files(Version::V2), ["cpu.max.burst=5", "cpu.idle=1"]);
        let v1 = ["cpu.cfs_burst_us=5", "cpu.rt_period_us=9", "cpu.rt_runtime_us=7", "cpu.idle=1"];
        assert_eq!(files(Version::V1), v1);
    }
}
