//! What can go wrong in the engine, besides a kernel call.

use std::io;
use std::path::PathBuf;

use step::StepError;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed.
    #[error("{0}")]
    Step(#[from] StepError),
    /// A file of the store cannot be read or written.
    #[error("cannot use the store's {path:?}")]
    Store {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// No container of that name or id, or an id's beginning that fits several.
    #[error("{0}")]
    NoSuch(String),
    /// The object is not in a state that allows the operation.
    #[error("container {name} is {status}: {remedy}")]
    State {
        /// The container's name.
        name: String,
        /// Its status.
        status: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The container could not be started; the shim's words, with Docker's exit status for it.
    #[error("{message}")]
    Start {
        /// The whole report.
        message: String,
        /// 125, 126 or 127.
        exit_code: u8,
    },
    /// The images.
    #[error("{0}")]
    Image(#[from] sampan_image::Error),
    /// The runtime.
    #[error("{0}")]
    Runtime(#[from] sampan_runtime::Error),
    /// The network.
    #[error("{0}")]
    Network(#[from] ::network::Error),
    /// The control groups.
    #[error("{0}")]
    Cgroup(#[from] cgroups::Error),
    /// A container's files.
    #[error("{0}")]
    Files(#[from] unionfs::Error),
    /// The terminal.
    #[error("{0}")]
    Namespaces(#[from] namespaces::Error),
}

impl Error {
    /// Docker's exit status for a command that ends in this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start { exit_code, .. } => *exit_code,
            Self::Runtime(error) => error.exit_code(),
            _ => 125,
        }
    }
}
