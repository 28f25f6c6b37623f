//! Decide in which hierarchies a cgroup is made, before anything is made.
//!
//! In version 2 that is one directory. In version 1 it is one for each controller that is needed, and no more: each costs a
//! mkdir, a write and a rmdir. Needed are those that a limit asks for, and two that make use visible: `memory` and `pids`. On a
//! hybrid host the version 2 hierarchy is used besides, though it may have no controller: it is what a process can be
//! cloned *into*, what can be frozen, and what can be killed whole.
//!
//! An ordinary user may only make cgroups below one that somebody has given them: *delegation*. In version 2 that is a cgroup
//! whose directory, `cgroup.procs` and `cgroup.subtree_control` belong to the user; systemd makes one for
//! `Delegate=yes`. Root uses the topmost cgroup.
//!
//! See cgroups(7) "Cgroups delegation".

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use crate::controller::Controller;
use crate::device_program;
use crate::hierarchy::{Hierarchies, Hierarchy, Version};
use crate::{Error, Limits};

/// One directory that a cgroup consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which interface its files have.
    pub version: Version,
    /// The controllers that are used in it.
    pub controllers: Vec<Controller>,
    /// Others of version 2, by name, that [`crate::unified`] needs.
    pub others: Vec<String>,
    /// The cgroup below which it lies, which is not ours.
    pub base: PathBuf,
    /// The directory.
    pub dir: PathBuf,
}

/// Where the cgroup `path` is to be made so that it can hold the limits.
///
/// # Errors
/// [`Error::NoController`] and [`Error::NotDelegated`], for what a limit needs and the host does not give.
// ANCHOR: plan
pub fn plan(hierarchies: &Hierarchies, path: &Path, limits: &Limits) -> Result<Vec<Place>, Error> {
    let mut places: Vec<Place> = Vec::new();
    if let Some(v2) = hierarchies.v2() {
        let base = base(v2, path).ok_or_else(|| not_delegated(v2))?;
        places.push(Place::new(Version::V2, base, path));
    }
    unified(hierarchies, places.first_mut(), limits)?;
    for controller in Controller::ALL {
        let asked = controller.asked_by(limits);
        let useful = match controller {
            Controller::Memory | Controller::Pids => true,
            Controller::Devices if limits.more.devices.is_some() => match places.first_mut() {
                Some(v2) if v2.version == Version::V2 && device_program::is_possible(&v2.base) => {
                    v2.controllers.push(controller);
                    continue;
                }
                _ => true,
            },
            Controller::Freezer | Controller::Cpuacct => {
                places.iter().all(|place| place.version == Version::V1)
            }
            _ => false,
        };
        let useful = useful || limits.more.wide && controller.is_version_1(hierarchies);
        if asked.is_none() && !useful {
            continue;
        }
        let Some(hierarchy) = controller.hierarchy(hierarchies) else {
            match asked {
                None => continue,
                Some(limit) => return Err(controller.nowhere(limit, hierarchies)),
            }
        };
        let Some(base) = base(hierarchy, path) else {
            if asked.is_none() && !places.is_empty() {
                continue;
            }
            return Err(not_delegated(hierarchy));
        };
        controller.check(hierarchy.version, limits, &base)?;
        let dir = base.join(path);
        match places.iter_mut().find(|place| place.dir == dir) {
            Some(place) => place.controllers.push(controller),
            None => {
                let controllers = vec![controller];
                places.push(Place { controllers, ..Place::new(hierarchy.version, base, path) });
            }
        }
    }
    if places.is_empty() { Err(Error::NoHierarchy) } else { Ok(places) }
}
// ANCHOR_END: plan

impl Place {
    fn new(version: Version, base: PathBuf, path: &Path) -> Self {
        let dir = base.join(path);
        Self { version, controllers: Vec::new(), others: Vec::new(), base, dir }
    }
}

