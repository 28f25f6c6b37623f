//! Memory: how much, and what happens at the limit.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | limit | `memory.max` | `memory.limit_in_bytes` |
//! | swap | `memory.swap.max`: swap alone | `memory.memsw.limit_in_bytes`: memory and swap together |
//! | kept back when memory is short | `memory.low` | `memory.soft_limit_in_bytes` |
//! | in use | `memory.current` | `memory.usage_in_bytes` |
//! | most ever used | `memory.peak` | `memory.max_usage_in_bytes` |
//! | page cache that could be dropped | `memory.stat`: `inactive_file` | `memory.stat`: `total_inactive_file` |
//! | times the limit was hit | `memory.events`: `max` | `memory.failcnt` |
//! | processes killed for it | `memory.events`: `oom_kill` | `memory.oom_control`: `oom_kill` |
//!
//! At the limit the kernel first drops page cache and swaps out; only when that frees nothing the *OOM killer* sends SIGKILL to
//! the largest process **of this cgroup**. Nobody outside is touched: that is what makes the limit a wall and not a wish.
//!
//! What the kernel requires: 1. version 1 never lets memory exceed memory and swap together, so the order in which the two
//! are written depends on which way they move; 2. the files for swap exist only where the host accounts for it
//! (`swapaccount=0` turns it off, and Debian's old kernels had it off).
//!
//! See cgroups(7); kernel: cgroup-v2.rst "Memory", cgroup-v1/memory.rst.

use std::path::Path;

use crate::file::{Missing, Setting, keyed, number};
use crate::hierarchy::Version;
use crate::size::human;
use crate::{Error, Limits};

/// What the kernel tells of a cgroup's memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use now, page cache included.
    pub current: u64,
    /// The most that was ever in use, where the kernel keeps it (version 2: from 5.19).
    pub peak: Option<u64>,
    /// The limit.
    pub limit: Option<u64>,
    /// Page cache that could be dropped at once: Docker subtracts it from what it calls in use.
    pub inactive_file: u64,
    /// How often the limit was hit, killing or not.
    pub limit_hits: u64,
    /// How many processes were killed at the limit.
    pub oom_kills: u64,
}

const NO_SWAP_ACCOUNTING: Missing = Missing::Refuse {
    limit: "--memory-swap",
    remedy: "the host does not account for swap: boot it with swapaccount=1",
};

/// What is to be written, in this order. `total` is the present limit of memory and swap together (version 1).
// ANCHOR: settings
pub(crate) fn settings(version: Version, limits: &Limits, total: u64) -> Vec<Setting> {
    let (max, low) = match version {
        Version::V2 => ("memory.max", "memory.low"),
        Version::V1 => ("memory.limit_in_bytes", "memory.soft_limit_in_bytes"),
    };
    let mut settings: Vec<_> = limits
        .memory
        .map(|bytes| {
            let why = "above this the kernel reclaims, and then kills";
            Setting::new(max, &amount(version, bytes), "--memory", why)
        })
        .into_iter()
        .collect();
    let raises = limits.memory.is_some_and(|memory| memory > total);
    settings.splice(if raises { 0..0 } else { settings.len()..settings.len() }, swap(version, limits));
    settings.extend(limits.memory_reservation.map(|bytes| {
        let why = "what is left to it when the host runs short";
        Setting::new(low, &amount(version, bytes), "--memory-reservation", why)
    }));
    settings
}
// ANCHOR_END: settings

/// A number of bytes; `u64::MAX` is no limit, for which each version has its own word.
fn amount(version: Version, bytes: u64) -> String {
    match version {
        _ if bytes < u64::MAX => bytes.to_string(),
        Version::V2 => "max".to_owned(),
        Version::V1 => "-1".to_owned(),
    }
}

/// The same with what [`crate::more`] asks for, for the cgroup `dir`.
pub(crate) fn all_settings(version: Version, limits: &Limits, dir: &Path) -> Vec<Setting> {
    let mut all = settings(version, limits, total(version, dir));
    if version == Version::V1 {
        let more = &limits.more;
        let why = "how readily its memory is swapped out";
        all.extend(
            more.swappiness.map(|it| Setting::new("memory.swappiness", &it, "memory.swappiness", why)),
        );
        let why = "at the limit its processes wait until there is room, and are not killed";
        let file = "memory.oom_control";
        all.extend(
            more.oom_kill_disable.map(|it| Setting::new(file, &u8::from(it), "memory.disableOOMKiller", why)),
        );
    }
    all
}

/// Refuses a limit that is below what is in use, where that was asked for.
pub(crate) fn check(version: Version, limits: &Limits, dir: &Path) -> Result<(), Error> {
    let file = if version == Version::V2 { "memory.current" } else { "memory.usage_in_bytes" };
    let asked = limits.memory.filter(|_| limits.more.check_before_update);
    match (asked, asked.and_then(|_| number(dir, file))) {
        (Some(limit), Some(used)) if used > limit => {
            let reason = format!("{} are in use already, and would be killed for it", human(used));
            Err(Error::Invalid { limit: "--memory", value: human(limit), reason })
        }
        _ => Ok(()),
    }
}

