//! In which layer a name lies.
//!
//! The overlay looks a name up from the top, and the first layer that has it decides: 1. a file, a link, a device: it is the
//! result, whatever lies under it; 2. a whiteout: the name does not exist; 3. a directory: it is merged with the directories of
//! that name further down, until a layer has something else there, or an opaque directory ends the search.
//!
//! This is the same rule in user space, for programs that look at the layers from the host's side.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Stat};
use step::StepError;

use crate::Error;
use crate::folder::{Folder, kind};
use crate::whiteout::{is_opaque, is_whiteout};

/// Where a path of the merged tree lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the writable directory.
    Upper,
    /// In the layer of this number; 0 is the lowest.
    Layer(usize),
    /// Nowhere, because the writable directory hides it.
    Hidden,
    /// In none.
    Nowhere,
}

/// Says where the path lies: from the top, down to the first layer that has it or hides it.
///
/// # Errors
/// The read that failed.
pub fn locate(path: &Path, upper: &Path, userxattr: bool, lower: &[PathBuf]) -> Result<Place, Error> {
    let layers = Merged::open(lower, userxattr)?;
    let mut everything = layers;
    let count = everything.folders.len();
    everything.folders.insert(0, (count, Folder::open(upper)?));
    let place = |layer: usize| if layer == count { Place::Upper } else { Place::Layer(layer) };
    let mut found = Place::Upper;
    let mut names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    while let Some(name) = names.next() {
        match everything.find(name)? {
            Below::Nothing { hidden: true } => return Ok(Place::Hidden),
            Below::Nothing { hidden: false } => return Ok(Place::Nowhere),
            Below::File(file) if names.next().is_none() => return Ok(place(file.layer)),
            Below::File(_) => return Ok(Place::Nowhere),
            Below::Directory(merged) => {
                found = merged.folders.first().map_or(Place::Nowhere, |(layer, _)| place(*layer));
                everything = merged;
            }
        }
    }
    Ok(found)
}

/// A directory as several layers have it, uppermost first, each with its layer's number.
#[derive(Debug)]
pub(crate) struct Merged {
    folders: Vec<(usize, Folder)>,
    userxattr: bool,
}

/// What lies under a name.
#[derive(Debug)]
pub(crate) enum Below<'a> {
    /// Nothing; `hidden` if the uppermost layer says so.
    Nothing { hidden: bool },
    /// Something that is no directory.
    File(Lying<'a>),
    /// A directory, of one layer or of several.
    Directory(Merged),
}

/// A file that is no directory, in the layer that decides.
#[derive(Debug)]
pub(crate) struct Lying<'a> {
    pub(crate) layer: usize,
    pub(crate) folder: &'a Folder,
    pub(crate) stat: Stat,
}

impl Merged {
    /// Opens the layers' roots; `lower` is lowest first.
    pub(crate) fn open(lower: &[PathBuf], userxattr: bool) -> Result<Self, StepError> {
        let open = |(layer, path): (usize, &PathBuf)| Ok((layer, Folder::open(path)?));
        let folders = lower.iter().enumerate().rev().map(open).collect::<Result<_, StepError>>()?;
        Ok(Self { folders, userxattr })
    }

    /// A directory that no layer has.
    pub(crate) fn nothing() -> Self {
        Self { folders: Vec::new(), userxattr: false }
    }

    /// The directory as the uppermost layer has it.
    pub(crate) fn top(&self) -> Option<&Folder> {
        self.folders.first().map(|(_, folder)| folder)
    }

    /// Looks a name up.
    // ANCHOR: find
    pub(crate) fn find(&self, name: &OsStr) -> Result<Below<'_>, StepError> {
        let mut merged = Vec::new();
        for (index, (layer, folder)) in self.folders.iter().enumerate() {
            let Some(stat) = folder.stat(name)? else { continue };
            if kind(&stat) == FileType::Directory {
                let child = folder.folder(name)?;
                let opaque = is_opaque(&child, self.userxattr);
                merged.push((*layer, child));
                if opaque {
                    break;
                }
            } else if !merged.is_empty() {
                break;
            } else if is_whiteout(&stat) {
                return Ok(Below::Nothing { hidden: index == 0 });
            } else {
                return Ok(Below::File(Lying { layer: *layer, folder, stat }));
            }
        }
        Ok(match merged.is_empty() {
            true => Below::Nothing { hidden: false },
            false => Below::Directory(Self { folders: merged, userxattr: self.userxattr }),
        })
    }
    // ANCHOR_END: find

    /// All names that the merged directory shows.
    pub(crate) fn names(&self) -> Result<BTreeSet<OsString>, StepError> {
        let mut names = BTreeSet::new();
        for (_, folder) in &self.folders {
            names.append(&mut folder.names()?);
        }
        let mut shown = BTreeSet::new();
        for name in names {
            if !matches!(self.find(&name)?, Below::Nothing { .. }) {
                shown.insert(name);
            }
        }
        Ok(shown)
    }
}
