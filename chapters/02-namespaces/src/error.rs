//! What can go wrong in this chapter, besides a kernel call.

use std::path::PathBuf;

use step::StepError;

use crate::{ExitStatus, Kind, StageError};

/// An error of chapter 2.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed.
    #[error("{0}")]
    Step(#[from] StepError),
    /// The init process failed.
    #[error("{0}")]
    Init(#[from] StageError),
    /// The root file system is missing, or is a file.
    #[error("no directory {0:?} to make the root file system: run `cargo kit setup`, or give another")]
    NoRootfs(PathBuf),
    /// Something that cannot be done in the host's namespace.
    #[error("the {0} namespace cannot be shared here: {1}")]
    Shared(Kind, &'static str),
    /// The init process ended without a word.
    #[error("the init process ended before it ran the command: {0}")]
    InitEnded(ExitStatus),
    /// `newuidmap` or `newgidmap` refused.
    #[error("{program} refused the id map: {said}")]
    IdMap {
        /// The program.
        program: &'static str,
        /// What it said on standard error.
        said: String,
    },
    /// pivot_root answered EINVAL, for this reason.
    #[error("pivot_root refuses: {reason}")]
    Pivot {
        /// Which of its requirements is not met, and what to do.
        reason: &'static str,
        /// The step.
        source: StepError,
    },
    /// No process to join.
    #[error(
        "no process {0} whose namespaces could be entered: give the pid of a process inside, as the host shows it"
    )]
    NoProcess(i32),
    /// The process to join is in the namespaces in which the caller is.
    #[error(
        "process {0} shares all its namespaces with this one: give the pid of a process inside, as the host shows it"
    )]
    NotContained(i32),
}

impl Error {
    /// The exit status that Docker gives for it: 127 not found, 126 cannot be run, 125 everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Init(error) => error.exit_code(),
            _ => 125,
        }
    }
}
