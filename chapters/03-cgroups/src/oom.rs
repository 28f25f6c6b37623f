//! Beyond this chapter: hear of it when a cgroup is at its memory limit and the kernel kills.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | where it is counted | `memory.events`: `oom_kill` | `memory.oom_control`: `oom_kill` |
//! | how one is woken | the file changes: inotify(7) | an eventfd(2), by its number in `cgroup.event_control`: `EVENTFD FILE` |
//!
//! What the kernel requires: 1. in version 1 both descriptors are this process's, and `memory.oom_control` is open while the line
//! is written; 2. the eventfd rings before the kill, which is counted later, and
//! at the end of the cgroup too; 3. version 2's file changes for other reasons as well: the count in it must be looked at.
//!
//! See inotify(7), eventfd(2); kernel: cgroup-v2.rst "memory.events", cgroup-v1/memory.rst "OOM Control".

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use step::{StepError, step};

use crate::controller::Controller;
use crate::file::write;
use crate::hierarchy::Version;
use crate::{Cgroup, Error, memory};

/// Somebody who waits for it.
#[derive(Debug)]
pub struct OomWatch {
    version: Version,
    dir: PathBuf,
    /// Wakes when there may be something new.
    bell: OwnedFd,
    /// How many were killed when it was looked at last.
    seen: u64,
}

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The memory limit was met, and nothing could be freed.
    OutOfMemory,
    /// The time is over.
    Time,
    /// The process has ended.
    Ended,
}

impl Cgroup {
    /// Watches its memory limit; none where it has no memory controller.
    ///
    /// # Errors
    /// The step that failed.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, Error> {
        let Some(place) = self.with(Controller::Memory) else { return Ok(None) };
        let (version, dir) = (place.version, place.dir.clone());
        let bell = match version {
            Version::V2 => changes_of(&dir.join("memory.events"))?,
            Version::V1 => event_of(&dir)?,
        };
        let seen = memory::oom_kills(version, &dir);
        Ok(Some(OomWatch { version, dir, bell, seen }))
    }
}

/// A descriptor that is readable when the file has changed.
fn changes_of(file: &Path) -> Result<OwnedFd, Error> {
    let why = "the kernel says when the counts in it change";
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let bell = step("inotify_add_watch", format_args!("{} IN_MODIFY", file.display()), why).run(|| {
        let bell = inotify::init(flags)?;
        inotify::add_watch(&bell, file, inotify::WatchFlags::MODIFY)?;
        Ok::<_, Errno>(bell)
    })?;
    Ok(bell)
}

/// An eventfd that is written to when there is no memory left in the cgroup.
fn event_of(dir: &Path) -> Result<OwnedFd, Error> {
    let path = dir.join("memory.oom_control");
    let control = File::open(&path).map_err(|source| Error::Read { path, source })?;
    let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let bell = made.map_err(|errno| StepError::new("eventfd", "", errno))?;
    let line = format!("{} {}", bell.as_raw_fd(), control.as_raw_fd());
    write(dir, "cgroup.event_control", &line, "the eventfd rings when there is no memory left")?;
    Ok(bell)
}

impl OomWatch {
    /// Waits so long, or until a process is killed at the limit, or until `process`, a pidfd, has ended.
    ///
    /// # Errors
    /// The poll(2) that failed.
    pub fn wait(&mut self, process: BorrowedFd<'_>, time: Duration) -> Result<Woken, Error> {
        let end = Instant::now() + time;
        loop {
            let mut polled = [
                PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(process, PollFlags::IN),
            ];
            let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
            match poll(&mut polled, left.as_ref()) {
                Ok(0) => return Ok(Woken::Time),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(StepError::new("poll", "", errno).into()),
            }
            let (rang, ended) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
            if rang {
                // What is in it is of no interest: the count is.
                let _ = rustix::io::read(&self.bell, &mut [0_u8; 4096]);
            }
            let out_of_memory = match self.version {
                // It rings before the kill, which is counted only then; and once more when the cgroup is removed.
                Version::V1 => rang && self.dir.exists(),
                Version::V2 => self.has_killed(),
            };
            match (out_of_memory, ended) {
                (true, _) => return Ok(Woken::OutOfMemory),
                (false, true) => return Ok(Woken::Ended),
                (false, false) => {}
            }
        }
    }

    /// Whether more were killed since this was asked last.
    fn has_killed(&mut self) -> bool {
        let killed = memory::oom_kills(self.version, &self.dir);
        std::mem::replace(&mut self.seen, killed) < killed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn watch(dir: &Path) -> OomWatch {
        let bell = changes_of(&dir.join("memory.events")).unwrap();
        OomWatch { version: Version::V2, dir: dir.to_owned(), bell, seen: 0 }
    }

    #[test]
    fn a_kill_wakes_and_another_change_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        fs::write(&file, "oom_kill 0\n").unwrap();
        let mut watch = watch(dir.path());
        let own =
            rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
                .unwrap();
        fs::write(&file, "oom_kill 0\nmax 5\n").unwrap();
        assert_eq!(watch.wait(own.as_fd(), Duration::from_millis(20)).unwrap(), Woken::Time);
        fs::write(&file, "oom_kill 2\n").unwrap();
        assert_eq!(watch.wait(own.as_fd(), Duration::from_secs(5)).unwrap(), Woken::OutOfMemory);
        assert_eq!(watch.wait(own.as_fd(), Duration::ZERO).unwrap(), Woken::Time);
    }
}
