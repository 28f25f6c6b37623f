//! Beyond this chapter: the limits that container engines ask for besides, each for one controller.
//!
//! Most are of the kind that nobody types: an engine passes them on from its own configuration. Some exist in one version alone,
//! and asking for one where it is not is an error that names what there is instead, never a limit that silently does nothing.
//!
//! See runtime-spec: config-linux.md, "Control groups"; kernel: cgroup-v2.rst, cgroup-v1/.

use crate::Error;
use crate::devices::DeviceRule;
use crate::limits::invalid;

/// Beside [`crate::Limits`]. `None`, or an empty list, leaves the kernel's own value alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct More {
    /// Leaves swap alone where no limit on it was given; else there is as much of it as of memory, as Docker has it.
    pub swap_untouched: bool,
    /// Refuses a limit on memory that is below what is in use already: it would kill.
    pub check_before_update: bool,
    /// How readily memory is swapped out, 0 to 100. Version 1 alone.
    pub swappiness: Option<u64>,
    /// At the memory limit processes wait instead of being killed. Version 1 alone.
    pub oom_kill_disable: Option<bool>,
    /// Time saved up in quiet periods that may be used above the quota, in microseconds.
    pub cpu_burst: Option<u64>,
    /// 1: it runs only when nobody else wants the processor (SCHED_IDLE for all of it).
    pub cpu_idle: Option<i64>,
    /// Time of each realtime period for tasks with a realtime priority, in microseconds. Version 1 alone.
    pub realtime_runtime: Option<i64>,
    /// That period, in microseconds. Version 1 alone.
    pub realtime_period: Option<u64>,
    /// Its share of block devices while they are contended, 10 to 1000.
    pub io_weight: Option<u16>,
    /// The same for tasks in the cgroup itself, against the cgroups below it. Version 1 alone.
    pub io_leaf_weight: Option<u16>,
    /// Shares of single devices.
    pub io_device_weights: Vec<IoWeight>,
    /// The class of its packets, for `tc`. Version 1 alone.
    pub net_class: Option<u32>,
    /// The priority of its packets on an interface. Version 1 alone.
    pub net_priorities: Vec<(String, u32)>,
    /// Limits of RDMA devices.
    pub rdma: Vec<RdmaMax>,
    /// Any file of version 2, and what is written into it.
    pub unified: Vec<(String, String)>,
    /// Which device nodes work: the rules in their order, the last that fits decides, and what fits none is denied. `None`: all
    /// that work around it.
    pub devices: Option<Vec<DeviceRule>>,
    /// Uses every controller of version 1, and not only those that a limit needs: for an engine that reads their files itself.
    pub wide: bool,
}

/// Shares of one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoWeight {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000; version 1 alone.
    pub leaf_weight: Option<u16>,
}

/// Limits of one RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaMax {
    /// Its name: `mlx5_0`.
    pub device: String,
    /// Handles that may be open.
    pub handles: Option<u32>,
    /// Objects that may be made.
    pub objects: Option<u32>,
}

impl More {
    /// Refuses what no kernel would take.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let devices = self.io_device_weights.iter().flat_map(|it| [it.weight, it.leaf_weight]);
        for weight in [self.io_weight, self.io_leaf_weight].into_iter().chain(devices).flatten() {
            if !(10..=1000).contains(&weight) {
                return invalid("blockIO.weight", &weight, "it must be 10 to 1000");
            }
        }
        if let Some(idle) = self.cpu_idle.filter(|idle| !(0..=1).contains(idle)) {
            return invalid("cpu.idle", &idle, "it is 0 or 1");
        }
        if let Some(swappiness) = self.swappiness.filter(|it| *it > 100) {
            return invalid("memory.swappiness", &swappiness, "it must be 0 to 100");
        }
        let name = |name: &str| {
            name.contains('/') || name.contains(char::is_whitespace) || name.contains('\n') || name.is_empty()
        };
        for (file, _) in &self.unified {
            if name(file) || file.starts_with('.') || !file.contains('.') {
                return invalid(
                    "unified",
                    file,
                    "it must be the name of a file of the cgroup: `memory.high`",
                );
            }
        }
        if let Some((interface, _)) = self.net_priorities.iter().find(|(it, _)| name(it)) {
            return invalid("network.priorities", interface, "it is no name of an interface");
        }
        if let Some(rdma) = self.rdma.iter().find(|it| name(&it.device)) {
            return invalid("rdma", &rdma.device, "it is no name of a device");
        }
        Ok(())
    }

    /// What of it version 2 does not have, and what it has instead.
    pub(crate) fn only_in_version_1(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [
            (self.swappiness.is_some(), "memory.swappiness", "there memory.swap.max limits swap"),
            (
                self.oom_kill_disable == Some(true),
                "memory.disableOOMKiller",
                "there memory.high slows a container down before it is killed",
            ),
            (
                self.realtime_runtime.or(self.realtime_period.map(|_| 0)).is_some(),
                "cpu.realtimeRuntime",
                "there realtime tasks belong to the topmost cgroup alone",
            ),
            (
                self.has_leaf_weight(),
                "blockIO.leafWeight",
                "there a cgroup with children has no tasks of its own",
            ),
        ]
        .into_iter()
        .filter_map(|(asked, limit, instead)| asked.then_some((limit, instead)))
    }

    fn has_leaf_weight(&self) -> bool {
        self.io_leaf_weight.is_some() || self.io_device_weights.iter().any(|it| it.leaf_weight.is_some())
    }

    /// The controllers that files of [`More::unified`] belong to; none for those that every cgroup has.
    pub(crate) fn unified_controllers(&self) -> impl Iterator<Item = &str> {
        let names = self.unified.iter().filter_map(|(file, _)| file.split('.').next());
        names.filter(|name| *name != "cgroup")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn refused(more: More) -> String {
        Limits { more, ..Limits::default() }.check().unwrap_err().to_string()
    }

    #[test]
    fn a_file_of_version_2_is_a_name_and_no_path() {
        for file in ["", "..", "../memory.max", "a/b.c", ".x", "memory", "memory.max x"] {
            let more = More { unified: vec![(file.to_owned(), "1".to_owned())], ..More::default() };
            assert!(refused(more).starts_with("unified "), "{file:?}");
        }
        let unified = vec![("memory.high".into(), "1".into()), ("cgroup.max.depth".into(), "2".into())];
        let more = More { unified, ..More::default() };
        assert_eq!(more.unified_controllers().collect::<Vec<_>>(), ["memory"]);
        more.check().unwrap();
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        assert!(refused(More { io_weight: Some(9), ..More::default() }).starts_with("blockIO.weight 9"));
        assert!(refused(More { cpu_idle: Some(2), ..More::default() }).starts_with("cpu.idle 2"));
        assert!(refused(More { swappiness: Some(101), ..More::default() }).starts_with("memory.swappiness"));
    }

    #[test]
    fn rules_for_devices_are_no_limit() {
        let more = More { devices: Some(Vec::new()), wide: true, swap_untouched: true, ..More::default() };
        assert!(Limits { more, ..Limits::default() }.is_empty());
        let more = More { cpu_idle: Some(0), ..More::default() };
        assert!(!Limits { more, ..Limits::default() }.is_empty());
    }
}
