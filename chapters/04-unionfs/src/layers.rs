//! Layers ready to be stacked: directories as they are, archives unpacked, and a place for what is written.
//!
//! All that is made here lies in one temporary directory, `sampan-PID-XXXXXX`, so that whoever finds it knows whose it was, and goes
//! with the container. An ordinary user unpacks and removes in a user namespace: in there the user is root, who may write into a
//! directory without the `w` bit, and remove what belongs to a subordinate id.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chroot::Unpack;
use namespaces::StageError;
use nix::fcntl::{Flock, FlockArg};
use step::step;
use tempfile::TempDir;
use unionfs::{Error, Whiteouts};

use crate::Result;

/// The stack, lowest layer first.
pub(crate) struct Layers {
    pub(crate) lower: Vec<PathBuf>,
    temporary: PathBuf,
}

/// A directory to write into, with its work directory beside it.
pub(crate) struct Upper {
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    /// It goes with the container.
    pub(crate) temporary: bool,
    /// Held as long as the container runs: with a second writer the kernel promises nothing.
    _lock: Flock<File>,
}

impl Layers {
    /// Unpacks what is an archive. `userxattr` as in [`unionfs::Overlay`].
    pub(crate) fn open(given: &[PathBuf], userxattr: bool) -> Result<Self> {
        if given.is_empty() {
            return Err(Error::NoLayers.into());
        }
        if let Some(missing) = given.iter().find(|path| !path.is_dir() && !path.is_file()) {
            return Err(Error::NoLayer(missing.clone()).into());
        }
        let prefix = format!("sampan-{}-", std::process::id());
        let temporary = step("mkdir", format_args!("{prefix}XXXXXX"), "a place that goes with the container")
            .run(|| {
                tempfile::Builder::new()
                    .prefix(&prefix)
                    .permissions(fs::Permissions::from_mode(0o755))
                    .tempdir()
            })
            .map(TempDir::keep)?;
        let mut layers = Self { lower: Vec::new(), temporary };
        let outcome = layers.fill(given, userxattr);
        // The first error is the one to tell.
        outcome.inspect_err(|_| drop(layers.remove())).map(|()| layers)
    }

    fn fill(&mut self, given: &[PathBuf], userxattr: bool) -> Result<()> {
        let mut archives = Vec::new();
        for (number, path) in given.iter().enumerate() {
            let layer = match path.is_dir() {
                true => fs::canonicalize(path)?,
                false => self.temporary.join(format!("layer{number}")),
            };
            if path.is_file() {
                archives.push((path.as_path(), layer.clone()));
            }
            self.lower.push(layer);
        }
        if archives.is_empty() {
            return Ok(());
        }
        as_root_of_the_files(|| {
            archives.iter().try_for_each(|(archive, into)| unpack(archive, into, userxattr))
        })
    }

    /// The directory that is written, and a work directory on the same mount.
    pub(crate) fn upper(&self, given: Option<&Path>) -> Result<Upper> {
        let upper = given.map_or_else(|| self.temporary.join("upper"), Path::to_owned);
        make_like(
            &upper,
            self.lower.last(),
            "takes what is written; the root of the merged tree has its mode",
        )?;
        let upper = fs::canonicalize(upper)?;
        let mut work = upper.clone().into_os_string();
        work.push(".work");
        let work = PathBuf::from(work);
        make_like(&work, None, "where the kernel prepares a file before it appears in the upper directory")?;
        let lock = Flock::lock(File::open(&upper)?, FlockArg::LockExclusiveNonblock)
            .map_err(|_| Error::UpperInUse(upper.clone()))?;
        Ok(Upper { upper, work, temporary: given.is_none(), _lock: lock })
    }

    /// A new directory for a mount.
    pub(crate) fn mount_point(&self, name: &str) -> Result<PathBuf> {
        let path = self.temporary.join(name);
        make_like(&path, None, "an empty place for a mount")?;
        Ok(path)
    }

    /// Removes what was made, and nothing that was given.
    pub(crate) fn remove(&self) -> Result<()> {
        as_root_of_the_files(|| {
            step(
                "rm -r",
                format_args!("{}", self.temporary.display()),
                "what was written here goes with the container",
            )
            .run(|| fs::remove_dir_all(&self.temporary))?;
            Ok(())
        })
    }
}

// ANCHOR: unpack
fn unpack(archive: &Path, into: &Path, userxattr: bool) -> Result<()> {
    make_like(into, None, "a layer that comes as an archive is unpacked here")?;
    let mut whiteouts = Whiteouts::new(userxattr);
    let reader = io::BufReader::with_capacity(1 << 16, File::open(archive)?);
    chroot::unpack::unpack_into(reader, into, &Unpack::default(), &mut |root, path| {
        whiteouts.intercept(root, path)
    })
    .map_err(|error| error.of_archive(into, archive))?;
    whiteouts.apply(File::open(into)?.as_fd())?;
    Ok(())
}
// ANCHOR_END: unpack

/// Makes a directory, where there is none, with the mode of `model`: the root of an overlay is that of its upper directory.
fn make_like(path: &Path, model: Option<&PathBuf>, why: &'static str) -> Result<()> {
    let mode = model.and_then(|model| fs::metadata(model).ok()).map_or(0o755, |about| about.mode() & 0o7777);
    step("mkdir", format_args!("{}", path.display()), why).run(|| {
        match fs::DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    })?;
    Ok(())
}

impl Upper {
    /// Removes the work directory: without an index there is nothing in it that the next container needs, and an ordinary user
    /// cannot, for the kernel makes a directory in it that nobody may enter.
    pub(crate) fn remove_work(&self) -> Result<()> {
        as_root_of_the_files(|| {
            step(
                "rm -r",
                format_args!("{}", self.work.display()),
                "the kernel's own, of no use without the mount",
            )
            .run(|| fs::remove_dir_all(&self.work))?;
            Ok(())
        })
    }
}

/// Runs `work` as whoever is root of the container's files: the machine's root already, an ordinary user in a user namespace.
pub(crate) fn as_root_of_the_files(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let work = || work().map_err(|error| StageError::new("files", &*error, 125));
    Ok(namespaces::as_root_of_the_files(work)?)
}
