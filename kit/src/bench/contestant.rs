//! Who takes part, and the command line by which each starts a container.
//!
//! All are given the same bundle, and their own folder for state on the same empty tmpfs. What differs is what each does by
//! itself: the floor makes the cgroups that `sampan-runtime` makes, runc and crun make one in every hierarchy of version 1.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::place;
use super::start::Case;
use crate::host;

/// A program that is measured.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    program: PathBuf,
}

/// The floor is no runtime, and has arguments of its own.
pub(crate) const FLOOR: &str = "floor";
/// Our own.
pub(crate) const SAMPAN: &str = "sampan-runtime";

/// The floor, ours, and each that is installed.
pub(crate) fn find(floor: PathBuf, sampan: PathBuf) -> Vec<Contestant> {
    let ours = [(FLOOR, Some(floor)), (SAMPAN, Some(sampan))];
    let others = ["crun", "runc", "youki"].map(|name| (name, host::program(name)));
    let found = ours.into_iter().chain(others);
    found.filter_map(|(name, program)| Some(Contestant { name, program: program? })).collect()
}

impl Contestant {
    /// The command line of a container's whole life; none where this program cannot do the case.
    pub(crate) fn run(&self, case: &Case, slot: &Slot) -> Option<Vec<OsString>> {
        if self.name == FLOOR {
            return Some(self.floor(case, slot));
        }
        let mut command = self.begin(case)?;
        command.extend(["run".into(), "--bundle".into(), slot.bundle.clone().into(), (&slot.id).into()]);
        Some(command)
    }

    /// Starts a container that stays.
    pub(crate) fn run_detached(&self, case: &Case, slot: &Slot) -> Option<Vec<OsString>> {
        let mut command = self.begin(case)?;
        command.extend(["run".into(), "--detach".into(), "--bundle".into(), slot.bundle.clone().into()]);
        command.push((&slot.id).into());
        Some(command)
    }

    /// Runs `true` in it.
    pub(crate) fn exec(&self, case: &Case, slot: &Slot) -> Option<Vec<OsString>> {
        let mut command = self.begin(case)?;
        command.extend(["exec".into(), (&slot.id).into(), "true".into()]);
        Some(command)
    }

    /// Removes it.
    pub(crate) fn delete(&self, case: &Case, slot: &Slot) -> Option<Vec<OsString>> {
        let mut command = self.begin(case)?;
        command.extend(["delete".into(), "--force".into(), (&slot.id).into()]);
        Some(command)
    }

    fn begin(&self, case: &Case) -> Option<Vec<OsString>> {
        let mut command: Vec<OsString> =
            vec![self.program.clone().into(), "--root".into(), place::state().into()];
        match self.name {
            FLOOR => return None,
            "crun" if !case.cgroups => command.push("--cgroup-manager=disabled".into()),
            // They have no word for it, and fail where no cgroup is to be had.
            "runc" | "youki" if !case.cgroups => return None,
            // Of twenty that begin at once, one waits for ever (0.7.0).
            "youki" if case.at_once > 1 => return None,
            _ => {}
        }
        Some(command)
    }

    fn floor(&self, case: &Case, slot: &Slot) -> Vec<OsString> {
        let mut command = vec![self.program.clone().into()];
        for folder in &slot.cgroups {
            command.extend(["--cgroup".into(), folder.into()]);
        }
        command.extend((!case.network).then(|| "--no-network".into()));
        command.extend(case.seccomp.then(|| "--seccomp".into()));
        command.push(slot.rootfs.clone().into());
        command.extend(slot.command.iter().map(OsString::from));
        command
    }

    /// Runs a command as a child of the floor's small process, which prints the most memory that one of its processes held.
    pub(crate) fn peak(floor: &Path, command: Vec<OsString>) -> Vec<OsString> {
        [floor.into(), "--peak".into()].into_iter().chain(command).collect()
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }
}

/// A container to be: everything that differs between two that run at once.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// What runs in it, for the floor, which reads no config.json.
    pub(crate) command: Vec<String>,
    /// The directories of its cgroup, for the floor.
    pub(crate) cgroups: Vec<PathBuf>,
}
