//! Beyond this chapter: all that the kernel counts of a cgroup, under the headings that container engines have for it.
//!
//! [`crate::stats`] tells a person what matters. Engines' protocols were made when there was version 1 alone, and ask for what its
//! files have; of version 2 the nearest is given: swap *with* memory, nanoseconds, a line for each kind of request. What a host
//! does not count is zero, or empty.
//!
//! See cgroups(7); kernel: cgroup-v2.rst, cgroup-v1/.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::controller::Controller;
use crate::cpuset;
use crate::file::{keyed, number};
use crate::hierarchy::Version;
use crate::{Cgroup, io};

/// What is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, in nanoseconds.
    pub cpu: CpuUsage,
    /// The processors it may run on.
    pub cpus: Vec<u32>,
    /// The memory nodes it may allocate from.
    pub mems: Vec<u32>,
    /// Memory.
    pub memory: MemoryUsage,
    /// Tasks now.
    pub pids: u64,
    /// The limit; zero for none.
    pub pids_limit: u64,
    /// Bytes read and written, in all.
    pub io_bytes: Vec<IoCount>,
    /// Requests, in all.
    pub io_requests: Vec<IoCount>,
    /// Huge pages, by the size of page.
    pub hugetlb: BTreeMap<String, Counter>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// In all.
    pub total: u64,
    /// Of each processor. Version 1 alone.
    pub each: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
    /// Periods in which it wanted to run.
    pub periods: u64,
    /// Periods at whose end it stood still.
    pub throttled_periods: u64,
    /// How long it stood still.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Page cache.
    pub cache: u64,
    /// All of it.
    pub usage: Counter,
    /// With swap.
    pub swap: Counter,
    /// The kernel's part. Version 1 alone.
    pub kernel: Counter,
    /// The part of the kernel's that is TCP's. Version 1 alone.
    pub kernel_tcp: Counter,
    /// `memory.stat`, as it is.
    pub raw: BTreeMap<String, u64>,
}

/// What is counted and limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    /// The limit; `u64::MAX` for none.
    pub limit: u64,
    /// In use now.
    pub usage: u64,
    /// The most ever in use.
    pub max: u64,
    /// How often the limit was hit.
    pub hits: u64,
}

/// A number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoCount {
    /// Its major and minor number.
    pub device: (u32, u32),
    /// `Read` or `Write`.
    pub what: &'static str,
    /// The number.
    pub value: u64,
}

impl Cgroup {
    /// Reads it all.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        if let Some(stats) = self.stats().cpu {
            let nanos = |micros: u64| micros.saturating_mul(1000);
            usage.cpu = CpuUsage {
                total: nanos(stats.usage),
                each: Vec::new(),
                kernel: nanos(stats.system),
                user: nanos(stats.user),
                periods: stats.periods,
                throttled_periods: stats.throttled_periods,
                throttled_time: nanos(stats.throttled),
            };
        }
        for place in self.places() {
            for controller in &place.controllers {
                usage.read(*controller, place.version, &place.dir);
            }
        }
        usage
    }
}

impl Usage {
    fn read(&mut self, controller: Controller, version: Version, dir: &Path) {
        let text = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
        match controller {
            Controller::Cpuacct => {
                let each = text("cpuacct.usage_percpu");
                self.cpu.each = each.split_whitespace().filter_map(|it| it.parse().ok()).collect();
            }
            Controller::Cpuset => {
                let (cpus, mems) = match version {
                    Version::V2 => ("cpuset.cpus.effective", "cpuset.mems.effective"),
                    Version::V1 => ("cpuset.effective_cpus", "cpuset.effective_mems"),
                };
                (self.cpus, self.mems) = (numbers(&text(cpus)), numbers(&text(mems)));
            }
            Controller::Memory => self.memory = memory(version, dir),
            Controller::Pids => {
                self.pids = number(dir, "pids.current").unwrap_or(0);
                self.pids_limit = number(dir, "pids.max").unwrap_or(0);
            }
            Controller::Io => {
                for stats in io::stats(version, dir) {
                    let pair = |read, write| {
                        let count = |what, value| IoCount { device: stats.device, what, value };
                        [count("Read", read), count("Write", write)]
                    };
                    self.io_bytes.extend(pair(stats.read_bytes, stats.write_bytes));
                    self.io_requests.extend(pair(stats.reads, stats.writes));
                }
            }
            Controller::Hugetlb => self.hugetlb = hugetlb(version, dir),
            _ => {}
        }
    }
}

