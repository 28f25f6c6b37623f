//! Give controllers down the tree of version 2, and keep its one rule.
//!
//! In version 2 a controller is in a cgroup only if the parent has shared it out: its name with a `+` is written into the
//! *parent's* `cgroup.subtree_control`, and so on from the top. What may be shared out is in `cgroup.controllers`.
//!
//! What the kernel requires: 1. from the top down: a cgroup can only give what it got; 2. **no internal processes**: a cgroup
//! that shares out controllers holds no process itself, only its children do, else EBUSY. The topmost cgroup of all is exempt.
//!
//! Root makes cgroups at the top, where requirement 2 does not count. An ordinary user's delegated cgroup is the one that
//! this very process runs in, so the process *steps aside* first, into a child of its own, and comes back at the end.
//! It never moves a process of anybody else.
//!
//! See cgroups(7) "Cgroups v2 subtree control" and "no internal processes".

use std::path::{Path, PathBuf};
use std::process;

use nix::errno::Errno;
use step::step;

use crate::Error;
use crate::file::{read, write};

/// Shares out the controllers `names` to the children of the cgroup `dir`: requirement 1, one level of it.
// ANCHOR: enable
pub(crate) fn enable(dir: &Path, names: &[&str]) -> Result<Vec<String>, Error> {
    let enabled = read(&dir.join("cgroup.subtree_control"))?;
    let missing: Vec<String> =
        names.iter().filter(|name| !has(&enabled, name)).map(|name| (*name).to_owned()).collect();
    if !missing.is_empty() {
        let list: Vec<_> = missing.iter().map(|name| format!("+{name}")).collect();
        let why = "a child has only the controllers that its parent shares out";
        write(dir, "cgroup.subtree_control", &list.join(" "), why)?;
    }
    Ok(missing)
}
// ANCHOR_END: enable

fn has(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|word| word == name)
}

/// Whether the kernel refused because of requirement 2.
pub(crate) fn is_occupied(error: &Error) -> bool {
    matches!(error, Error::Step(step) if step.errno() == Some(Errno::EBUSY) && step.operands().starts_with("cgroup.subtree_control"))
}

/// This process, out of the way of requirement 2.
#[derive(Debug)]
pub(crate) struct Aside {
    base: PathBuf,
    leaf: PathBuf,
    /// What was shared out meanwhile, and by whom: taken back before this process can come back.
    shared: Vec<(PathBuf, Vec<String>)>,
}

impl Aside {
    /// Moves this process out of `base` into the child `sampan/runtime-PID`, where it is the only one in `base`.
    // ANCHOR: aside
    pub(crate) fn step(base: &Path, folder: &Path) -> Result<Self, Error> {
        let own = process::id().to_string();
        if read(&base.join("cgroup.procs"))?.lines().any(|pid| pid != own) {
            return Err(Error::Occupied { path: base.to_owned() });
        }
        let leaf = folder.join(format!("runtime-{own}"));
        step(
            "mkdir",
            format_args!("{}", leaf.display()),
            "a cgroup that shares out controllers holds no process itself",
        )
        .run(|| std::fs::create_dir_all(&leaf))?;
        write(
            &leaf,
            "cgroup.procs",
            "0",
            "this process steps aside, so that its cgroup may share out controllers",
        )?;
        Ok(Self { base: base.to_owned(), leaf, shared: Vec::new() })
    }
    // ANCHOR_END: aside

    /// Remembers what was shared out, topmost cgroup first.
    pub(crate) fn shared(&mut self, dir: &Path, names: Vec<String>) {
        if !names.is_empty() {
            self.shared.push((dir.to_owned(), names));
        }
    }

    /// Takes back what was shared out, returns to the cgroup in which this process began, and removes the child.
    ///
    /// Another container of the same user may still need it all; then this process stays aside, and systemd removes the scope
    /// with everything in it at the end.
    pub(crate) fn come_back(self) -> Result<(), Error> {
        for (dir, names) in self.shared.iter().rev() {
            let list: Vec<_> = names.iter().map(|name| format!("-{name}")).collect();
            match write(dir, "cgroup.subtree_control", &list.join(" "), "no child needs them any more") {
                Err(error) if is_occupied(&error) => return Ok(()),
                other => other?,
            }
        }
        match write(&self.base, "cgroup.procs", "0", "this process returns to where it began") {
            Err(Error::Step(step)) if step.errno() == Some(Errno::EBUSY) => return Ok(()),
            other => other?,
        }
        step("rmdir", format_args!("{}", self.leaf.display()), "nothing is in it any more")
            .run(|| std::fs::remove_dir(&self.leaf))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_what_is_missing_is_shared_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cgroup.subtree_control");
        fs::write(&file, "memory\n").unwrap();
        assert_eq!(enable(dir.path(), &["memory", "pids", "cpu"]).unwrap(), ["pids", "cpu"]);
        assert!(fs::read_to_string(&file).unwrap().starts_with("+pids +"));
        fs::write(&file, "memory pids cpu\n").unwrap();
        assert!(enable(dir.path(), &["cpu", "pids"]).unwrap().is_empty());
        assert_eq!(fs::read_to_string(&file).unwrap(), "memory pids cpu\n");
    }

    #[test]
    fn a_name_is_a_whole_word() {
        assert!(!has("cpuset", "cpu"));
    }

    #[test]
    fn a_process_of_somebody_else_is_never_moved() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.procs"), format!("{}\n1\n", process::id())).unwrap();
        let error = Aside::step(dir.path(), &dir.path().join("sampan")).unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }));
        assert!(!dir.path().join("sampan").exists());
    }
}
