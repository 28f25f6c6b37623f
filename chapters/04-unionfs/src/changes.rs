//! What a container changed: its upper directory against the layers under it.
//!
//! What lies in `upper` was written, but that alone does not make it a change: 1. a file is copied up when it is *opened* for
//! writing, also if nothing is written then; 2. a directory is copied up with each file in it; 3. a whiteout may hide a file that
//! the container itself had made. So each name is compared with what the layers have: kind, owner, mode, time of modification,
//! device numbers, a link's target, extended attributes, and, if all these are the same, the bytes.
//!
//! A directory in which something changed counts as modified, as `docker diff` has it: a layer that carries `/etc/hosts` must
//! carry `/etc` too, for its owner and mode.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use step::StepError;

use crate::Error;
use crate::folder::{Folder, is_gone, kind};
use crate::merge::{Below, Lying, Merged};
use crate::whiteout::{is_opaque, is_whiteout};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No layer has it.
    Added,
    /// A layer has it, with other content or attributes, or as another kind of file; or it is a directory with a change in it.
    Modified,
    /// A layer has it, and it is hidden.
    Deleted,
}

/// One path that differs from the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// The path from the root, without a leading `/`.
    pub path: PathBuf,
}

/// A change, and how a layer is to say it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) change: Change,
    /// The directory hides all that the layers have in it.
    pub(crate) opaque: bool,
    /// Deleted by an opaque directory above it: needs no whiteout of its own.
    pub(crate) covered: bool,
}

/// The changes in `upper` against the layers `lower` (lowest first), sorted, a directory before what is in it. `userxattr` as in
/// [`crate::Overlay`]. In a user namespace, call it there: ids are compared as this process sees them. The root directory itself
/// is not compared.
///
/// # Errors
/// The read that failed.
pub fn changes(upper: &Path, userxattr: bool, lower: &[PathBuf]) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    find(upper, userxattr, lower, &mut |found| {
        changes.push(found.change);
        Ok(())
    })?;
    Ok(changes)
}

/// The changes with what a layer needs to know of them, each as it is found: a tree may have more files than memory has room. With no
/// `lower`, all of `upper` is new, and each whiteout counts.
pub(crate) fn find(upper: &Path, userxattr: bool, lower: &[PathBuf], tell: Tell<'_>) -> Result<(), Error> {
    let mut walk = Walk { userxattr, layers_known: !lower.is_empty(), held: Vec::new(), tell };
    walk.folder(&Folder::open(upper)?, &Merged::open(lower, userxattr)?, Path::new(""), false)
}

type Tell<'a> = &'a mut dyn FnMut(Found) -> Result<(), Error>;

struct Walk<'a> {
    userxattr: bool,
    layers_known: bool,
    /// The directories above that are a change only if there is one in them.
    held: Vec<Found>,
    tell: Tell<'a>,
}

