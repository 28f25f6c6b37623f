//! What can go wrong in the runtime, besides a kernel call.

use std::io;
use std::path::PathBuf;

use step::StepError;

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed, in this process or in the container's init process.
    #[error("{0}")]
    Step(#[from] StepError),
    /// The configuration asks for what cannot be, or for what this runtime does not know.
    #[error("config: {field}: {reason}")]
    Config {
        /// The field, as in `config.json`: `process.cwd`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the bundle, or of the runtime's state, cannot be used.
    #[error("cannot use {path:?}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A hook failed.
    #[error("{name} hook #{number} {}: {reason}", path.display())]
    Hook {
        /// When it was run: `prestart`.
        name: &'static str,
        /// Its place in the list.
        number: usize,
        /// The program.
        path: PathBuf,
        /// How it failed, and what it said.
        reason: String,
    },
    /// The namespaces, or the init process: its stage, its step and its exit status came back.
    #[error("{0}")]
    Namespaces(#[from] namespaces::Error),
    /// systemd, which was to make the cgroup, does not answer, or will not.
    #[error("systemd: {0}")]
    Systemd(String),
    /// The cgroup.
    #[error("{0}")]
    Cgroup(#[from] cgroups::Error),
}

impl Error {
    pub(crate) fn config(field: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Config { field: field.into(), reason: reason.to_string() }
    }

    /// The exit status that Docker gives for it: 127 not found, 126 cannot be run, 125 everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Namespaces(error) => error.exit_code(),
            _ => 125,
        }
    }
}