/// Swap: asked for, or Docker's rule that there is as much of it as of memory.
fn swap(version: Version, limits: &Limits) -> Option<Setting> {
    let asked = limits.memory_swap.is_some_and(|total| total >= 0);
    // Where the host does not account for swap there is no limit on it, as -1 asks for.
    let missing = if asked { NO_SWAP_ACCOUNTING } else { Missing::Skip };
    let total = match (limits.memory_swap, limits.memory) {
        (Some(total), _) => u64::try_from(total).ok(),
        (None, Some(_)) if limits.more.swap_untouched => return None,
        (None, Some(u64::MAX)) => None,
        (None, Some(memory)) => Some(memory.saturating_mul(2).min(i64::MAX.unsigned_abs())),
        (None, None) => return None,
    };
    let (file, value) = match (version, total) {
        (Version::V2, None) => ("memory.swap.max", "max".to_owned()),
        (Version::V2, Some(total)) => {
            ("memory.swap.max", total.saturating_sub(limits.memory.unwrap_or(0)).to_string())
        }
        (Version::V1, None) => ("memory.memsw.limit_in_bytes", "-1".to_owned()),
        (Version::V1, Some(total)) => ("memory.memsw.limit_in_bytes", total.to_string()),
    };
    let why = "else what does not fit in memory would fill the host's swap";
    Some(Setting::new(file, &value, "--memory-swap", why).missing(missing))
}

/// The present limit of memory and swap together, which decides in which order the two may be written.
pub(crate) fn total(version: Version, dir: &Path) -> u64 {
    let file = (version == Version::V1).then(|| number(dir, "memory.memsw.limit_in_bytes"));
    file.flatten().unwrap_or(u64::MAX)
}

/// Reads the state back.
pub(crate) fn stats(version: Version, dir: &Path) -> Option<MemoryStats> {
    let (current, peak, max, inactive, hits) = match version {
        Version::V2 => (
            "memory.current",
            "memory.peak",
            "memory.max",
            "inactive_file",
            keyed(dir, "memory.events", "max"),
        ),
        Version::V1 => (
            "memory.usage_in_bytes",
            "memory.max_usage_in_bytes",
            "memory.limit_in_bytes",
            "total_inactive_file",
            number(dir, "memory.failcnt"),
        ),
    };
    Some(MemoryStats {
        current: number(dir, current)?,
        peak: number(dir, peak),
        // Version 1 has no word for "no limit": it shows the largest number of whole pages.
        limit: number(dir, max).filter(|&bytes| bytes < i64::MAX.unsigned_abs() - 0xffff),
        inactive_file: keyed(dir, "memory.stat", inactive).unwrap_or(0),
        limit_hits: hits.unwrap_or(0),
        oom_kills: oom_kills(version, dir),
    })
}

/// How many processes the kernel has killed at the limit.
// ANCHOR: oom_kills
pub(crate) fn oom_kills(version: Version, dir: &Path) -> u64 {
    let file = match version {
        Version::V2 => "memory.events",
        Version::V1 => "memory.oom_control",
    };
    keyed(dir, file, "oom_kill").unwrap_or(0)
}
// ANCHOR_END: oom_kills

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(version: Version, limits: &Limits, total: u64) -> Vec<(String, String)> {
        settings(version, limits, total).into_iter().map(|setting| (setting.file, setting.value)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
    }

    fn limits(memory: Option<u64>, memory_swap: Option<i64>) -> Limits {
        Limits { memory, memory_swap, ..Limits::default() }
    }

    #[test]
    fn version_2_counts_swap_alone_and_version_1_with_memory() {
        let asked = limits(Some(100), Some(150));
        assert_eq!(
            plan(Version::V2, &asked, u64::MAX),
            pairs(&[("memory.max", "100"), ("memory.swap.max", "50")])
        );
        assert_eq!(
            plan(Version::V1, &asked, u64::MAX),
            pairs(&[("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "150")])
        );
    }

    #[test]
    fn unlimited_swap_has_its_own_word_in_each() {
        let asked = limits(Some(100), Some(-1));
        assert_eq!(plan(Version::V2, &asked, u64::MAX)[1], ("memory.swap.max".into(), "max".into()));
        assert_eq!(plan(Version::V1, &asked, u64::MAX)[1].1, "-1");
    }

    #[test]
    fn raising_writes_the_sum_first_and_lowering_last() {
        let asked = limits(Some(200), Some(300));
        assert_eq!(plan(Version::V1, &asked, 150)[0].0, "memory.memsw.limit_in_bytes");
        assert_eq!(plan(Version::V1, &asked, 400)[0].0, "memory.limit_in_bytes");
    }

    #[test]
    fn swap_that_nobody_asked_for_may_be_missing() {
        let missing = |asked: &Limits| settings(Version::V2, asked, u64::MAX).last().unwrap().missing;
        assert_eq!(missing(&limits(Some(100), None)), Missing::Skip);
        assert_eq!(missing(&limits(Some(100), Some(100))), NO_SWAP_ACCOUNTING);
        assert_eq!(plan(Version::V2, &limits(Some(100), None), u64::MAX)[1].1, "100");
        assert!(plan(Version::V2, &Limits::default(), u64::MAX).is_empty());
    }

    #[test]
    fn both_versions_tell_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        put("memory.current", "4096\n");
        put("memory.max", "max\n");
        put("memory.stat", "anon 1\ninactive_file 12\ntotal_inactive_file 13\n");
        put("memory.events", "low 0\nmax 9\noom 2\noom_kill 1\n");
        let v2 = stats(Version::V2, dir.path()).unwrap();
        assert_eq!(
            (v2.current, v2.limit, v2.limit_hits, v2.oom_kills, v2.inactive_file),
            (4096, None, 9, 1, 12)
        );
        put("memory.usage_in_bytes", "4096\n");
        put("memory.limit_in_bytes", "9223372036854771712\n");
        put("memory.failcnt", "9\n");
        put("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
        assert_eq!(stats(Version::V1, dir.path()).unwrap(), MemoryStats { inactive_file: 13, ..v2 });
    }
}