fn numbers(list: &str) -> Vec<u32> {
    cpuset::parse(list).into_iter().flatten().flat_map(|(first, last)| first..=last).collect()
}

fn memory(version: Version, dir: &Path) -> MemoryUsage {
    let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
    let pairs = stat.lines().filter_map(|line| line.split_once(' '));
    let raw: BTreeMap<_, _> =
        pairs.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect();
    let of = |key: &str| raw.get(key).copied().unwrap_or(0);
    match version {
        Version::V1 => {
            let counter = |name: &str| Counter {
                limit: number(dir, &format!("{name}.limit_in_bytes")).unwrap_or(0),
                usage: number(dir, &format!("{name}.usage_in_bytes")).unwrap_or(0),
                max: number(dir, &format!("{name}.max_usage_in_bytes")).unwrap_or(0),
                hits: number(dir, &format!("{name}.failcnt")).unwrap_or(0),
            };
            MemoryUsage {
                cache: of("cache"),
                usage: counter("memory"),
                swap: counter("memory.memsw"),
                kernel: counter("memory.kmem"),
                kernel_tcp: counter("memory.kmem.tcp"),
                raw,
            }
        }
        Version::V2 => {
            let counter = |name: &str| Counter {
                limit: number(dir, &format!("{name}.max")).unwrap_or(u64::MAX),
                usage: number(dir, &format!("{name}.current")).unwrap_or(0),
                max: number(dir, &format!("{name}.peak")).unwrap_or(0),
                hits: keyed(dir, &format!("{name}.events"), "max").unwrap_or(0),
            };
            let (usage, swap) = (counter("memory"), counter("memory.swap"));
            let swap = Counter {
                limit: usage.limit.saturating_add(swap.limit),
                usage: usage.usage + swap.usage,
                ..Counter::default()
            };
            MemoryUsage { cache: of("file"), usage, swap, raw, ..MemoryUsage::default() }
        }
    }
}

/// By the names of the files: `hugetlb.2MB.max`.
fn hugetlb(version: Version, dir: &Path) -> BTreeMap<String, Counter> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let end = if version == Version::V2 { ".current" } else { ".usage_in_bytes" };
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(end)?;
        (!size.contains('.')).then(|| size.to_owned())
    });
    let counter = |size: String| {
        let file = |end: &str| number(dir, &format!("hugetlb.{size}.{end}"));
        let counter = match version {
            Version::V2 => Counter {
                limit: file("max").unwrap_or(u64::MAX),
                usage: file("current").unwrap_or(0),
                max: 0,
                hits: keyed(dir, &format!("hugetlb.{size}.events"), "max").unwrap_or(0),
            },
            Version::V1 => Counter {
                limit: file("limit_in_bytes").unwrap_or(0),
                usage: file("usage_in_bytes").unwrap_or(0),
                max: file("max_usage_in_bytes").unwrap_or(0),
                hits: file("failcnt").unwrap_or(0),
            },
        };
        (size, counter)
    };
    sizes.map(counter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_told_with_memory_in_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        put("memory.current", "100\n");
        put("memory.max", "1000\n");
        put("memory.swap.current", "5\n");
        put("memory.swap.max", "50\n");
        put("memory.stat", "anon 1\nfile 7\n");
        put("memory.events", "max 3\n");
        let memory = memory(Version::V2, dir.path());
        assert_eq!(
            (memory.swap.usage, memory.swap.limit, memory.cache, memory.usage.hits),
            (105, 1050, 7, 3)
        );
        assert_eq!(memory.raw["anon"], 1);
        put("memory.swap.max", "max\n");
        assert_eq!(super::memory(Version::V2, dir.path()).swap.limit, u64::MAX);
    }

    #[test]
    fn huge_pages_are_found_by_their_files() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in
            [("hugetlb.2MB.current", "5"), ("hugetlb.2MB.rsvd.current", "6"), ("hugetlb.2MB.max", "9")]
        {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let pages = hugetlb(Version::V2, dir.path());
        assert_eq!(pages.len(), 1);
        assert_eq!((pages["2MB"].usage, pages["2MB"].limit), (5, 9));
    }

    #[test]
    fn a_list_is_told_number_by_number() {
        assert_eq!(numbers("0-2,5\n"), [0, 1, 2, 5]);
        assert!(numbers("\n").is_empty());
    }
}
