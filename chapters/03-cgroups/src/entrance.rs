//! How a process gets into a cgroup.
//!
//! A process is born into its parent's cgroup. There are three ways out of it, and they differ by a factor of forty:
//!
//! 1. clone3(2) with `CLONE_INTO_CGROUP` (version 2): the child is never anywhere else, 0.3 ms;
//! 2. the child writes `0`, "myself", into the `tasks` of its new cgroup (version 1): 0.4 ms to 0.9 ms;
//! 3. somebody writes its pid into `cgroup.procs` (either version): 12 ms and more, because the kernel waits until no task on
//!    the machine is in the middle of a fork or an exec (an RCU grace period).
//!
//! So the first two are what a container starts with; the third is for a process that is already there. In the first two the
//! child is inside *before its first own instruction matters*: there is no moment in which it could fork, allocate or run
//! outside.
//!
//! The files are opened by the runtime process and used by the child, which may have no right, and no path, to open them: the
//! kernel asks for the right of whoever opened the file.
//!
//! See cgroups(7), clone(2).

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use step::{StepError, step};

use crate::Error;

/// Open doors to the directories that a cgroup consists of; a process goes through all of them with [`Entrance::enter`].
#[derive(Debug)]
pub struct Entrance {
    doors: Vec<(PathBuf, File)>,
}

impl Entrance {
    pub(crate) fn open(files: impl Iterator<Item = PathBuf>) -> Result<Self, Error> {
        let open = |path: PathBuf| {
            let file = OpenOptions::new().write(true).open(&path);
            file.map_err(|source| Error::Read { path: path.clone(), source }).map(|file| (path, file))
        };
        Ok(Self { doors: files.map(open).collect::<Result<_, _>>()? })
    }

    /// Whether there is nothing left to do: version 2 has taken the child in at its birth.
    pub fn is_empty(&self) -> bool {
        self.doors.is_empty()
    }

    /// Moves the calling thread, which must be the only one of its process, into the cgroup.
    ///
    /// # Errors
    /// The write that failed.
    // ANCHOR: enter
    pub fn enter(&self) -> Result<(), StepError> {
        for (path, file) in &self.doors {
            step("write", format_args!("0 > {}", path.display()), "0 means myself: from here on it counts")
                .run(|| (&*file).write_all(b"0"))?;
        }
        Ok(())
    }
    // ANCHOR_END: enter

    /// The files that stand open, for who wants to tell of them.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.doors.iter().map(|(path, _)| path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entering_writes_zero_into_each_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| dir.path().join(name));
        for file in &files {
            std::fs::write(file, "").unwrap();
        }
        Entrance::open(files.clone().into_iter()).unwrap().enter().unwrap();
        assert!(files.iter().all(|file| std::fs::read_to_string(file).unwrap() == "0"));
    }

    #[test]
    fn no_door_is_no_error() {
        assert!(Entrance::open(std::iter::empty()).unwrap().is_empty());
    }
}
