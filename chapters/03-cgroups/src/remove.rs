//! The end of a cgroup: kill, wait, rmdir.
//!
//! What the kernel requires for rmdir(2) of a cgroup: 1. no process in it, else EBUSY; 2. no cgroup below it. A zombie does not
//! count, but a process that was just killed does until it is dead. So who is still there is killed first, and the removal is
//! tried again for a bounded time.
//!
//! To kill all of a cgroup is harder than it looks: between reading the list of processes and the last kill(2) a fork bomb has
//! made new ones. Version 2 does it in the kernel (`cgroup.kill`, Linux 5.14). Version 1 freezes all of it first, sends SIGKILL
//! to each, and thaws. Where there is neither, the list is gone through until it is empty.
//!
//! See cgroups(7); kernel: cgroup-v2.rst "cgroup.kill".

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use step::step;

use crate::cgroup::Cgroup;
use crate::controller::Controller;
use crate::file::write;
use crate::freezer::{self, FreezerState};
use crate::hierarchy::Version;
use crate::plan::Place;
use crate::{Error, cgroup};

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait between two tries at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

impl Cgroup {
    /// Sends SIGKILL to every process in it and below it, so that none escapes by a fork.
    ///
    /// # Errors
    /// The step that failed. That there is no process is no error.
    // ANCHOR: kill
    pub fn kill(&self) -> Result<(), Error> {
        if let Some(place) = self.v2().filter(|place| place.dir.join("cgroup.kill").exists()) {
            return write(
                &place.dir,
                "cgroup.kill",
                "1",
                "SIGKILL for all of it at once, also for what is being forked",
            );
        }
        match self.with(Controller::Freezer).filter(|place| place.version == Version::V1) {
            Some(place) => {
                // One that cannot be frozen, in an uninterruptible sleep, cannot fork either.
                let _ = freezer::set(place.version, &place.dir, true);
                signal_all(&place.dir);
                freezer::set(place.version, &place.dir, false)
            }
            None => {
                self.places.iter().for_each(|place| signal_all(&place.dir));
                Ok(())
            }
        }
    }
    // ANCHOR_END: kill

    /// Stops every process in it, and waits until all stand still.
    ///
    /// # Errors
    /// [`Error::NoController`] where the host has neither version 2 nor version 1's freezer; [`Error::TimedOut`].
    pub fn freeze(&self) -> Result<(), Error> {
        let (version, dir) = self.freezer()?;
        freezer::set(version, dir, true)
    }

    /// Lets them run on.
    ///
    /// # Errors
    /// As for [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<(), Error> {
        let (version, dir) = self.freezer()?;
        freezer::set(version, dir, false)
    }

    /// Whether its processes run.
    ///
    /// # Errors
    /// As for [`Cgroup::freeze`].
    pub fn freezer_state(&self) -> Result<FreezerState, Error> {
        let (version, dir) = self.freezer()?;
        freezer::state(version, dir)
    }

    fn freezer(&self) -> Result<(Version, &Path), Error> {
        let v2 = self.v2().filter(|place| place.dir.join("cgroup.freeze").exists());
        let place = v2.or_else(|| self.with(Controller::Freezer));
        let place = place
            .ok_or_else(|| Error::NoController { controller: "freezer".to_owned(), limit: "freezing" })?;
        Ok((place.version, &place.dir))
    }
}

/// Removes one directory of a cgroup with all below it, once its processes have been killed. `empty`: somebody has just
/// looked, and there was none.
// ANCHOR: remove_tree
pub(crate) fn remove_tree(place: &Place, mut empty: bool) -> Result<(), Error> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    while !remove_directory(&place.dir, std::mem::take(&mut empty))? {
        if start.elapsed() > PATIENCE {
            let what = "did not become empty";
            return Err(Error::TimedOut { path: place.dir.clone(), what, seconds: PATIENCE.as_secs() });
        }
        sleep(pause);
        pause *= 2;
        if pause > LONGEST_PAUSE {
            // Who is still here was perhaps never in the directory that was killed: each hierarchy can be left alone.
            pause = LONGEST_PAUSE;
            signal_all(&place.dir);
        }
    }
    Ok(())
}
// ANCHOR_END: remove_tree

/// Whether a process is in the cgroup or in one below it.
pub(crate) fn populated(dir: &Path) -> bool {
    !pids(dir).is_empty() || has_children(dir) && children(dir).iter().any(|child| populated(child))
}

/// A cgroup's directory has two links and one for each cgroup below it: to count them costs less than to list its files.
fn has_children(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|metadata| metadata.nlink() > 2)
}

/// Tries rmdir(2); `false` where somebody is still in it.
fn remove_directory(dir: &Path, known_empty: bool) -> Result<bool, Error> {
    let Ok(metadata) = fs::metadata(dir) else { return Ok(true) };
    let mut removed = true;
    if metadata.nlink() > 2 {
        for child in children(dir) {
            removed &= remove_directory(&child, known_empty)?;
        }
    }
    // Asked first, so that a try that must fail is not told as a step that failed.
    if !removed || !known_empty && !pids(dir).is_empty() {
        return Ok(false);
    }
    let removed = step("rmdir", format_args!("{}", dir.display()), "a cgroup without processes can go")
        .run(|| fs::remove_dir(dir));
    match removed {
        Err(error) => match error.errno() {
            Some(Errno::ENOENT) => Ok(true),
            Some(Errno::EBUSY | Errno::ENOTEMPTY) => Ok(false),
            _ => Err(error.into()),
        },
        Ok(()) => Ok(true),
    }
}

/// Removes the folder of all containers with the last of them. That another one is in it is the usual case and no error.
pub(crate) fn remove_folder(folder: &Path) {
    if folder.ends_with(cgroup::FOLDER) && fs::metadata(folder).is_ok_and(|folder| folder.nlink() <= 2) {
        let _ = step("rmdir", format_args!("{}", folder.display()), "this was the last container")
            .run(|| fs::remove_dir(folder));
    }
}

/// SIGKILL for each process in the cgroup and below it. Errors are dropped: a process may be gone, and whether it worked is
/// seen by the next rmdir.
fn signal_all(dir: &Path) {
    children(dir).iter().for_each(|child| signal_all(child));
    let all = pids(dir);
    if !all.is_empty() {
        let _ = step(
            "kill",
            format_args!("SIGKILL, {} processes", all.len()),
            "they are in a cgroup that is to go",
        )
        .run(|| {
            for &pid in &all {
                let _ = kill(pid, Signal::SIGKILL);
            }
            Ok::<_, Errno>(())
        });
    }
}

/// The processes in the cgroup; a process of another pid namespace reads as 0, and is none that may be signalled.
fn pids(dir: &Path) -> Vec<Pid> {
    let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|pid| pid.parse().ok()).filter(|&pid| pid > 0).map(Pid::from_raw).collect()
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
