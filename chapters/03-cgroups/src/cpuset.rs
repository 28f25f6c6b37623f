//! Which processors, and which memory nodes, a cgroup's processes may use.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | processors asked for | `cpuset.cpus`: empty means the parent's | `cpuset.cpus`: empty means *none* |
//! | processors in effect | `cpuset.cpus.effective` | `cpuset.effective_cpus` |
//! | memory nodes asked for | `cpuset.mems` | `cpuset.mems`: empty means *none* |
//! | memory nodes in effect | `cpuset.mems.effective` | `cpuset.effective_mems` |
//!
//! What the kernel requires: 1. a subset of what the parent has (version 1 refuses more, version 2 takes it and gives what there
//! is: we refuse both before anything is made); 2. in version 1 a new cgroup has no processor and no memory node at all, and a
//! task that enters gets ENOSPC: both lists are copied from the parent first, in each directory on the way down.
//!
//! See cpuset(7), `Cpus_allowed_list` in proc_pid_status(5); kernel: cgroup-v2.rst "Cpuset".

use std::fs;
use std::path::Path;

use crate::file::{Setting, write};
use crate::hierarchy::Version;
use crate::{Error, Limits};

/// The ranges of a list such as `0-2,5`, ends included; none where it is no such list.
pub fn parse(list: &str) -> Option<Vec<(u32, u32)>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        // A sign would be taken by parse, but not by the kernel.
        let number =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some((first, last))
    };
    list.trim().split(',').map(range).collect()
}

/// Refuses a processor or a node that the parent directory does not have.
pub(crate) fn check(version: Version, limits: &Limits, parent: &Path) -> Result<(), Error> {
    let (cpus, mems) = match version {
        Version::V2 => ("cpuset.cpus.effective", "cpuset.mems.effective"),
        Version::V1 => ("cpuset.effective_cpus", "cpuset.effective_mems"),
    };
    for (limit, asked, file) in
        [("--cpuset", &limits.cpuset, cpus), ("--cpuset-mems", &limits.cpuset_mems, mems)]
    {
        let Some(asked) = asked else { continue };
        let Ok(offered) = fs::read_to_string(parent.join(file)) else { continue };
        if !within(asked, &offered) {
            let reason = format!("this host offers {}", offered.trim());
            return Err(Error::Invalid { limit, value: asked.clone(), reason });
        }
    }
    Ok(())
}

/// Whether each number of `asked` is in `offered`. Lists that cannot be read are left to the kernel.
fn within(asked: &str, offered: &str) -> bool {
    let (Some(asked), Some(offered)) = (parse(asked), parse(offered)) else { return true };
    let has = |number: u32| offered.iter().any(|&(first, last)| (first..=last).contains(&number));
    asked.into_iter().all(|(first, last)| last - first < 8192 && (first..=last).all(has))
}

/// Requirement 2: what a cgroup of version 1 must have before a task may enter. Lists that are already there stay.
// ANCHOR: inherit
pub(crate) fn inherit(parent: &Path, dir: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let empty = |dir: &Path| fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned();
        let (from, here) = (empty(parent), empty(dir));
        if here.is_empty() && !from.is_empty() {
            write(dir, file, &from, "in version 1 a new cgroup has none, and no task could enter")?;
        }
    }
    Ok(())
}
// ANCHOR_END: inherit

/// What is to be written.
pub(crate) fn settings(limits: &Limits) -> Vec<Setting> {
    let cpus = limits.cpuset.as_ref().map(|list| {
        Setting::new("cpuset.cpus", list, "--cpuset", "the processors that its tasks may run on")
    });
    let mems = limits.cpuset_mems.as_ref().map(|list| {
        Setting::new("cpuset.mems", list, "--cpuset-mems", "the memory nodes that it may allocate from")
    });
    cpus.into_iter().chain(mems).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_numbers_and_ranges() {
        assert_eq!(parse("0-2,5\n"), Some(vec![(0, 2), (5, 5)]));
        for wrong in ["", "0-", "-1", "2-1", "a", "0,,1", "+1", "0-1-2", "4294967296"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_what_the_parent_has_can_be_asked_for() {
        assert!(within("0,3", "0-3\n"));
        assert!(within("1-2", "0-1,2-3"));
        assert!(!within("4", "0-3"));
        assert!(!within("0-4000000000", "0-3"));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cpuset.cpus.effective"), "0-1\n").unwrap();
        let limits = Limits { cpuset: Some("7".into()), ..Limits::default() };
        let error = check(Version::V2, &limits, dir.path()).unwrap_err();
        assert_eq!(error.to_string(), "--cpuset 7: this host offers 0-1");
    }

    #[test]
    fn lists_are_copied_from_the_parent_only_where_there_are_none() {
        let (parent, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (place, cpus, mems) in [(&parent, "0-3\n", "0\n"), (&dir, "\n", "1\n")] {
            fs::write(place.path().join("cpuset.cpus"), cpus).unwrap();
            fs::write(place.path().join("cpuset.mems"), mems).unwrap();
        }
        inherit(parent.path(), dir.path()).unwrap();
        assert!(fs::read_to_string(dir.path().join("cpuset.cpus")).unwrap().starts_with("0-3"));
        assert_eq!(fs::read_to_string(dir.path().join("cpuset.mems")).unwrap(), "1\n");
    }
}
