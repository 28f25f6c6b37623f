//! The controllers by name: which limit needs which, and where each is.
//!
//! One file a controller holds what it can do; this one holds what they have in common, so that nothing else in the crate asks
//! which of them it deals with.

use std::path::Path;

use crate::file::Setting;
use crate::hierarchy::{Hierarchies, Hierarchy, Version};
use crate::{Error, Limits, cpu, cpuset, hugetlb, io, memory, pids};

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
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Memory,
        Self::Cpu,
        Self::Cpuset,
        Self::Pids,
        Self::Io,
        Self::Hugetlb,
        Self::Freezer,
        Self::Cpuacct,
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
        let (asked, limit) = match self {
            Self::Memory => (
                limits.memory.is_some()
                    || limits.memory_swap.is_some()
                    || limits.memory_reservation.is_some(),
                "--memory",
            ),
            Self::Cpu if limits.cpu_weight.or(limits.cpu_shares).is_some() => (true, "--cpu-weight"),
            Self::Cpu => (limits.cpus.is_some() || limits.cpu_max.is_some(), "--cpus"),
            Self::Cpuset => (limits.cpuset.is_some() || limits.cpuset_mems.is_some(), "--cpuset"),
            Self::Pids => (limits.pids.is_some(), "--pids"),
            Self::Io => (!limits.io_max.is_empty(), "--io-max"),
            Self::Hugetlb => (!limits.hugetlb.is_empty(), "--hugetlb"),
            Self::Freezer | Self::Cpuacct => (false, ""),
        };
        asked.then_some(limit)
    }

    /// Refuses what the host cannot give, before anything is made under `base`.
    pub(crate) fn check(self, version: Version, limits: &Limits, base: &Path) -> Result<(), Error> {
        if self == Self::Cpuset { cpuset::check(version, limits, base) } else { Ok(()) }
    }

    /// What is to be written for it into the cgroup `dir`, in this order.
    pub(crate) fn settings(self, version: Version, limits: &Limits, dir: &Path) -> Vec<Setting> {
        match self {
            Self::Memory => memory::settings(version, limits, memory::total(version, dir)),
            Self::Cpu => cpu::settings(version, limits),
            Self::Cpuset => cpuset::settings(limits),
            Self::Pids => pids::settings(limits),
            Self::Io => io::settings(version, limits),
            Self::Hugetlb => hugetlb::settings(version, limits),
            Self::Freezer | Self::Cpuacct => Vec::new(),
        }
    }
}
