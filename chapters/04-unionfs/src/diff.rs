//! Pack what a container changed as a layer.
//!
//! A layer is a tar archive of the files that are new or other, with the whole of each file, and of whiteouts for those that are
//! gone (see [`crate::whiteout`]). It is named by the SHA-256 of its bytes, so the same tree must always give the same bytes:
//! 1. names in the order of their bytes; 2. whole seconds, as Docker writes them; 3. no names of users, no times of access.
//!
//! A file with holes is written in full: a layer's bytes must not depend on where a file system keeps zeros. Where the archive is a copy
//! of a tree and no layer, [`write_tree`] leaves the holes out, see `holes`.
//!
//! Extended attributes, and what a header of 512 bytes cannot hold (a long name, a large file or number), go into records of the
//! PAX format before the entry. A file with several names is written once; each further name is a hard link to the first. Sockets
//! have no form in tar, and no use without their process: they are left out, as by Docker.
//!
//! See tar(5), the OCI image specification, layer.md; POSIX, pax, "extended header".

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, major, minor};
use step::StepError;
use tar::{Builder, EntryType, Header};

use crate::changes::{Kind, find};
use crate::folder::{Folder, is_gone, kind};
use crate::holes::{self, Holes};
use crate::{Error, whiteout};

/// The name field of a header; a longer name goes into a PAX record.
const NAME_MAX: usize = 100;
/// What eleven octal digits hold: 8 GiB - 1.
const SIZE_MAX: u64 = 0o777_7777_7777;
/// What seven octal digits hold.
const ID_MAX: u32 = 0o777_7777;

/// Writes the changes in `upper` against the layers `lower` (lowest first) as a tar archive with whiteouts. With no `lower` all
/// of `upper` is written, every whiteout included. The same tree always gives the same bytes. Owners are written as this process
/// sees them: in a user namespace, call it there.
///
/// # Errors
/// The read that failed, or [`Error::Write`].
// ANCHOR: write_diff
pub fn write_diff(upper: &Path, userxattr: bool, lower: &[PathBuf], out: impl Write) -> Result<(), Error> {
    let mut layer = Layer { builder: Builder::new(out), names: HashMap::new(), holes: false };
    let mut folders = Folders { open: vec![(PathBuf::new(), Folder::open(upper)?)] };
    find(upper, userxattr, lower, &mut |found| {
        let path = &found.change.path;
        match found.change.kind {
            Kind::Deleted if found.covered => Ok(()),
            Kind::Deleted => layer.empty_file(&whiteout::archive_name(path)),
            Kind::Added | Kind::Modified => {
                layer.entry(&mut folders, path)?;
                if found.opaque { layer.empty_file(&path.join(whiteout::OPAQUE)) } else { Ok(()) }
            }
        }
    })?;
    layer.end()
}
// ANCHOR_END: write_diff

/// Writes a whole tree, as the kernel shows it, as a tar archive: what is in it is there, and nothing is hidden. Large holes of
/// files are left out.
///
/// # Errors
/// As for [`write_diff`].
pub fn write_tree(root: &Path, out: impl Write) -> Result<(), Error> {
    let mut layer = Layer { builder: Builder::new(out), names: HashMap::new(), holes: true };
    let mut folders = Folders { open: vec![(PathBuf::new(), Folder::open(root)?)] };
    find(root, false, &[], &mut |found| match found.change.kind {
        Kind::Deleted => Ok(()),
        Kind::Added | Kind::Modified => layer.entry(&mut folders, &found.change.path),
    })?;
    layer.end()
}

/// The open directories from the root to the one that was used last: entries come in order, so few are opened twice.
struct Folders {
    open: Vec<(PathBuf, Folder)>,
}

impl Folders {
    fn parent(&mut self, path: &Path) -> Result<&Folder, StepError> {
        let wanted = path.parent().unwrap_or(Path::new(""));
        while self.open.len() > 1 && self.open.last().is_some_and(|(open, _)| !wanted.starts_with(open)) {
            self.open.pop();
        }
        let (mut at, mut folder) = self.open.pop().unwrap_or_else(|| unreachable!("the root stays open"));
        for name in wanted.strip_prefix(&at).unwrap_or(wanted) {
            let next = folder.folder(name)?;
            self.open.push((at.clone(), folder));
            at.push(name);
            folder = next;
        }
        self.open.push((at, folder));
        Ok(&self.open[self.open.len() - 1].1)
    }
}

struct Layer<W: Write> {
    builder: Builder<W>,
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), PathBuf>,
    holes: bool,
}

impl<W: Write> Layer<W> {
    fn end(self) -> Result<(), Error> {
        self.builder.into_inner().and_then(|mut out| out.flush()).map_err(Error::Write)
    }

    /// Writes one name. One that is gone since it was found, or something else, is left out: a container may be running.
    fn entry(&mut self, folders: &mut Folders, path: &Path) -> Result<(), Error> {
        match folders.parent(path).map_err(Error::from).and_then(|folder| self.write(folder, path)) {
            Err(Error::Step(error)) if is_gone(&error) => Ok(()),
            other => other,
        }
    }

