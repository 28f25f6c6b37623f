//! `cgroupsPath`: where a container's cgroup is; made, found, changed and removed.
//!
//! | `cgroupsPath` | the cgroup |
//! |---|---|
//! | `/a/b` | `a/b` below each hierarchy |
//! | `a/b` | `sampan/a/b`: the place for relative ones is the runtime's to choose |
//! | none | `sampan/ID` |
//! | `slice:prefix:name` | systemd's unit `prefix-name.scope` in the slice: see [`crate::systemd`] |
//!
//! A container without limits gets a cgroup too, for its statistics and so that all of it can be killed; where this user may make
//! none it goes without. Where a limit was asked for and cannot be had, that is an error: never silently less. Rules for devices
//! are kept by the cgroup where it can, and by the mounts where it cannot: see `devices.rs`.
//!
//! An engine that names the path reads version 1's files itself; it finds a cgroup in each of the hierarchies, as runc makes them.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path, PathBuf};

use ::cgroups::cgroup::FOLDER;
use ::cgroups::{Cgroup, Hierarchies};
use oci_spec::runtime::{Linux, LinuxResources};

use crate::systemd::{Holder, Unit};
use crate::{Error, resources, systemd};

/// Where a configuration wants the cgroup.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Path(PathBuf),
    Unit(Unit),
}

impl Place {
    fn of(id: &str, linux: &Linux) -> Result<Self, Error> {
        let own = Path::new(id);
        let path = linux.cgroups_path().as_deref().unwrap_or(own);
        if let Some(unit) = Unit::parse(path)? {
            return Ok(Self::Unit(unit));
        }
        let below = plain(path)?;
        Ok(Self::Path(if path.is_absolute() { below.to_owned() } else { Path::new(FOLDER).join(below) }))
    }

    /// The path below the hierarchies; none where there is no such unit.
    fn path(&self) -> Result<Option<PathBuf>, Error> {
        match self {
            Self::Path(path) => Ok(Some(path.clone())),
            Self::Unit(unit) => systemd::find(unit),
        }
    }
}

/// Holds a configuration to what was said on the command line: with `systemd` the path is a unit's, without it is none.
///
/// # Errors
/// [`Error::Config`] where it is the other way round.
pub fn choose_driver(id: &str, linux: &mut Linux, systemd: bool) -> Result<(), Error> {
    let path = linux.cgroups_path().clone();
    match (systemd, path.as_deref().map(Unit::parse).transpose()?.flatten(), path) {
        (true, None, None) => {
            linux.set_cgroups_path(Some(PathBuf::from(format!(":sampan:{id}"))));
            Ok(())
        }
        (true, None, Some(path)) => Err(Error::config(
            "linux.cgroupsPath",
            format!("with --systemd-cgroup it must be slice:prefix:name, and is {path:?}"),
        )),
        (false, Some(_), Some(path)) => Err(Error::config(
            "linux.cgroupsPath",
            format!("{path:?} is a unit of systemd's: give --systemd-cgroup, before the command"),
        )),
        _ => Ok(()),
    }
}

/// Makes the container's cgroup; the `annotations` are for systemd. What comes along holds it until the container's first process is in.
///
/// # Errors
/// [`Error::Config`] for a path that is none; chapter 3's errors where a limit cannot be had, or the cgroup where it is `needed`.
pub(crate) fn create(
    id: &str,
    linux: &Linux,
    annotations: Option<&HashMap<String, String>>,
    needed: bool,
) -> Result<(Option<Cgroup>, Option<Holder>), Error> {
    let mut limits = resources::limits(linux.resources().as_ref())?;
    let made = match Place::of(id, linux)? {
        Place::Unit(unit) => {
            let (cgroup, holder) = systemd::create(&unit, &limits, annotations)?;
            return Ok((Some(cgroup), Some(holder)));
        }
        Place::Path(path) => {
            limits.more.wide = !path.starts_with(FOLDER);
            hierarchies().and_then(|hierarchies| Cgroup::create_at(&hierarchies, &path, &limits))
        }
    };
    match made {
        Ok(cgroup) => Ok((Some(cgroup), None)),
        Err(
            ::cgroups::Error::NoHierarchy
            | ::cgroups::Error::NotDelegated { .. }
            | ::cgroups::Error::Occupied { .. },
        ) if limits.is_empty() && !needed => Ok((None, None)),
        Err(error) => Err(error.into()),
    }
}

