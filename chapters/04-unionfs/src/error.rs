//! What can go wrong in this chapter, besides a kernel call.

use std::io;
use std::path::PathBuf;

use step::StepError;

/// An error of chapter 4.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed.
    #[error("{0}")]
    Step(#[from] StepError),
    /// The kernel takes none of these directories as they are.
    #[error("cannot mount an overlay on {target:?}: {reason}")]
    Refused {
        /// Where the overlay was to be mounted.
        target: PathBuf,
        /// What the kernel said, or, where it says no more than EINVAL, what is wrong with the directories.
        reason: String,
        /// The call that failed.
        source: StepError,
    },
    /// An overlay needs something to lie over.
    #[error("an overlay needs at least one layer: give --layer")]
    NoLayers,
    /// A layer that is not there, or is neither a directory nor an archive.
    #[error("no layer {0:?}: a layer is a directory or a tar archive")]
    NoLayer(PathBuf),
    /// Two containers may not write into one directory.
    #[error("{0:?} is the upper directory of a running container: what two of them write there is undefined")]
    UpperInUse(PathBuf),
    /// A name that holds a NUL byte, which ends a string in a system call.
    #[error("the path {0:?} holds a NUL byte")]
    Path(PathBuf),
    /// The layer's archive cannot be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
}

impl Error {
    /// The exit status that Docker gives for a container that could not be set up: 125.
    pub fn exit_code(&self) -> u8 {
        125
    }
}
