//! What can go wrong in this chapter, besides a kernel call.

use std::io;
use std::path::{Path, PathBuf};

use step::StepError;

/// An error of chapter 3.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed: most often a write to a file of a cgroup.
    #[error("{0}")]
    Step(#[from] StepError),
    /// No cgroup file system is mounted, or none that this process can see.
    #[error(
        "no cgroup hierarchy is mounted here: mount -t cgroup2 cgroup2 /sys/fs/cgroup makes one (cgroups(7))"
    )]
    NoHierarchy,
    /// A limit was asked for, and no hierarchy of this host has its controller.
    #[error(
        "{limit} needs the cgroup controller {controller}, and this host offers it in no hierarchy: `cat /proc/cgroups` shows what the kernel has"
    )]
    NoController {
        /// The controller's name.
        controller: String,
        /// The limit, as the user types it.
        limit: &'static str,
    },
    /// The cgroup under which ours would be made belongs to somebody else.
    #[error("{}", not_delegated(path, *v2))]
    NotDelegated {
        /// The directory that cannot be written to.
        path: PathBuf,
        /// Whether it is of version 2, which can be delegated to an ordinary user.
        v2: bool,
    },
    /// cgroup v2 lets no cgroup hold processes *and* share out controllers, and others than this process are there.
    #[error(
        "the cgroup {path:?} holds other processes, and so cannot share out controllers: start this command as the only one of its scope, `systemd-run --user --scope -p Delegate=yes COMMAND`"
    )]
    Occupied {
        /// The cgroup that would have to share out its controllers.
        path: PathBuf,
    },
    /// The controller is there; the file for this limit is not.
    #[error("{limit} has no effect here: this kernel has no {path:?}; {remedy}")]
    NoFile {
        /// The limit, as the user types it.
        limit: &'static str,
        /// The file that is missing.
        path: PathBuf,
        /// What would bring it.
        remedy: &'static str,
    },
    /// A limit that only version 1 knows was asked for, and the controller is on version 2 here.
    #[error("{limit} exists in cgroup version 1 alone, and this host has version 2: {instead}")]
    OnlyInVersion1 {
        /// The limit, as the user types it.
        limit: &'static str,
        /// What version 2 has in its place.
        instead: &'static str,
    },
    /// A cgroup that was to be used is there, and somebody is in it.
    #[error(
        "the cgroup {path:?} is there already and holds processes: it is another container's, or none of ours; take another path"
    )]
    InUse {
        /// The cgroup.
        path: PathBuf,
    },
    /// A value that no kernel would take.
    #[error("{limit} {value}: {reason}")]
    Invalid {
        /// The limit, as the user types it.
        limit: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such cgroup of ours: its path, or whose it should have been.
    #[error("no cgroup {0} in any hierarchy: `cargo kit leaks` lists those that are there")]
    NoSuchCgroup(String),
    /// The cgroup has not done in time what was asked of it.
    #[error(
        "the cgroup {path:?} {what} within {seconds} s: {}",
        "a process in an uninterruptible sleep (state D) may hold it"
    )]
    TimedOut {
        /// The cgroup.
        path: PathBuf,
        /// What it has not done.
        what: &'static str,
        /// How long it had.
        seconds: u64,
    },
    /// A file of the kernel's that could not be read, or not be understood.
    #[error("cannot read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The exit status that Docker gives for it: always 125, for the command was not reached.
    pub fn exit_code(&self) -> u8 {
        125
    }
}

fn not_delegated(path: &Path, v2: bool) -> String {
    let remedy = if v2 {
        "start it with `systemd-run --user --scope -p Delegate=yes COMMAND`, or as root"
    } else {
        "only cgroup v2 can be delegated to an ordinary user, and this controller is on version 1 here: run it as root"
    };
    format!("the cgroup {path:?} does not belong to this user: {remedy}")
}
