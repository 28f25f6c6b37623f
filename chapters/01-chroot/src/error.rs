//! What can go wrong in this chapter, besides a kernel call.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use step::StepError;

/// An error of chapter 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed.
    #[error("{0}")]
    Step(#[from] StepError),
    /// The root directory is missing, or is a file.
    #[error(
        "no directory {0:?} to make the root: give --tar ARCHIVE to unpack one there, or run `cargo kit setup`"
    )]
    NoRootfs(PathBuf),
    /// An archive is never unpacked over somebody's files.
    #[error(
        "{0:?} is not empty, and an archive is not unpacked over files: leave --tar out to use it as it is"
    )]
    NotEmpty(PathBuf),
    /// The archive cannot be read, or is damaged.
    #[error("cannot read the archive{}", named(path))]
    Archive {
        /// The archive; empty for a stream that has no name.
        path: PathBuf,
        /// What the reader met.
        source: std::io::Error,
    },
    /// An entry whose name or kind has no place in a root file system.
    #[error("the archive's entry {path:?} {reason}")]
    Entry {
        /// The entry's name in the archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry's owner is none of the ids that an ordinary user has.
    #[error(
        "the archive's entry {path:?} belongs to user {user} and group {group}, which is beyond this user's ids: have root give it more of them in /etc/subuid and /etc/subgid (`cargo kit doctor` shows them), or do it as root"
    )]
    Owner {
        /// The entry's name in the archive.
        path: PathBuf,
        /// Its user.
        user: u32,
        /// Its group.
        group: u32,
    },
    /// No such command under the new root.
    #[error("no command {0:?} in the root file system")]
    NoCommand(OsString),
    /// The command is there; the interpreter or the loader that it names is not.
    #[error(
        "{0:?} is there, but the interpreter or loader that it names is not: a static program needs none"
    )]
    NoLoader(OsString),
    /// An argument that C cannot express.
    #[error("the argument {0:?} holds a NUL byte, which ends a string in execve(2)")]
    Argument(OsString),
}

impl Error {
    /// The same error with the archive named, where it names `root`, into which a stream was unpacked: a stream has no name.
    #[must_use]
    pub fn of_archive(self, root: &Path, archive: &Path) -> Self {
        match self {
            Self::Archive { path, source } if path == root => {
                Self::Archive { path: archive.to_owned(), source }
            }
            other => other,
        }
    }

    /// An error of reading an entry's content says in which archive, and which entry.
    pub(crate) fn in_archive(self, entry: &Path, archive: &Path) -> Self {
        match self {
            Self::Archive { path, source } if path == entry => {
                let text = format!("at its entry {entry:?}: {source}");
                Self::Archive { path: archive.to_owned(), source: std::io::Error::new(source.kind(), text) }
            }
            other => other,
        }
    }

    /// The exit status that Docker gives for it: 127 not found, 126 cannot be run, 125 everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoCommand(_) => 127,
            Self::NoLoader(_) | Self::Argument(_) => 126,
            Self::Step(step) if step.call() == "execve" => 126,
            _ => 125,
        }
    }
}

fn named(archive: &Path) -> String {
    if archive.as_os_str().is_empty() { String::new() } else { format!(" {archive:?}") }
}
