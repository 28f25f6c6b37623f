//! Where the engine keeps what lasts, and what ends with the machine's uptime.
//!
//! Root's store is `/var/lib/sampan`, an ordinary user's is `$XDG_DATA_HOME/sampan`; sockets and the shims' marks lie in
//! `/run/sampan`, or `$XDG_RUNTIME_DIR/sampan`. See the XDG base directory specification, and hier(7).

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::geteuid;
use step::step;

use crate::Error;

/// The two roots.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What lasts: images, layers, containers, volumes.
    pub data: PathBuf,
    /// What ends with a container: its shim's socket and mark.
    pub run: PathBuf,
}

impl Paths {
    /// The given folders, or the ones that are usual for this user.
    pub fn new(data: Option<PathBuf>, run: Option<PathBuf>) -> Self {
        Self { data: data.unwrap_or_else(default_data), run: run.unwrap_or_else(default_run) }
    }

    /// The folder of all containers.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// One container's folder.
    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    /// A running container's folder, with the shim's socket.
    pub fn run_of(&self, id: &str) -> PathBuf {
        self.run.join(id)
    }

    /// The folder of all volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// Makes the folder of what runs.
    ///
    /// # Errors
    /// The step that failed.
    pub fn make_run(&self) -> Result<(), Error> {
        make_private(&self.run)
    }

    /// Makes the lasting folders, closed to other users: what lies in an image may be set-user-id.
    pub(crate) fn make(&self) -> Result<(), Error> {
        for folder in [self.data.clone(), self.containers(), self.volumes()] {
            make_private(&folder)?;
        }
        Ok(())
    }
}

/// Makes a folder, with its parents, that only its owner enters.
pub(crate) fn make_private(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    let make = || {
        step("mkdir", format_args!("{} 0700", folder.display()), "a folder of the engine's own")
            .run(|| DirBuilder::new().recursive(true).mode(0o700).create(folder))
    };
    // A container that ends takes the empty folder above away with it, maybe between two of these calls.
    let made = (0..9).map(|_| make()).find(|made| match made {
        // EEXIST: it was there, and was gone when its kind was asked.
        Err(error) => !matches!(error.errno(), Some(Errno::ENOENT | Errno::EEXIST)),
        Ok(()) => true,
    });
    Ok(made.unwrap_or_else(make)?)
}

/// Removes a tree that may be gone already.
pub(crate) fn remove_tree(folder: &Path) -> Result<(), Error> {
    if !folder.exists() {
        return Ok(());
    }
    let removed = step("rm", format_args!("-r {}", folder.display()), "it ends with the container")
        .run(|| fs::remove_dir_all(folder));
    match removed {
        // A program in the container can make folders deeper than there may be open files.
        Err(error) if error.errno() == Some(Errno::EMFILE) => Ok(sampan_image::layers::remove_tree(folder)?),
        // Two commands may be at it at once: a container that removes itself, and `rm`.
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
        Err(error) if !geteuid().is_root() && matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM)) => {
            remove_as_root_inside(folder)
        }
        other => Ok(other?),
    }
}

/// An ordinary user's container writes files as users that this user is not, and overlay keeps a folder that nobody may read.
/// In a user namespace of the same ids they are all this user's to remove.
fn remove_as_root_inside(folder: &Path) -> Result<(), Error> {
    Ok(namespaces::as_root_of_the_files(|| {
        step("rm", format_args!("-r {}", folder.display()), "as root of a user namespace of the same ids")
            .run(|| fs::remove_dir_all(folder))?;
        Ok(())
    })?)
}

fn default_data() -> PathBuf {
    if geteuid().is_root() {
        return PathBuf::from("/var/lib/sampan");
    }
    let home = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    home.unwrap_or_else(|| PathBuf::from(format!("/tmp/sampan-data-{}", geteuid()))).join("sampan")
}

fn default_run() -> PathBuf {
    if geteuid().is_root() {
        return PathBuf::from("/run/sampan");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir()) {
        Some(folder) => folder.join("sampan"),
        None => PathBuf::from(format!("/tmp/sampan-run-{}", geteuid())),
    }
}