impl Walk<'_> {
    /// Compares a directory. `anew` says that it was deleted and made again, so that nothing of the layers shows through.
    // ANCHOR: folder
    fn folder(&mut self, upper: &Folder, below: &Merged, path: &Path, anew: bool) -> Result<(), Error> {
        let mut names = upper.names()?;
        if anew {
            names.append(&mut below.names()?);
        }
        for name in names {
            let path = path.join(&name);
            let under = below.find(&name)?;
            let exists = !matches!(under, Below::Nothing { .. });
            let kind_of_change = if exists { Kind::Modified } else { Kind::Added };
            match upper.stat(&name)? {
                Some(stat) if is_whiteout(&stat) && (exists || !self.layers_known) => {
                    self.found(Kind::Deleted, path, anew)?;
                }
                // It hides what the container itself had made.
                Some(stat) if is_whiteout(&stat) => {}
                Some(stat) if kind(&stat) == FileType::Directory => {
                    let held = self.held.len();
                    let folder = upper.folder(&name).map_err(Error::from);
                    match folder.and_then(|folder| self.directory(&folder, under, &path, anew)) {
                        Err(Error::Step(error)) if is_gone(&error) => self.held.truncate(held),
                        walked => walked?,
                    }
                }
                Some(stat) => {
                    let same = match under {
                        Below::File(file) if !anew => Self::same(upper, &stat, &file, &path),
                        _ => Ok(false),
                    };
                    match same {
                        Ok(true) => {}
                        Ok(false) => self.found(kind_of_change, path, false)?,
                        Err(error) if is_gone(&error) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                // Not in upper at all: the layers have it, and this directory was made anew without it.
                None if anew && exists => self.found(Kind::Deleted, path, true)?,
                None => {}
            }
        }
        Ok(())
    }
    // ANCHOR_END: folder

    fn directory(&mut self, upper: &Folder, under: Below<'_>, path: &Path, anew: bool) -> Result<(), Error> {
        let marked = is_opaque(upper, self.userxattr);
        let (kind_of_change, below, opaque) = match under {
            Below::Nothing { .. } => (Some(Kind::Added), Merged::nothing(), marked && !self.layers_known),
            Below::File(_) => (Some(Kind::Modified), Merged::nothing(), false),
            Below::Directory(below) => {
                let changed = anew || marked || !same_directory(upper, &below, path)?;
                (changed.then_some(Kind::Modified), below, marked && !anew)
            }
        };
        // Its place is before what is in it, and whether it is a change may only be known after that.
        let change = Change { kind: kind_of_change.unwrap_or(Kind::Modified), path: path.to_owned() };
        let held = self.held.len();
        self.held.push(Found { change, opaque, covered: false });
        if kind_of_change.is_some() {
            self.tell_held()?;
        }
        self.folder(upper, &below, path, anew || marked)?;
        self.held.truncate(held);
        Ok(())
    }

    fn found(&mut self, kind: Kind, path: PathBuf, covered: bool) -> Result<(), Error> {
        self.held.push(Found { change: Change { kind, path }, opaque: false, covered });
        self.tell_held()
    }

    fn tell_held(&mut self) -> Result<(), Error> {
        self.held.drain(..).try_for_each(&mut self.tell)
    }

    /// Whether a file was only copied up. One that has a second name in upper is a change in any case: the name was made there,
    /// and a layer that left one of the two out would make two files of them.
    fn same(upper: &Folder, stat: &Stat, lower: &Lying<'_>, path: &Path) -> Result<bool, StepError> {
        let name = path.file_name().unwrap_or_default();
        Ok(stat.st_nlink == 1
            && same_stat(stat, &lower.stat)
            && upper.attributes(name)? == lower.folder.attributes(name)?
            && match kind(stat) {
                FileType::Symlink => upper.link(name)? == lower.folder.link(name)?,
                FileType::RegularFile => same_bytes(upper.file(name)?, lower.folder.file(name)?)
                    .map_err(|error| StepError::new("read", path.display(), error))?,
                _ => true,
            })
    }
}

fn same_directory(upper: &Folder, below: &Merged, path: &Path) -> Result<bool, StepError> {
    let Some(lower) = below.top() else { return Ok(false) };
    let stat = |folder: &Folder| {
        rustix::fs::fstat(folder).map_err(|errno| StepError::new("fstat", path.display(), errno))
    };
    Ok(same_stat(&stat(upper)?, &stat(lower)?)
        && upper.attributes(".".as_ref())? == lower.attributes(".".as_ref())?)
}

fn same_stat(upper: &Stat, lower: &Stat) -> bool {
    let of = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec);
    // A directory's size and device number are the file system's business.
    let numbers = kind(upper) == FileType::Directory
        || (upper.st_size == lower.st_size && upper.st_rdev == lower.st_rdev);
    of(upper) == of(lower) && numbers
}

fn same_bytes(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let length = one.read(&mut a)?;
        if length == 0 {
            return Ok(other.read(&mut b)? == 0);
        }
        match other.read_exact(&mut b[..length]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        if a[..length] != b[..length] {
            return Ok(false);
        }
    }
}
