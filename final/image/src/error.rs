//! What can go wrong with images, besides a kernel call.

use std::io;
use std::path::PathBuf;

use step::StepError;

use crate::Digest;

/// An error of the image store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed.
    #[error("{0}")]
    Step(#[from] StepError),
    /// A file of the store cannot be read or written.
    #[error("cannot use {path:?} of the image store")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is in the store is not what its name or its place says.
    #[error("{path:?} of the image store is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The text is no reference to an image.
    #[error("{text:?} names no image: {reason}")]
    Reference {
        /// What was given.
        text: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The text is no digest.
    #[error("{0:?} is no digest: sha256: and 64 of the digits 0-9 a-f are expected")]
    Digest(String),
    /// No image of that name or ID.
    #[error("no such image: {0}")]
    NoImage(String),
    /// The beginning of an ID is that of several.
    #[error("{0} is the beginning of several images' IDs: give more of it")]
    Ambiguous(String),
    /// The stream that was to become a layer is not a tar archive, or cannot be read.
    #[error("cannot make a layer of the archive")]
    Layer(#[from] chroot::Error),
    /// An archive of images cannot be read or written, or is none.
    #[error("{what}")]
    Archive {
        /// What is wrong.
        what: String,
        /// What the reader or writer met.
        source: Option<io::Error>,
    },
    /// The layer's folder cannot be told from what is below it.
    #[error("cannot make a layer of what was changed in {path:?}")]
    Changes {
        /// The upper directory.
        path: PathBuf,
        /// What the comparison met.
        source: Box<unionfs::Error>,
    },
    /// The bytes are not those of the digest.
    #[error("the content has the digest {found}, where {expected} is expected")]
    Mismatch {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// An image is not removed: a container has it, or it has other names.
    #[error("image {id} {reason}")]
    Kept {
        /// The image's ID, short.
        id: String,
        /// Why it stays, and what to do.
        reason: String,
    },
}

impl Error {
    /// The exit status that Docker gives for it: always 125, for no command ran yet.
    pub fn exit_code(&self) -> u8 {
        125
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    #[allow(clippy::needless_pass_by_value, reason = "format_args! is passed on")]
    pub(crate) fn damaged(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.into(), reason: format!("{reason}") }
    }
}
