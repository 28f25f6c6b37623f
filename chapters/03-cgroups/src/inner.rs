//! Beyond this chapter: where in a container's cgroup one more process goes, when there are others below it.
//!
//! A container may divide what it was given: its own systemd makes cgroups below the container's, moves into one and shares out
//! controllers to all of them. From then on version 2 lets nobody into the container's own cgroup (EBUSY): processes are in the
//! leaves. One more goes to where the first one is.
//!
//! Or somebody asks for one of these by its path. In version 1 it may be there in one hierarchy alone. In all others the process
//! is in the container's own: nowhere is it outside.
//!
//! See cgroups(7), "no internal processes" rule.

use std::fs;
use std::path::Path;

use nix::unistd::Pid;

use crate::file::read;
use crate::hierarchy::{Hierarchies, Version};
use crate::{Cgroup, Error};

impl Cgroup {
    /// Whether it shares out controllers to others below it, in version 2: then nobody can be let into it.
    pub fn is_divided(&self) -> bool {
        let list = |dir: &Path| fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
        self.v2().is_some_and(|place| !list(&place.dir).trim().is_empty())
    }

    /// Turns, in version 2, to the cgroup in which `pid` is, where that is below this one. For entering: such a cgroup is neither to be
    /// changed nor removed.
    ///
    /// # Errors
    /// [`Error::Read`] where the process is gone.
    pub fn follow(&mut self, pid: Pid) -> Result<(), Error> {
        let mountinfo = read(Path::new("/proc/self/mountinfo"))?;
        let cgroup = read(&Path::new("/proc").join(pid.to_string()).join("cgroup"))?;
        let found = Hierarchies::parse(&mountinfo, &cgroup);
        let place = self.places.iter_mut().find(|place| place.version == Version::V2);
        if let (Some(place), Some(v2)) = (place, found.v2())
            && v2.own.starts_with(&place.dir)
        {
            place.dir.clone_from(&v2.own);
        }
        Ok(())
    }

    /// Turns to the cgroup `path` below this one, in each hierarchy in which that is there; `controllers`: of those that have one
    /// of these. For entering, as [`Cgroup::follow`].
    ///
    /// # Errors
    /// [`Error::NoSuchCgroup`] where it is in none.
    pub fn descend_into(&mut self, controllers: &[&str], path: &Path) -> Result<(), Error> {
        let mut found = false;
        for place in &mut self.places {
            let has = |name: &&str| place.controllers.iter().any(|it| it.name(place.version) == *name);
            let inner = place.dir.join(path);
            if (controllers.is_empty() || controllers.iter().any(has)) && inner.is_dir() {
                place.dir = inner;
                found = true;
            }
        }
        if found { Ok(()) } else { Err(Error::NoSuchCgroup(path.display().to_string())) }
    }
}
