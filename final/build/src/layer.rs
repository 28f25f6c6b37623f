//! Write a layer: files at their places in the image, in a folder that becomes the layer.
//!
//! The folder holds only what is new; but it lies over the image, and so 1. a path is resolved through the image first, for in
//! an image `/bin` may be a link to `usr/bin`, and a folder `bin` in the layer would replace the link; 2. a folder of the image that
//! is entered gets the same owner, mode and time in the layer, because the layer's count; 3. nothing is written through a link.
//! The first is [`Tree::resolve`]'s doing, the last that of chapter 1's [`Inside`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use chroot::Unpack;
use chroot::inside::Inside;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid};

use step::StepError;

use crate::Error;
use crate::sources::{Item, Origin};
use crate::tree::Tree;

/// A layer that is being written.
#[derive(Debug)]
pub(crate) struct Layer<'a> {
    image: &'a Tree,
    inside: Inside,
    /// Files get an owner only from root's hand.
    as_root: bool,
    /// The folders that were made, with the attributes that they get at the end: whatever is put into them changes their time.
    folders: BTreeMap<PathBuf, Attributes>,
    /// The links that were made as the image has them.
    links: BTreeSet<PathBuf>,
    /// Files with several names, by device and inode, and where the copy is.
    inodes: HashMap<(u64, u64), PathBuf>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    owner: (u32, u32),
    mode: u32,
    modified: Option<Timespec>,
}

impl Attributes {
    fn of(stat: &Stat) -> Self {
        let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
        Self {
            owner: (stat.st_uid, stat.st_gid),
            mode: stat.st_mode & 0o7777,
            modified: Some(Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds }),
        }
    }
}

impl<'a> Layer<'a> {
    /// Begins a layer in an empty folder.
    pub(crate) fn new(image: &'a Tree, folder: &Path) -> Result<Self, Error> {
        let mut layer = Self {
            image,
            inside: Inside::open(folder)?,
            as_root: Unpack::default().as_root,
            folders: BTreeMap::new(),
            links: BTreeSet::new(),
            inodes: HashMap::new(),
        };
        layer.remember(Path::new(""), None)?;
        Ok(layer)
    }

    /// Makes a folder and those above it, at a path that was resolved. What the image has stays as it is; the rest belongs to
    /// the owner.
    pub(crate) fn folder(&mut self, path: &Path, owner: (u32, u32)) -> Result<(), Error> {
        let mut at = PathBuf::new();
        for part in path {
            at.push(part);
            if !self.folders.contains_key(&at) {
                self.inside.directory(&at)?;
                self.remember(&at, Some(owner))?;
            }
        }
        Ok(())
    }

    fn remember(&mut self, path: &Path, owner: Option<(u32, u32)>) -> Result<(), Error> {
        let there = self.image.look(path).map_err(Error::read(path))?;
        let attributes = match there {
            Some(found) if found.is_dir() => Attributes::of(&found.stat),
            _ => Attributes { owner: owner.unwrap_or((0, 0)), mode: 0o755, modified: None },
        };
        self.folders.insert(path.to_owned(), attributes);
        Ok(())
    }

