//! What can go wrong in a build.

use std::io;
use std::path::{Path, PathBuf};

use step::StepError;

use crate::dockerfile::Mistake;

/// An error of the builder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed.
    #[error("{0}")]
    Step(#[from] StepError),
    /// The Dockerfile has a mistake, or asks for what is not there.
    #[error("{0}")]
    Dockerfile(Box<Mistake>),
    /// There is no Dockerfile.
    #[error("no Dockerfile {0:?}: write one, or name it with -f")]
    NoDockerfile(PathBuf),
    /// The build context is no folder.
    #[error("the build context {0:?} is no folder")]
    NoContext(PathBuf),
    /// A file of the context or the image cannot be read.
    #[error("cannot read {path:?}")]
    Read {
        /// The file, as the instruction names it.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something is to be copied into what is no folder.
    #[error("{0:?} of the image is no folder, and a folder was to be copied there")]
    NotFolder(PathBuf),
    /// A file is to replace a folder.
    #[error(
        "{0:?} of the image is a folder, and a file was to be copied there: end the destination with / to copy into it"
    )]
    IsFolder(PathBuf),
    /// The command of a RUN failed.
    #[error("the command '{command}' returned a non-zero code: {code}")]
    Command {
        /// The command.
        command: String,
        /// Its exit status.
        code: u8,
    },
    /// The image store failed.
    #[error("{0}")]
    Image(#[source] Box<sampan_image::Error>),
    /// An archive cannot be unpacked.
    #[error("cannot unpack {path:?}")]
    Unpack {
        /// The archive in the context.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<chroot::Error>,
    },
    /// The layers cannot be compared.
    #[error("{0}")]
    Layers(#[source] Box<unionfs::Error>),
    /// A step's command could not be started.
    #[error("{0}")]
    Run(#[source] Box<sampan_engine::Error>),
}

impl Error {
    /// The exit status: the command's own for a RUN that failed, 1 for a mistake in the Dockerfile, else the engine's.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command { code, .. } => *code,
            Self::Dockerfile(_) | Self::NoDockerfile(_) | Self::NoContext(_) => 1,
            Self::Run(error) => error.exit_code(),
            _ => 125,
        }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

impl From<sampan_image::Error> for Error {
    fn from(error: sampan_image::Error) -> Self {
        Self::Image(Box::new(error))
    }
}

impl From<unionfs::Error> for Error {
    fn from(error: unionfs::Error) -> Self {
        Self::Layers(Box::new(error))
    }
}

impl From<Mistake> for Error {
    fn from(mistake: Mistake) -> Self {
        Self::Dockerfile(Box::new(mistake))
    }
}
