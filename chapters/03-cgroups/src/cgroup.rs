//! A cgroup for one container: made, opened, changed. Its end is in [`crate::remove`].
//!
//! What a container has as "its cgroup" is one directory in version 2, or one in each hierarchy of version 1 that is needed. All
//! of them have the same path below their hierarchies, `sampan/NAME`, so that they are found by name alone.
//!
//! Order: check the limits -> plan the places -> for each, from the top down: mkdir, share out controllers -> write the
//! limits -> and only then lets anybody in. What fails is undone in reverse.
//!
//! See cgroups(7), mkdir(2).

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;
use rustix::fs::{CWD, Mode, OFlags};
use step::step;

use crate::controller::Controller;
use crate::cpuset;
use crate::entrance::Entrance;
use crate::file::{read, write};
use crate::hierarchy::{Hierarchies, Version};
use crate::plan::{Place, existing, plan};
use crate::remove::{populated, remove_folder, remove_tree};
use crate::subtree::{self, Aside};
use crate::{Error, Limits, memory, unified};

/// The folder below each hierarchy that all of ours are in.
pub const FOLDER: &str = "sampan";
/// How often another process may remove the folder, as the last one in it, between our making it and our using it.
const RACES: u32 = 32;

/// What is done where a cgroup is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Refuse,
    /// It is used, unless somebody is in it.
    Empty,
    Any,
}

/// The cgroup of one container, in all hierarchies that it needs.
#[derive(Debug)]
pub struct Cgroup {
    pub(crate) path: PathBuf,
    pub(crate) places: Vec<Place>,
    aside: Option<Aside>,
    hierarchies: Hierarchies,
    /// Whether a directory that is there already is taken.
    join: bool,
}

impl Cgroup {
    /// Makes the cgroup `sampan/NAME` with the limits. It is empty.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NoController`], [`Error::NotDelegated`], [`Error::Occupied`] and [`Error::NoFile`] for what the
    /// host does not give; else the step that failed. Nothing is left behind then.
    pub fn create(hierarchies: &Hierarchies, name: &str, limits: &Limits) -> Result<Self, Error> {
        Self::make_all(hierarchies, &ours(name)?, limits, Existing::Refuse)
    }

    /// Beyond this chapter: the same at any path below the hierarchies, as OCI's `cgroupsPath` wants it. A cgroup that is there
    /// and empty is used. The leading directories that were made stay at the end, except `sampan`.
    ///
    /// # Errors
    /// As for [`Cgroup::create`]; [`Error::InUse`] where somebody is in a cgroup of that path.
    pub fn create_at(hierarchies: &Hierarchies, path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::make_all(hierarchies, path, limits, Existing::Empty)
    }

    /// Beyond this chapter: the same for a cgroup that somebody else, systemd, has made for this container; who is in it stays.
    ///
    /// # Errors
    /// As for [`Cgroup::create`].
    pub fn adopt(hierarchies: &Hierarchies, path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::make_all(hierarchies, path, limits, Existing::Any)
    }

    // ANCHOR: create
    fn make_all(
        hierarchies: &Hierarchies,
        path: &Path,
        limits: &Limits,
        existing: Existing,
    ) -> Result<Self, Error> {
        limits.check()?;
        let places = plan(hierarchies, path, limits)?;
        if existing == Existing::Empty
            && let Some(place) = places.iter().find(|place| populated(&place.dir))
        {
            return Err(Error::InUse { path: place.dir.clone() });
        }
        let join = existing != Existing::Refuse;
        let (path, hierarchies) = (path.to_owned(), hierarchies.clone());
        let mut cgroup = Self { path, places: Vec::new(), aside: None, hierarchies, join };
        for place in places {
            let made = cgroup.make(&place).and_then(|()| {
                cgroup.places.push(place);
                cgroup.places.last().map_or(Ok(()), |place| settle(place, limits))
            });
            if let Err(error) = made {
                // The first error is the one to tell: what could not be undone is found by `cargo kit leaks`.
                let _ = cgroup.undo();
                return Err(error);
            }
        }
        Ok(cgroup)
    }
    // ANCHOR_END: create

    /// Finds the cgroup `sampan/NAME` that somebody made.
    ///
    /// # Errors
    /// [`Error::NoSuchCgroup`].
    pub fn open(hierarchies: &Hierarchies, name: &str) -> Result<Self, Error> {
        Self::open_at(hierarchies, &ours(name)?)
    }

    /// Beyond this chapter: the same for what [`Cgroup::create_at`] made.
    ///
    /// # Errors
    /// [`Error::NoSuchCgroup`].
    pub fn open_at(hierarchies: &Hierarchies, path: &Path) -> Result<Self, Error> {
        let places = existing(hierarchies, path);
        if places.is_empty() {
            return Err(Error::NoSuchCgroup(path.display().to_string()));
        }
        Ok(Self { path: path.to_owned(), places, aside: None, hierarchies: hierarchies.clone(), join: false })
    }

