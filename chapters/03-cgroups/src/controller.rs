//! The controllers by name: which limit needs which, and where each is.
//!
//! One file a controller holds what it can do; this one holds what they have in common, so that nothing else in the crate asks
//! which of them it deals with.

use std::path::Path;

use crate::file::Setting;
use crate::hierarchy::{Hierarchies, Hierarchy, Version};
use crate::{
    Error, Limits, cpu, cpu_more, cpuset, device_program, devices, hugetlb, io, io_weight, memory,
    network_class, pids, rdma,
};

/// A part of the kernel that watches one resource for each cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// [`crate::memory`]
    Memory,
    /// [`crate::cpu`]
    Cpu,
    /// [`crate::cpuset`]
    Cpuset,
    /// [`crate::pids`]
    Pids,
    /// [`crate::io`]
    Io,
    /// [`crate::hugetlb`]
    Hugetlb,
    /// [`crate::freezer`]: a controller in version 1, a part of every cgroup in version 2.
    Freezer,
    /// Counts time in version 1; in version 2 every cgroup does.
    Cpuacct,
    /// [`crate::devices`]: a controller in version 1, a program in version 2.
    Devices,
    /// [`mod@crate::rdma`]
    Rdma,
    /// [`crate::network_class`], version 1 alone.
    NetCls,
    /// [`crate::network_class`], version 1 alone.
    NetPrio,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Memory,
        Self::Cpu,
        Self::Cpuset,
        Self::Pids,
        Self::Io,
        Self::Hugetlb,
        Self::Freezer,
        Self::Cpuacct,
        Self::Devices,
        Self::Rdma,
        Self::NetCls,
        Self::NetPrio,
    ];

    /// Its name in version 2, and in version 1; empty where it is no controller there.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Memory => ("memory", "memory"),
            Self::Cpu => ("cpu", "cpu"),
            Self::Cpuset => ("cpuset", "cpuset"),
            Self::Pids => ("pids", "pids"),
            Self::Io => ("io", "blkio"),
            Self::Hugetlb => ("hugetlb", "hugetlb"),
            Self::Freezer => ("", "freezer"),
            Self::Cpuacct => ("", "cpuacct"),
            Self::Devices => ("", "devices"),
            Self::Rdma => ("rdma", "rdma"),
            Self::NetCls => ("", "net_cls"),
            Self::NetPrio => ("", "net_prio"),
        }
    }

    /// Its name in the given version.
    pub fn name(self, version: Version) -> &'static str {
        let (v2, v1) = self.names();
        if version == Version::V2 { v2 } else { v1 }
    }

    /// The hierarchy that has it.
    pub(crate) fn hierarchy(self, hierarchies: &Hierarchies) -> Option<&Hierarchy> {
        let (v2, v1) = self.names();
        hierarchies.with(v2, v1)
    }

    /// The limit that needs it, as the user types it.
    pub(crate) fn asked_by(self, limits: &Limits) -> Option<&'static str> {
        let more = &limits.more;
        let any =
            |asked: &[(bool, &'static str)]| asked.iter().find(|(asked, _)| *asked).map(|(_, limit)| *limit);
        match self {
            Self::Memory => any(&[
                (limits.memory.is_some(), "--memory"),
                (limits.memory_swap.is_some(), "--memory-swap"),
                (limits.memory_reservation.is_some(), "--memory-reservation"),
                (more.swappiness.is_some(), "memory.swappiness"),
                (more.oom_kill_disable.is_some(), "memory.disableOOMKiller"),
            ]),
            Self::Cpu => any(&[
                (limits.cpu_weight.or(limits.cpu_shares).is_some(), "--cpu-weight"),
                (limits.cpus.is_some() || limits.cpu_max.is_some(), "--cpus"),
                (more.cpu_burst.is_some(), "cpu.burst"),
                (more.cpu_idle.is_some(), "cpu.idle"),
                (more.realtime_runtime.is_some() || more.realtime_period.is_some(), "cpu.realtimeRuntime"),
            ]),
            Self::Cpuset => any(&[(limits.cpuset.is_some() || limits.cpuset_mems.is_some(), "--cpuset")]),
            Self::Pids => any(&[(limits.pids.is_some(), "--pids")]),
            Self::Io => any(&[
                (!limits.io_max.is_empty(), "--io-max"),
                (more.io_weight.is_some() || !more.io_device_weights.is_empty(), "blockIO.weight"),
                (more.io_leaf_weight.is_some(), "blockIO.leafWeight"),
            ]),
            Self::Hugetlb => any(&[(!limits.hugetlb.is_empty(), "--hugetlb")]),
            Self::Rdma => any(&[(!more.rdma.is_empty(), "rdma")]),
            Self::NetCls => any(&[(more.net_class.is_some(), "network.classID")]),
            Self::NetPrio => any(&[(!more.net_priorities.is_empty(), "network.priorities")]),
            // A container that cannot have it has its nodes confined in another way.
            Self::Devices | Self::Freezer | Self::Cpuacct => None,
        }
    }

    /// Refuses what the host cannot give, before anything is made under `base`.
    pub(crate) fn check(self, version: Version, limits: &Limits, base: &Path) -> Result<(), Error> {
        let here = |(limit, _): &(&str, &str)| self.asked_by(limits).is_some() && self.owns(limit);
        if version == Version::V2
            && let Some((limit, instead)) = limits.more.only_in_version_1().find(here)
        {
            return Err(Error::OnlyInVersion1 { limit, instead });
        }
        match (self, version, &limits.more.devices) {
            (Self::Cpuset, ..) => cpuset::check(version, limits, base),
            (Self::Devices, Version::V1, Some(rules)) => devices::check(rules),
            _ => Ok(()),
        }
    }

    /// Whether a hierarchy of version 1 has it.
    pub(crate) fn is_version_1(self, hierarchies: &Hierarchies) -> bool {
        self.hierarchy(hierarchies).is_some_and(|hierarchy| hierarchy.version == Version::V1)
    }

    /// The error where no hierarchy has it.
    pub(crate) fn nowhere(self, limit: &'static str, hierarchies: &Hierarchies) -> Error {
        let (v2, v1) = self.names();
        if v2.is_empty() && hierarchies.v2().is_some() {
            let instead = "there a firewall knows the packets by the cgroup's path: `nft socket cgroupv2`";
            return Error::OnlyInVersion1 { limit, instead };
        }
        Error::NoController { controller: if v2.is_empty() { v1 } else { v2 }.to_owned(), limit }
    }

    /// Whether a limit with this name is its own.
    fn owns(self, limit: &str) -> bool {
        let name = match self {
            Self::Io => "blockIO",
            _ => self.names().0,
        };
        limit.split('.').next() == Some(name)
    }

    /// Sets it up in the cgroup `dir`.
    pub(crate) fn settle(self, version: Version, limits: &Limits, dir: &Path) -> Result<(), Error> {
        match (self, &limits.more.devices) {
            (Self::Devices, Some(rules)) if version == Version::V1 => devices::write_rules(dir, rules),
            (Self::Devices, Some(rules)) => device_program::attach(dir, rules),
            _ => self.settings(version, limits, dir).iter().try_for_each(|setting| setting.write(dir)),
        }
    }

    /// What is to be written for it into the cgroup `dir`, in this order.
    fn settings(self, version: Version, limits: &Limits, dir: &Path) -> Vec<Setting> {
        match self {
            Self::Memory => memory::all_settings(version, limits, dir),
            Self::Cpu => cpu::settings(version, limits)
                .into_iter()
                .chain(cpu_more::settings(version, limits))
                .collect(),
            Self::Cpuset => cpuset::settings(limits),
            Self::Pids => pids::settings(limits),
            Self::Io => io_weight::settings(version, limits, dir)
                .into_iter()
                .chain(io::settings(version, limits))
                .collect(),
            Self::Hugetlb => hugetlb::settings(version, limits),
            Self::Rdma => rdma::settings(limits),
            Self::NetCls => network_class::class(limits),
            Self::NetPrio => network_class::priorities(limits),
            Self::Freezer | Self::Cpuacct | Self::Devices => Vec::new(),
        }
    }
}
