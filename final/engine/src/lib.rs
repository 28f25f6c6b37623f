//! The engine: containers with a life, on the runtime, the images and the chapters.
//!
//! It is a library over a store on disk; there is no daemon. What a container *is* stands in `containers/ID/`, what it *does* is
//! in the hands of its own [`shim`], a small process that owns its terminal or pipes, writes its log and reaps it.
//!
//! ```text
//!  sampan run ──(exec)──▶ sampan shim ID ──(clone3)──▶ init process ──(execve)──▶ the container's process
//!      ▲                     │   │   └── state.json, log                             stdin, stdout, stderr
//!      └────── frames ───────┘   └── upper/ work/ network cgroup                        │
//!             (attach)           ◀───────────────────── pipes or terminal ──────────────┘
//! ```
//!
//! In reading order: [`paths`] and [`store`] (where things lie, how they are written), [`container`] (one file a verb), [`shim`],
//! [`attach`] (the frames between a client and the shim), [`network`], [`volume`], [`images`], [`build`].

pub mod error;

pub mod paths;
pub mod store;

pub mod container;

pub mod attach;
pub mod shim;

pub mod network;
pub mod volume;
mod volume_files;

pub mod build;
pub mod image_files;
pub mod images;
pub mod process;
pub mod user;

pub use container::{Config, Container, State, Status};
pub use error::Error;
pub use paths::Paths;

pub use sampan_image::{Error as ImageError, Image};

use std::path::PathBuf;

use sampan_image::Store;
use step::Hint;

/// The tables of hints of all crates that the engine stands on, for [`step::report()`].
pub fn hints() -> [&'static [Hint]; 7] {
    [
        sampan_image::HINTS,
        sampan_runtime::HINTS,
        ::network::HINTS,
        unionfs::HINTS,
        cgroups::HINTS,
        namespaces::HINTS,
        chroot::HINTS,
    ]
}

/// An engine over one store.
#[derive(Debug, Clone)]
pub struct Engine {
    paths: Paths,
    images: Store,
}

impl Engine {
    /// Opens the store, and makes its folders where they are missing.
    ///
    /// # Errors
    /// Where a folder cannot be made, or the image layout is damaged.
    pub fn open(data: Option<PathBuf>, run: Option<PathBuf>) -> Result<Self, Error> {
        let paths = Paths::new(data, run);
        paths.make()?;
        let images = Store::open(&paths.data)?;
        Ok(Self { paths, images })
    }

    /// Where this engine keeps its things.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The images.
    pub fn images(&self) -> &Store {
        &self.images
    }
}