    /// Nothing is written before all that can fail is read.
    fn write(&mut self, folder: &Folder, path: &Path) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default();
        let Some(stat) = folder.stat(name)? else { return Ok(()) };
        let mut header = Header::new_ustar();
        let mut records = Records::default();
        header.set_mode(stat.st_mode & 0o7777);
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        records.id("uid", stat.st_uid, |id| header.set_uid(id));
        records.id("gid", stat.st_gid, |id| header.set_gid(id));
        header.set_size(0);
        let identity = (stat.st_dev, stat.st_ino);
        let has_names = stat.st_nlink > 1 && kind(&stat) != FileType::Directory;
        if let Some(first) = self.names.get(&identity).filter(|_| has_names) {
            header.set_entry_type(EntryType::Link);
            records.link(&mut header, first.as_os_str());
            return append(&mut self.builder, header, records, path, io::empty());
        }
        for (key, value) in folder.attributes(name)? {
            records.add(&[b"SCHILY.xattr.", key.as_bytes()].concat(), &value);
        }
        match kind(&stat) {
            FileType::RegularFile => {
                let file = folder.file(name)?;
                let about = rustix::fs::fstat(&file)
                    .map_err(|errno| StepError::new("fstat", path.display(), errno))?;
                let size = u64::try_from(about.st_size).unwrap_or(0);
                header.set_entry_type(EntryType::Regular);
                if let Some(holes) = Holes::of(&file, &about).filter(|_| self.holes) {
                    holes.records(path, size).iter().for_each(|(key, value)| records.add(key, value));
                    records.size(&mut header, holes.length());
                    append(&mut self.builder, header, records, &holes::path(path), holes.content(&file))?;
                } else {
                    records.size(&mut header, size);
                    // Exactly as many bytes as announced, also if somebody is writing.
                    let content = file.chain(io::repeat(0)).take(size);
                    append(&mut self.builder, header, records, path, content)?;
                }
                self.names.extend(has_names.then(|| (identity, path.to_owned())));
                return Ok(());
            }
            FileType::Directory => header.set_entry_type(EntryType::Directory),
            FileType::Symlink => {
                header.set_entry_type(EntryType::Symlink);
                records.link(&mut header, &folder.link(name)?);
            }
            FileType::CharacterDevice => device(&mut header, EntryType::Char, &stat)?,
            FileType::BlockDevice => device(&mut header, EntryType::Block, &stat)?,
            FileType::Fifo => header.set_entry_type(EntryType::Fifo),
            _ => return Ok(()),
        }
        append(&mut self.builder, header, records, path, io::empty())?;
        self.names.extend(has_names.then(|| (identity, path.to_owned())));
        Ok(())
    }

    /// A whiteout: its name says it all, and nothing else about it varies.
    fn empty_file(&mut self, path: &Path) -> Result<(), Error> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        append(&mut self.builder, header, Records::default(), path, io::empty())
    }
}

fn append<W: Write>(
    builder: &mut Builder<W>,
    mut header: Header,
    mut records: Records,
    path: &Path,
    data: impl Read,
) -> Result<(), Error> {
    let mut name = path.as_os_str().as_bytes().to_vec();
    if header.entry_type() == EntryType::Directory {
        name.push(b'/');
    }
    if name.len() > NAME_MAX {
        records.add(b"path", &name);
    }
    put(&mut header.as_old_mut().name, &name);
    records.write(builder).map_err(Error::Write)?;
    header.set_cksum();
    builder.append(&header, data).map_err(Error::Write)
}

fn device(header: &mut Header, kind: EntryType, stat: &Stat) -> Result<(), Error> {
    header.set_entry_type(kind);
    header.set_device_major(major(stat.st_rdev)).map_err(Error::Write)?;
    header.set_device_minor(minor(stat.st_rdev)).map_err(Error::Write)
}

/// Copies as much as fits, and zeros behind it.
fn put(field: &mut [u8; NAME_MAX], text: &[u8]) {
    let length = text.len().min(NAME_MAX);
    field[..length].copy_from_slice(&text[..length]);
    field[length..].fill(0);
}

/// The PAX records of one entry.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    /// Each record is `LENGTH KEY=VALUE\n`, and the length counts its own digits.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend(format!("{length} ").bytes());
        self.0.extend([key, b"=", value, b"\n"].concat());
    }

    fn id(&mut self, key: &str, id: u32, set: impl FnOnce(u64)) {
        set(u64::from(id.min(ID_MAX)));
        if id > ID_MAX {
            self.add(key.as_bytes(), id.to_string().as_bytes());
        }
    }

    fn size(&mut self, header: &mut Header, size: u64) {
        header.set_size(size);
        if size > SIZE_MAX {
            self.add(b"size", size.to_string().as_bytes());
        }
    }

    fn link(&mut self, header: &mut Header, target: &OsStr) {
        put(&mut header.as_old_mut().linkname, target.as_bytes());
        if target.len() > NAME_MAX {
            self.add(b"linkpath", target.as_bytes());
        }
    }

    fn write<W: Write>(&self, builder: &mut Builder<W>) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_path("PaxHeaders/record")?;
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(self.0.len() as u64);
        header.set_cksum();
        builder.append(&header, self.0.as_slice())
    }
}
