//! What a cgroup uses, and what its limits have done: read back from the kernel.
//!
//! A limit that nobody hears of is a riddle: a program "just dies" or "is just slow". So the end of a container is told with
//! what the kernel counted: processes killed for memory, periods stood still for cpu time, forks refused.

use std::fmt::{self, Display, Write as _};

use crate::cgroup::Cgroup;
use crate::controller::Controller;
use crate::cpu::{self, CpuStats};
use crate::freezer::FreezerState;
use crate::hierarchy::Version;
use crate::io::{self, IoStats};
use crate::memory::{self, MemoryStats};
use crate::pids::{self, PidsStats};
use crate::size::human;

/// Everything that the kernel tells of a cgroup. What the host has no controller for is `None`, or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Block devices, one entry each.
    pub io: Vec<IoStats>,
    /// Whether its processes run.
    pub freezer: Option<FreezerState>,
}

impl Cgroup {
    /// Reads the state of all its controllers.
    pub fn stats(&self) -> Stats {
        let place = |controller| self.with(controller).map(|place| (place.version, place.dir.as_path()));
        // Every cgroup of version 2 counts time, also without the controller.
        let usage = self.v2().map(|place| (Version::V2, place.dir.as_path()));
        Stats {
            memory: place(Controller::Memory).and_then(|(version, dir)| memory::stats(version, dir)),
            cpu: cpu::stats(place(Controller::Cpu), usage.or_else(|| place(Controller::Cpuacct))),
            pids: place(Controller::Pids).and_then(|(_, dir)| pids::stats(dir)),
            io: place(Controller::Io).map(|(version, dir)| io::stats(version, dir)).unwrap_or_default(),
            freezer: self.freezer_state().ok(),
        }
    }

    /// How many of its processes the kernel has killed at the memory limit.
    pub fn oom_kills(&self) -> u64 {
        self.with(Controller::Memory).map_or(0, |place| memory::oom_kills(place.version, &place.dir))
    }
}

impl Stats {
    /// One line that tells what the limits have done to the container; none where they did nothing.
    // ANCHOR: verdict
    pub fn verdict(&self) -> Option<String> {
        let mut told = Vec::new();
        if let Some(memory) = self.memory.filter(|memory| memory.oom_kills > 0) {
            let limit = memory.limit.map_or(String::new(), |limit| format!(" of {}", human(limit)));
            told.push(format!(
                "{} killed at the memory limit{limit}",
                count(memory.oom_kills, "process", "processes")
            ));
        }
        if let Some(cpu) = self.cpu.filter(|cpu| cpu.throttled_periods > 0) {
            let (seconds, millis) = (cpu.throttled / 1_000_000, cpu.throttled / 1000 % 1000);
            told.push(format!(
                "throttled in {} of {} periods, {seconds}.{millis:03} s in all",
                cpu.throttled_periods, cpu.periods
            ));
        }
        if let Some(pids) = self.pids.filter(|pids| pids.refused > 0) {
            let limit =
                pids.limit.map_or(String::new(), |limit| format!(" of {}", count(limit, "task", "tasks")));
            told.push(format!("{} refused at the limit{limit}", count(pids.refused, "fork", "forks")));
        }
        (!told.is_empty()).then(|| told.join("; "))
    }
    // ANCHOR_END: verdict
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

impl Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of =
            |limit: Option<String>| limit.map_or("no limit".to_owned(), |limit| format!("limit {limit}"));
        if let Some(memory) = &self.memory {
            let peak = memory.peak.map_or(String::new(), |peak| format!(", most {}", human(peak)));
            let limit = of(memory.limit.map(human));
            let (hits, kills) = (memory.limit_hits, memory.oom_kills);
            writeln!(
                f,
                "memory  {}, {limit}{peak}, limit hit {hits}, killed {kills}",
                human(memory.current)
            )?;
        }
        if let Some(cpu) = &self.cpu {
            let ms = |micros: u64| format!("{}.{:03} s", micros / 1_000_000, micros / 1000 % 1000);
            let mut line = format!("{}, user {}, system {}", ms(cpu.usage), ms(cpu.user), ms(cpu.system));
            if cpu.periods > 0 {
                let _ = write!(line, ", throttled in {} of {} periods", cpu.throttled_periods, cpu.periods);
            }
            writeln!(f, "cpu     {line}")?;
        }
        if let Some(pids) = &self.pids {
            let limit = of(pids.limit.map(|limit| limit.to_string()));
            writeln!(f, "pids    {}, {limit}, forks refused {}", pids.current, pids.refused)?;
        }
        for io in &self.io {
            let (major, minor) = io.device;
            let (read, written) = (human(io.read_bytes), human(io.write_bytes));
            writeln!(
                f,
                "io      {major}:{minor} read {read} in {}, written {written} in {}",
                io.reads, io.writes
            )?;
        }
        match self.freezer {
            Some(FreezerState::Thawed) => writeln!(f, "state   running"),
            Some(FreezerState::Freezing) => writeln!(f, "state   freezing"),
            Some(FreezerState::Frozen) => writeln!(f, "state   frozen"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Stats = Stats { memory: None, cpu: None, pids: None, io: Vec::new(), freezer: None };

    #[test]
    fn who_met_no_limit_is_told_nothing() {
        assert_eq!(QUIET.verdict(), None);
        let memory = MemoryStats { current: 1, limit_hits: 5, ..MemoryStats::default() };
        assert_eq!(Stats { memory: Some(memory), ..QUIET }.verdict(), None);
    }

    #[test]
    fn what_the_limits_did_is_told_in_one_line() {
        let stats = Stats {
            memory: Some(MemoryStats { limit: Some(64 << 20), oom_kills: 1, ..MemoryStats::default() }),
            cpu: Some(CpuStats {
                periods: 9,
                throttled_periods: 7,
                throttled: 1_234_567,
                ..CpuStats::default()
            }),
            pids: Some(PidsStats { limit: Some(64), refused: 2, ..PidsStats::default() }),
            ..QUIET
        };
        assert_eq!(
            stats.verdict().unwrap(),
            "1 process killed at the memory limit of 64m; throttled in 7 of 9 periods, 1.234 s in all; 2 forks refused at the limit of 64 tasks"
        );
    }
}
