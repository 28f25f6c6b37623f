//! How many tasks a cgroup may have: the end of the fork bomb.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | limit | `pids.max` | `pids.max` |
//! | now | `pids.current` | `pids.current` |
//! | how often a fork was refused | `pids.events`: `max` | `pids.events`: `max` |
//!
//! The one controller whose files have the same names in both versions. A *task* is a process or a thread. At the limit fork(2)
//! and clone(2) fail with EAGAIN; nobody is killed. Without it one container takes every process id of the host, and nobody can
//! log in to stop it.
//!
//! See cgroups(7); kernel: cgroup-v2.rst "PID", cgroup-v1/pids.rst.

use std::path::Path;

use crate::Limits;
use crate::file::{Setting, keyed, number};

/// What the kernel tells of a cgroup's tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Tasks now.
    pub current: u64,
    /// The limit.
    pub limit: Option<u64>,
    /// How often a fork was refused.
    pub refused: u64,
}

/// What is to be written.
// ANCHOR: settings
pub(crate) fn settings(limits: &Limits) -> Vec<Setting> {
    let value = |limit: i64| if limit <= 0 { "max".to_owned() } else { limit.to_string() };
    let why = "at the limit fork fails with EAGAIN, here and nowhere else";
    limits.pids.map(|limit| Setting::new("pids.max", &value(limit), "--pids", why)).into_iter().collect()
}
// ANCHOR_END: settings

/// Reads the state back.
pub(crate) fn stats(dir: &Path) -> Option<PidsStats> {
    Some(PidsStats {
        current: number(dir, "pids.current")?,
        limit: number(dir, "pids.max"),
        refused: keyed(dir, "pids.events", "max").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_positive_is_no_limit() {
        let value = |pids| settings(&Limits { pids: Some(pids), ..Limits::default() })[0].value.clone();
        assert_eq!(value(64), "64");
        assert_eq!((value(0), value(-1)), ("max".into(), "max".into()));
        assert!(settings(&Limits::default()).is_empty());
    }
}