    /// A folder or a link that the image has on the way to a file of an archive is made again in the layer, unless it is there.
    pub(crate) fn as_in_image(&mut self, path: &Path) -> Result<(), StepError> {
        if self.folders.contains_key(path) || self.links.contains(path) {
            return Ok(());
        }
        let named = |error: io::Error| StepError::new("openat2", path.display(), error);
        let Some(found) = self.image.look(path).map_err(named)? else { return Ok(()) };
        match found.kind() {
            FileType::Directory => {
                self.inside.directory(path)?;
                self.folders.insert(path.to_owned(), Attributes::of(&found.stat));
            }
            FileType::Symlink => {
                let target = self.image.read_link(path, &found).map_err(named)?;
                self.inside.symlink(path, &target)?;
                self.links.insert(path.to_owned());
                // A link to nowhere would make way for a folder.
                let resolved = self.image.resolve(path).map_err(named)?;
                if resolved.found.is_some_and(|found| found.is_dir()) {
                    let mut at = PathBuf::new();
                    for part in &resolved.path {
                        at.push(part);
                        self.as_in_image(&at)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The path has attributes from elsewhere.
    pub(crate) fn forget(&mut self, path: &Path) {
        self.folders.remove(path);
    }

    /// Copies one item to a path that is looked up in the image.
    pub(crate) fn copy(
        &mut self,
        origin: &Origin<'_>,
        item: &Item,
        to: &Path,
        owner: (u32, u32),
        mode: Option<u32>,
    ) -> Result<(), Error> {
        let kind = item.found.kind();
        let mut attributes = Attributes::of(&item.found.stat);
        attributes.owner = owner;
        attributes.mode = mode.unwrap_or(attributes.mode);
        let read = Error::read(&item.from);
        let resolved = self.image.resolve(to).map_err(Error::read(to))?;
        // A link at the end is replaced, not followed; unless a folder is to go where one is.
        let parent = self.image.resolve(to.parent().unwrap_or(Path::new(""))).map_err(Error::read(to))?.path;
        let path = to.file_name().map_or_else(|| parent.clone(), |name| parent.join(name));
        if kind == FileType::Directory {
            let new = resolved.found.is_none() && !self.folders.contains_key(&resolved.path);
            if resolved.found.as_ref().is_some_and(|found| !found.is_dir()) {
                return Err(Error::NotFolder(Path::new("/").join(to)));
            }
            self.folder(&resolved.path, owner)?;
            if new {
                self.folders.insert(resolved.path, attributes);
            }
            return Ok(());
        }
        let in_the_way = self.image.look(&path).map_err(Error::read(to))?.is_some_and(|found| found.is_dir());
        if in_the_way || self.folders.contains_key(&path) {
            return Err(Error::IsFolder(Path::new("/").join(to)));
        }
        self.folder(&parent, owner)?;
        match kind {
            FileType::RegularFile if self.link(&item.found.stat, &path)? => return Ok(()),
            FileType::RegularFile => {
                let mut from = origin.tree.open(&item.from, &item.found).map_err(read)?;
                let mut file = self.inside.file(&path)?;
                copy_bytes(&mut from, &mut file).map_err(Error::read(&item.from))?;
            }
            FileType::Symlink => {
                let target = origin.tree.read_link(&item.from, &item.found).map_err(read)?;
                self.inside.symlink(&path, &target)?;
            }
            kind => {
                let device = item.found.stat.st_rdev;
                let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
                self.inside.node(&path, kind, numbers)?;
            }
        }
        self.set(&path, &attributes, kind == FileType::Symlink)
    }

    /// Makes a file that was copied under another name a hard link to that copy. Some images have all programs in one file.
    fn link(&mut self, stat: &Stat, path: &Path) -> Result<bool, Error> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        match self.inodes.get(&(stat.st_dev, stat.st_ino)) {
            Some(copy) => {
                self.inside.hard_link(path, copy)?;
                Ok(true)
            }
            None => {
                self.inodes.insert((stat.st_dev, stat.st_ino), path.to_owned());
                Ok(false)
            }
        }
    }

    /// Sets what could not be set earlier. Deepest first: a folder's time changes with what is put into it.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        for (path, attributes) in std::mem::take(&mut self.folders).iter().rev() {
            self.set(path, attributes, false)?;
        }
        Ok(())
    }

    fn set(&mut self, path: &Path, attributes: &Attributes, symlink: bool) -> Result<(), Error> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if self.as_root {
            let (user, group) = (Uid::from_raw(attributes.owner.0), Gid::from_raw(attributes.owner.1));
            self.inside.at(path, "fchownat", |parent, name| {
                rustix::fs::chownat(parent, name, Some(user), Some(group), nofollow)
            })?;
        }
        if !symlink {
            let mode = Mode::from(attributes.mode);
            self.inside.at(path, "fchmodat", |parent, name| {
                rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
            })?;
        }
        if let Some(time) = attributes.modified {
            let times = Timestamps { last_access: time, last_modification: time };
            self.inside.at(path, "utimensat", |parent, name| {
                rustix::fs::utimensat(parent, name, &times, nofollow)
            })?;
        }
        Ok(())
    }
}

/// The kernel copies from file to file, on some file systems without moving a byte: see copy_file_range(2).
fn copy_bytes(from: &mut File, to: &mut File) -> io::Result<u64> {
    io::copy(from, to)
}
