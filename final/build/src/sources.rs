//! What COPY and ADD will copy, found before anything is written: each file with its place below the destination.
//!
//! Finding first has two uses: all mistakes are told before a layer is begun, and the digest of what was found tells whether the
//! build cache has the layer already.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use sampan_image::Digest;
use sampan_image::digest::Digesting;

use crate::pattern::{Ignore, fits, is_pattern};
use crate::tree::{Found, Tree};

/// Where files come from, and what of it is left out.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) ignore: &'a Ignore,
}

/// A file, a link or a folder that is to be copied.
#[derive(Debug)]
pub(crate) struct Item {
    /// Its path in the origin.
    pub(crate) from: PathBuf,
    /// Its path below the destination; empty for the destination itself.
    pub(crate) to: PathBuf,
    pub(crate) found: Found,
}

/// One source of an instruction, with all that is in it.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its last name: what it is called in a destination that is a folder.
    pub(crate) name: OsString,
    /// A folder gives what is in it, and not itself.
    pub(crate) items: Vec<Item>,
    pub(crate) is_folder: bool,
}

impl Origin<'_> {
    /// Finds what a word of the instruction means: one source, or with wildcards any number.
    pub(crate) fn find(&self, word: &str) -> io::Result<Vec<Source>> {
        let mut sources = Vec::new();
        for path in self.matching(word)? {
            let resolved = self.tree.resolve(&path)?;
            // The context itself is never left out, only what is in it.
            let left_out = !resolved.path.as_os_str().is_empty()
                && self.ignore.excludes(&resolved.path)
                && !(resolved.found.as_ref().is_some_and(Found::is_dir) && self.ignore.may_take_back());
            let Some(found) = resolved.found.filter(|_| !left_out) else { continue };
            let is_folder = found.is_dir();
            let mut items = Vec::new();
            self.walk(&resolved.path, Path::new(""), found, &mut items)?;
            let name = path.file_name().unwrap_or_default().to_owned();
            sources.push(Source { name, items, is_folder });
        }
        Ok(sources)
    }

    /// The paths that a word with wildcards stands for, in order.
    fn matching(&self, word: &str) -> io::Result<Vec<PathBuf>> {
        let mut paths = vec![PathBuf::new()];
        for name in word.split('/').filter(|name| !name.is_empty() && *name != ".") {
            if !is_pattern(name) {
                paths.iter_mut().for_each(|path| path.push(name));
                continue;
            }
            let mut next = Vec::new();
            for path in paths {
                let resolved = self.tree.resolve(&path)?;
                let Some(found) = resolved.found.filter(Found::is_dir) else { continue };
                let names = self.tree.names(&resolved.path, &found)?;
                next.extend(names.into_iter().filter(|found| fits(name, found)).map(|name| path.join(name)));
            }
            paths = next;
        }
        Ok(paths)
    }

    fn walk(&self, from: &Path, to: &Path, found: Found, items: &mut Vec<Item>) -> io::Result<()> {
        let mut names = None;
        if found.is_dir() {
            names = Some(self.tree.names(from, &found)?);
        }
        items.push(Item { from: from.to_owned(), to: to.to_owned(), found });
        for name in names.into_iter().flatten() {
            let path = from.join(&name);
            let excluded = self.ignore.excludes(&path);
            if excluded && !self.ignore.may_take_back() {
                continue;
            }
            let Some(found) = self.tree.look(&path)? else { continue };
            if found.kind() == FileType::Socket {
                continue;
            }
            let (is_dir, before) = (found.is_dir(), items.len());
            if excluded && !is_dir {
                continue;
            }
            self.walk(&path, &to.join(&name), found, items)?;
            // An excluded folder is there only for what is taken back in it.
            if excluded && is_dir && items.len() == before + 1 {
                items.truncate(before);
            }
        }
        Ok(())
    }

    /// A digest over names, kinds, modes and contents; not over times and owners, which differ between two checkouts.
    pub(crate) fn digest(&self, sources: &[Source]) -> io::Result<Digest> {
        let mut all = Digesting::new(io::sink());
        // A file with several names is read once.
        let mut read: HashMap<(u64, u64), Digest> = HashMap::new();
        for source in sources {
            for item in &source.items {
                let kind = item.found.kind();
                let mut content = Vec::new();
                match kind {
                    FileType::RegularFile => {
                        let inode = (item.found.stat.st_dev, item.found.stat.st_ino);
                        let digest = match read.get(&inode) {
                            Some(digest) => digest.clone(),
                            None => {
                                let mut file = Digesting::new(self.tree.open(&item.from, &item.found)?);
                                io::copy(&mut file, &mut io::sink())?;
                                file.finish().1
                            }
                        };
                        content.extend_from_slice(digest.hex().as_bytes());
                        read.insert(inode, digest);
                    }
                    FileType::Symlink => {
                        content = self.tree.read_link(&item.from, &item.found)?.as_bytes().to_vec();
                    }
                    _ => {}
                }
                let (name, to) = (bytes(&source.name), bytes(item.to.as_os_str()));
                let head = format!(
                    "{kind:?} {:o} {} {} {}\n",
                    item.found.stat.st_mode,
                    name.len(),
                    to.len(),
                    content.len()
                );
                for part in [head.as_bytes(), name, to, &content] {
                    io::copy(&mut part.take(part.len() as u64), &mut all)?;
                }
            }
        }
        Ok(all.finish().1)
    }
}

fn bytes(text: &OsStr) -> &[u8] {
    text.as_bytes()
}