/// Adds what files that are asked for by their names need.
fn unified(hierarchies: &Hierarchies, v2: Option<&mut Place>, limits: &Limits) -> Result<(), Error> {
    let Some((file, _)) = limits.more.unified.first() else { return Ok(()) };
    let (Some(place), Some(v2)) = (v2, hierarchies.v2()) else {
        let reason = "it is a file of cgroup version 2, and this host has version 1 alone".to_owned();
        return Err(Error::Invalid { limit: "unified", value: file.clone(), reason });
    };
    for name in limits.more.unified_controllers() {
        if !v2.controllers.iter().any(|it| it == name) {
            return Err(Error::NoController { controller: name.to_owned(), limit: "unified" });
        }
        place.others.push(name.to_owned());
    }
    Ok(())
}

/// The cgroups of that path that are there.
pub(crate) fn existing(hierarchies: &Hierarchies, path: &Path) -> Vec<Place> {
    let place = |hierarchy: &Hierarchy| {
        let bases = [&hierarchy.mount_point, &hierarchy.own];
        let base = bases.into_iter().find(|base| base.join(path).is_dir())?;
        let dir = base.join(path);
        let names = match hierarchy.version {
            Version::V1 => hierarchy.controllers.clone(),
            Version::V2 => {
                let list = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
                list.split_whitespace().map(str::to_owned).collect()
            }
        };
        let has =
            |controller: &Controller| names.iter().any(|name| name == controller.name(hierarchy.version));
        let controllers = Controller::ALL.into_iter().filter(has).collect();
        Some(Place { controllers, ..Place::new(hierarchy.version, base.clone(), path) })
    };
    let mut places: Vec<_> = hierarchies.iter().filter_map(place).collect();
    // Version 2 first, as plan() has it: it is made first and removed last.
    places.sort_by_key(|place| place.version == Version::V1);
    places
}

/// The topmost cgroup that this user may make others in; the topmost of all where the cgroup itself is there and the user's, for
/// then nothing is to be made above it.
fn base(hierarchy: &Hierarchy, path: &Path) -> Option<PathBuf> {
    let candidates = [&hierarchy.mount_point, &hierarchy.own];
    if hierarchy.version == Version::V2 && writable(&hierarchy.mount_point.join(path)).is_ok() {
        return Some(hierarchy.mount_point.clone());
    }
    let found = candidates.into_iter().find(|dir| writable(dir).is_ok());
    // A read-only mount is another matter than somebody else's cgroup: mkdir says so, and its hint what to do.
    found.or_else(|| candidates.into_iter().find(|dir| writable(dir) == Err(Errno::ROFS))).cloned()
}

/// Whether the directory, and the files that delegation consists of, can be written by this user.
fn writable(dir: &Path) -> Result<(), Errno> {
    let may = |path: &Path| rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS);
    let files = ["cgroup.procs", "cgroup.subtree_control"].map(|file| dir.join(file));
    files.iter().filter(|file| file.exists()).try_fold((), |(), file| may(file)).and(may(dir))
}

