//! Where a case is measured: a mount namespace of this program's own, so that nothing of it is left on the machine.
//!
//! Runtimes keep their state on an empty tmpfs there, which is what `/run` is on any machine that an init system has booted.
//!
//! Hierarchies of cgroups are the machine's, with two exceptions. *Without cgroups* none is mounted. And crun refuses to run
//! where a version 2 hierarchy that has controllers lies beside those of version 1; there the version 2 hierarchy is left out for
//! everybody, so that all do the same work.
//!
//! See mount_namespaces(7). A thread can have a mount namespace of its own, and what it starts is in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::place as kit;

/// Runs `work` there.
pub(crate) fn inside<T: Send>(cgroups: bool, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(cgroups)?;
            work()
        });
        thread.join().unwrap_or_else(|_| bail!("the measurement panicked"))
    })
}

/// Where the state of containers is kept.
pub(crate) fn state() -> PathBuf {
    kit::kit().join("bench/state")
}

fn enter(cgroups: bool) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare the mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("make all mounts private")?;
    let state = state();
    fs::create_dir_all(&state).with_context(|| format!("make {}", state.display()))?;
    mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("mount a tmpfs on {}", state.display()))?;
    let hierarchies = hierarchies()?;
    let hybrid = |hierarchy: &Hierarchy| {
        hierarchy.version2
            && hierarchies.iter().any(|other| !other.version2)
            && has_controllers(&hierarchy.path)
    };
    for hierarchy in hierarchies.iter().filter(|hierarchy| !cgroups || hybrid(hierarchy)) {
        umount2(&hierarchy.path, MntFlags::MNT_DETACH)
            .with_context(|| format!("unmount {}", hierarchy.path.display()))?;
    }
    Ok(())
}

fn has_controllers(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.controllers")).is_ok_and(|list| !list.trim().is_empty())
}

/// A mounted hierarchy of cgroups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) path: PathBuf,
    pub(crate) version2: bool,
    /// Version 1: its options, among which the controllers are.
    pub(crate) options: String,
}

/// Those that this thread sees.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").context("read mountinfo")?;
    Ok(text.lines().filter_map(hierarchy).collect())
}

/// `36 35 98:0 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids`
fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut filesystem = filesystem.split(' ');
    let typ = filesystem.next()?;
    if typ != "cgroup" && typ != "cgroup2" {
        return None;
    }
    let path = mount.split(' ').nth(4)?.into();
    Some(Hierarchy { path, version2: typ == "cgroup2", options: filesystem.nth(1)?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_is_known_by_its_file_system() {
        let line = "36 35 98:0 / /sys/fs/cgroup/pids rw,relatime shared:5 - cgroup cgroup rw,pids";
        let expected =
            Hierarchy { path: "/sys/fs/cgroup/pids".into(), version2: false, options: "rw,pids".to_owned() };
        assert_eq!(hierarchy(line), Some(expected));
        assert_eq!(hierarchy("1 1 0:1 / / rw - ext4 /dev/vda rw"), None);
    }
}