    /// The names of all cgroups that are in the folder `sampan` of any hierarchy, sorted.
    pub fn list(hierarchies: &Hierarchies) -> Vec<String> {
        let folders = hierarchies.iter().flat_map(|h| [h.mount_point.join(FOLDER), h.own.join(FOLDER)]);
        let entries = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<_> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The directories that it consists of, version 2 first.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Whether the rules for devices that it was made with are kept by the kernel: by a program, or by version 1's controller.
    pub fn guards_devices(&self) -> bool {
        self.with(Controller::Devices).is_some()
    }

    /// The directory for `CLONE_INTO_CGROUP`, where version 2 is mounted.
    ///
    /// # Errors
    /// [`Error::Read`] where it is gone.
    pub fn directory(&self) -> Result<Option<OwnedFd>, Error> {
        let Some(place) = self.v2() else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, &place.dir, flags, Mode::empty());
        opened.map(Some).map_err(|error| Error::Read { path: place.dir.clone(), source: error.into() })
    }

    /// The doors that a child goes through itself, when [`Cgroup::directory`] was given to clone3: those of version 1.
    ///
    /// # Errors
    /// [`Error::Read`] where one cannot be opened.
    pub fn entrance(&self) -> Result<Entrance, Error> {
        let v1 = self.places.iter().filter(|place| place.version == Version::V1);
        Entrance::open(v1.map(|place| place.dir.join("tasks")))
    }

    /// The doors for a process that was cloned without `CLONE_INTO_CGROUP`: all of them.
    ///
    /// # Errors
    /// [`Error::Read`] where one cannot be opened.
    pub fn whole_entrance(&self) -> Result<Entrance, Error> {
        Entrance::open(self.places.iter().map(|place| match place.version {
            Version::V1 => place.dir.join("tasks"),
            Version::V2 => place.dir.join("cgroup.procs"),
        }))
    }

    /// Moves a process that runs elsewhere into the cgroup, with all its threads. It takes some 12 ms for each hierarchy.
    ///
    /// # Errors
    /// The write that failed.
    pub fn add_process(&self, pid: Pid) -> Result<(), Error> {
        for place in &self.places {
            write(
                &place.dir,
                "cgroup.procs",
                &pid.to_string(),
                "a process that is already running moves in",
            )?;
        }
        Ok(())
    }