fn not_delegated(hierarchy: &Hierarchy) -> Error {
    Error::NotDelegated { path: hierarchy.own.clone(), v2: hierarchy.version == Version::V2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    /// A host made of directories: `(mount, type and options, its /proc/self/cgroup line, controllers of version 2)`.
    fn host(mounts: &[(&str, &str, &str, &str)]) -> (TempDir, Hierarchies) {
        let dir = tempfile::tempdir().unwrap();
        let (mut mountinfo, mut cgroup) = (String::new(), String::new());
        for (name, filesystem, line, controllers) in mounts {
            let mount = dir.path().join(name);
            fs::create_dir(&mount).unwrap();
            if !controllers.is_empty() {
                fs::write(mount.join("cgroup.controllers"), controllers).unwrap();
            }
            mountinfo += &format!("1 1 0:1 / {} rw - {filesystem}\n", mount.display());
            cgroup += &format!("{line}\n");
        }
        fs::write(dir.path().join("mountinfo"), mountinfo).unwrap();
        fs::write(dir.path().join("cgroup"), cgroup).unwrap();
        let hierarchies = Hierarchies::find(dir.path()).unwrap();
        (dir, hierarchies)
    }

    const V2: (&str, &str, &str, &str) = ("v2", "cgroup2 cgroup2 rw", "0::/", "cpuset cpu io memory pids\n");
    const MEMORY: (&str, &str, &str, &str) = ("memory", "cgroup cgroup rw,memory", "2:memory:/", "");
    const CPU: (&str, &str, &str, &str) = ("cpu", "cgroup cgroup rw,cpu,cpuacct", "3:cpu,cpuacct:/", "");

    fn places(hierarchies: &Hierarchies, limits: &Limits) -> Vec<(Version, Vec<Controller>)> {
        let places = plan(hierarchies, Path::new("sampan/x"), limits).unwrap();
        places.into_iter().map(|place| (place.version, place.controllers)).collect()
    }

    #[test]
    fn version_2_is_one_directory_for_all() {
        let (_dir, hierarchies) = host(&[V2]);
        let limits = Limits { cpus: Some(1.0), ..Limits::default() };
        let expected = vec![Controller::Memory, Controller::Cpu, Controller::Pids];
        assert_eq!(places(&hierarchies, &limits), [(Version::V2, expected)]);
    }

    #[test]
    fn version_1_is_one_directory_for_each_that_is_needed() {
        let (_dir, hierarchies) = host(&[MEMORY, CPU]);
        let limits = Limits { cpu_weight: Some(1), ..Limits::default() };
        assert_eq!(
            places(&hierarchies, &limits),
            [
                (Version::V1, vec![Controller::Memory]),
                (Version::V1, vec![Controller::Cpu, Controller::Cpuacct])
            ]
        );
    }

    #[test]
    fn a_hybrid_host_uses_version_2_also_without_controllers() {
        let (_dir, hierarchies) = host(&[("v2", V2.1, V2.2, "\n"), MEMORY, CPU]);
        assert_eq!(
            places(&hierarchies, &Limits::default()),
            [(Version::V2, vec![]), (Version::V1, vec![Controller::Memory])]
        );
    }

    #[test]
    fn a_file_of_version_2_needs_its_controller() {
        let more = crate::More { unified: vec![("misc.max".into(), "1".into())], ..crate::More::default() };
        let limits = Limits { more, ..Limits::default() };
        let refused = |mounts| {
            let (_dir, hierarchies) = host(mounts);
            plan(&hierarchies, Path::new("sampan/x"), &limits).unwrap_err().to_string()
        };
        assert!(refused(&[V2]).starts_with("unified needs the cgroup controller misc"));
        assert!(refused(&[MEMORY]).contains("version 1 alone"));
        let (_dir, hierarchies) = host(&[("v2", V2.1, V2.2, "misc\n")]);
        let places = plan(&hierarchies, Path::new("sampan/x"), &limits).unwrap();
        assert_eq!(places[0].others, ["misc"]);
    }

    #[test]
    fn what_only_version_1_has_names_what_there_is_instead() {
        let more = crate::More { swappiness: Some(1), net_class: Some(1), ..crate::More::default() };
        let (_dir, hierarchies) = host(&[V2]);
        let refused = |more| {
            let limits = Limits { more, ..Limits::default() };
            plan(&hierarchies, Path::new("sampan/x"), &limits).unwrap_err().to_string()
        };
        assert!(refused(more.clone()).starts_with("memory.swappiness exists in cgroup version 1 alone"));
        let more = crate::More { swappiness: None, ..more };
        assert!(refused(more).starts_with("network.classID exists in cgroup version 1 alone"));
    }

    #[test]
    fn a_wide_cgroup_is_in_every_hierarchy_of_version_1() {
        let (_dir, hierarchies) = host(&[("v2", V2.1, V2.2, "\n"), MEMORY, CPU]);
        let more = crate::More { wide: true, ..crate::More::default() };
        assert_eq!(places(&hierarchies, &Limits { more, ..Limits::default() }).len(), 3);
    }

    #[test]
    fn a_controller_that_is_nowhere_is_an_error_only_when_asked_for() {
        let (_dir, hierarchies) = host(&[MEMORY]);
        assert_eq!(places(&hierarchies, &Limits::default()).len(), 1);
        let limits = Limits { pids: Some(1), ..Limits::default() };
        let error = plan(&hierarchies, Path::new("sampan/x"), &limits).unwrap_err();
        assert!(matches!(error, Error::NoController { limit: "--pids", .. }), "{error}");
    }
}