/// Finds the cgroup of a container that was created; none where the container went without, or its cgroup is gone.
///
/// # Errors
/// Chapter 3's; systemd's where the cgroup is one of its units.
pub fn open(id: &str, linux: &Linux) -> Result<Option<Cgroup>, Error> {
    let Some(path) = Place::of(id, linux)?.path()? else { return Ok(None) };
    match hierarchies().and_then(|hierarchies| Cgroup::open_at(&hierarchies, &path)) {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(::cgroups::Error::NoHierarchy | ::cgroups::Error::NoSuchCgroup(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The same, as the place for one more process beside `init`, or `below` it, as [`crate::ExecOptions::cgroup`] has it.
///
/// # Errors
/// As for [`open`]; [`Error::Config`] for a path that is none.
pub(crate) fn open_for_exec(
    id: &str,
    linux: &Linux,
    below: &[String],
    init: BorrowedFd<'_>,
) -> Result<Option<Cgroup>, Error> {
    let Some(mut cgroup) = open(id, linux)? else {
        let missing = |path: &String| ::cgroups::Error::NoSuchCgroup(path.clone()).into();
        return below.first().map_or(Ok(None), |path| Err(missing(path)));
    };
    if below.is_empty() && cgroup.is_divided() {
        cgroup.follow(::namespaces::join::number(init)?)?;
    }
    for text in below {
        let (controllers, path) = text.split_once(':').unwrap_or(("", text));
        let controllers: Vec<_> = controllers.split(',').filter(|name| !name.is_empty()).collect();
        // "/" is the container's own.
        if path != "/" {
            cgroup.descend_into(&controllers, plain(Path::new(path))?)?;
        }
    }
    Ok(Some(cgroup))
}

/// Comes to where one more process can be cloned into the container's cgroup: see [`crate::systemd`].
///
/// # Errors
/// systemd's, where the cgroup is one of its units.
pub(crate) fn come_near(id: &str, linux: &Linux) -> Result<(), Error> {
    match Place::of(id, linux)? {
        Place::Unit(_) => systemd::come_near(&hierarchies()?),
        Place::Path(_) => Ok(()),
    }
}

fn hierarchies() -> Result<Hierarchies, ::cgroups::Error> {
    Hierarchies::find(Path::new("/proc/self"))
}

/// The path without a slash in front; an error where it could leave the place that it is below.
fn plain(path: &Path) -> Result<&Path, Error> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || below.as_os_str().is_empty() {
        return Err(Error::config("linux.cgroupsPath", format!("{path:?} is no path below a hierarchy")));
    }
    Ok(below)
}

/// Kills what is left in the container's cgroup, and removes it.
///
/// # Errors
/// As for [`open`], and the step that failed.
pub fn remove(id: &str, linux: &Linux) -> Result<(), Error> {
    if let Some(cgroup) = open(id, linux)? {
        cgroup.remove()?;
    }
    match Place::of(id, linux)? {
        Place::Unit(unit) => systemd::stop(&unit),
        Place::Path(_) => Ok(()),
    }
}

/// Changes the limits of a container that was created; what is not given in `resources` stays.
///
/// # Errors
/// [`Error::Config`] where it has no cgroup, or for what cannot be; chapter 3's errors where a limit cannot be had.
pub fn update(id: &str, linux: &Linux, resources: &LinuxResources) -> Result<(), Error> {
    let limits = resources::changes(resources)?;
    let Some(mut cgroup) = open(id, linux)? else {
        return Err(Error::config(
            "linux.cgroupsPath",
            format!("container {id} has no cgroup that could be changed"),
        ));
    };
    if let Place::Unit(unit) = Place::of(id, linux)? {
        systemd::update(&unit, &limits)?;
    }
    Ok(cgroup.update(&limits)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: Option<&str>) -> Result<Place, Error> {
        let mut linux = Linux::default();
        linux.set_cgroups_path(path.map(PathBuf::from));
        Place::of("x", &linux)
    }

    #[test]
    fn a_path_stays_below_the_hierarchies() {
        for path in ["/", "../x", "/a/../b", ""] {
            place(Some(path)).unwrap_err();
        }
        assert_eq!(place(Some("/a/b")).unwrap(), Place::Path("a/b".into()));
    }

    #[test]
    fn what_is_relative_or_absent_is_ours() {
        assert_eq!(place(Some("a/b")).unwrap(), Place::Path("sampan/a/b".into()));
        assert_eq!(place(None).unwrap(), Place::Path("sampan/x".into()));
    }

    #[test]
    fn three_parts_are_a_unit_of_systemd() {
        assert!(matches!(place(Some("a.slice:b:c")).unwrap(), Place::Unit(_)));
        assert!(matches!(place(Some(":b:c")).unwrap(), Place::Unit(_)));
    }
}