    /// The processes in it, without those of cgroups below it.
    ///
    /// # Errors
    /// [`Error::Read`] where it is gone.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        let Some(place) = self.places.first() else { return Ok(Vec::new()) };
        let list = read(&place.dir.join("cgroup.procs"))?;
        Ok(list.lines().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect())
    }

    /// Changes the limits while processes run in it; what is `None` in `limits` stays as it is.
    ///
    /// # Errors
    /// As for [`Cgroup::create`]. What had been changed before the error stays changed: a limit cannot be undone, for the processes
    /// may already be above it.
    pub fn update(&mut self, limits: &Limits) -> Result<(), Error> {
        limits.check()?;
        let places = plan(&self.hierarchies, &self.path, limits)?;
        let memory = places.iter().find(|place| place.controllers.contains(&Controller::Memory));
        memory.map_or(Ok(()), |place| memory::check(place.version, limits, &place.dir))?;
        for place in places {
            let known = self.places.iter().position(|other| other.dir == place.dir);
            if known.is_none() || place.version == Version::V2 {
                self.make(&place)?;
            }
            if let Some(at) = known {
                self.places[at].controllers = place.controllers.clone();
            } else {
                // A controller of version 1 that nobody needed before: the processes move into its new cgroup.
                let inside = self.processes()?;
                self.places.push(place.clone());
                settle(&place, &Limits::default())?;
                for pid in inside {
                    write(
                        &place.dir,
                        "cgroup.procs",
                        &pid.to_string(),
                        "a process that is already running moves in",
                    )?;
                }
            }
            settle(&place, limits)?;
        }
        Ok(())
    }

    pub(crate) fn v2(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.version == Version::V2)
    }

    pub(crate) fn with(&self, controller: Controller) -> Option<&Place> {
        self.places.iter().find(|place| place.controllers.contains(&controller))
    }

    /// Makes the directory of one place, from the top down. One that is there already stays as it is.
    fn make(&mut self, place: &Place) -> Result<(), Error> {
        let new = !self.places.iter().any(|other| other.dir == place.dir);
        for _ in 0..RACES {
            match self.descend(place, new) {
                // The folder was removed with the last container in it, just before this one was made.
                Err(Error::Step(step)) if matches!(step.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => {}
                done => return done,
            }
        }
        self.descend(place, new)
    }

    fn descend(&mut self, place: &Place, new: bool) -> Result<(), Error> {
        let below = place.dir.strip_prefix(&place.base).unwrap_or(Path::new(""));
        let names = place.controllers.iter().map(|controller| controller.name(place.version));
        let names: Vec<_> =
            names.filter(|name| !name.is_empty()).chain(place.others.iter().map(String::as_str)).collect();
        let mut parent = place.base.clone();
        for part in below {
            if place.version == Version::V2 && !names.is_empty() {
                self.share_out(place, &parent, &names)?;
            }
            let dir = parent.join(part);
            if dir != place.dir || new {
                make_directory(&dir, dir != place.dir || self.join)?;
            }
            if place.version == Version::V1 && place.controllers.contains(&Controller::Cpuset) {
                cpuset::inherit(&parent, &dir)?;
            }
            parent = dir;
        }
        Ok(())
    }

    /// Shares out controllers to the children of `dir`, and steps out of the way where this process is what the kernel minds.
    fn share_out(&mut self, place: &Place, dir: &Path, names: &[&str]) -> Result<(), Error> {
        let shared = match subtree::enable(dir, names) {
            Err(error) if subtree::is_occupied(&error) && self.aside.is_none() => {
                self.aside = Some(Aside::step(&place.base, &place.base.join(FOLDER))?);
                subtree::enable(dir, names)?
            }
            other => other?,
        };
        if let Some(aside) = &mut self.aside {
            aside.shared(dir, shared);
        }
        Ok(())
    }

    /// Kills all that is left in the cgroup, waits for its end, and removes it from every hierarchy.
    ///
    /// # Errors
    /// The first that was met; the other places are removed all the same. [`Error::TimedOut`] where a process does not die.
    pub fn remove(mut self) -> Result<(), Error> {
        // Somebody else may have updated it meanwhile, and a new limit may have brought a directory in another hierarchy.
        self.places = existing(&self.hierarchies, &self.path);
        self.undo()
    }

    /// Removes the places that are known, and no others: what a failed [`Cgroup::create`] has not made is not its own.
    fn undo(self) -> Result<(), Error> {
        let inhabited = self.places.iter().any(|place| populated(&place.dir));
        let mut outcome = if inhabited { self.kill() } else { Ok(()) };
        for place in self.places.iter().rev() {
            outcome = outcome.and(remove_tree(place, !inhabited));
            if self.path.starts_with(FOLDER) {
                remove_folder(&place.base.join(FOLDER));
            }
        }
        if let Some(aside) = self.aside {
            let folder = self.places.first().map(|place| place.base.join(FOLDER));
            outcome = outcome.and(aside.come_back());
            folder.iter().for_each(|folder| remove_folder(folder));
        }
        outcome
    }
}

/// Writes the limits of all controllers of a place.
fn settle(place: &Place, limits: &Limits) -> Result<(), Error> {
    place
        .controllers
        .iter()
        .try_for_each(|controller| controller.settle(place.version, limits, &place.dir))?;
    let unified = if place.version == Version::V2 { unified::settings(limits) } else { Vec::new() };
    unified.iter().try_for_each(|setting| setting.write(&place.dir))
}

fn make_directory(dir: &Path, shared: bool) -> Result<(), Error> {
    if shared && dir.is_dir() {
        return Ok(());
    }
    let why = if dir.ends_with(FOLDER) {
        "all cgroups of the kit are below one folder"
    } else {
        "a directory here is a cgroup"
    };
    step("mkdir", format_args!("{}", dir.display()), why).run(|| match fs::create_dir(dir) {
        Err(error) if shared && error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    })?;
    Ok(())
}

/// The path of the cgroup NAME, which is a name and no path.
fn ours(name: &str) -> Result<PathBuf, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let reason = "a name has letters, digits, and . _ - after the first".to_owned();
        return Err(Error::Invalid { limit: "the cgroup", value: name.to_owned(), reason });
    }
    Ok(Path::new(FOLDER).join(name))
}

/// The name of the cgroup under `sampan` in which a process is.
///
/// # Errors
/// [`Error::NoSuchCgroup`] where there is no such process, or where it is in none of ours.
pub fn name_of(proc: &Path, pid: Pid) -> Result<String, Error> {
    let list = read(&proc.join(pid.to_string()).join("cgroup")).map_err(|error| match error {
        Error::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Error::NoSuchCgroup(format!("of process {pid}, which there is not,"))
        }
        other => other,
    })?;
    let name = list.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').nth(2)?.split('/').skip_while(|part| *part != FOLDER);
        parts.nth(1).map(str::to_owned)
    });
    name.ok_or_else(|| Error::NoSuchCgroup(format!("{FOLDER}/* that holds process {pid}")))
}

#[cfg(test)]
mod tests;
