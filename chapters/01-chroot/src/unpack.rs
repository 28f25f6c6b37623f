//! Unpack a root file system from a tar archive, trusting nothing in it.
//!
//! `docker export` and `debootstrap | tar` give a root file system as a tar archive: one header of 512 bytes for each file, then
//! its bytes. Unpacked as root by a careless program, an archive owns the machine; see [`crate::inside`] for the way that paths
//! are kept in. What is left to see to here: 1. `..` in a name is refused; 2. ownership comes before the mode, since chown(2)
//! clears set-user-id; 3. a directory's mode and times come last, for it must be writable until then; 4. device nodes are made
//! for root alone, because an ordinary user cannot; 5. the archive appears under its final name complete or not at all.
//!
//! See tar(5), path_resolution(7). Chapter 4 unpacks image layers by the same code, and adds the whiteouts.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use step::{StepError, step};
use tar::{Archive, Entry, EntryType};

use crate::Error;
use crate::inside::Inside;

/// How an archive is unpacked.
#[derive(Debug, Clone)]
pub struct Unpack {
    /// Give each file the owner that the archive records, and make device nodes: root's privilege. Otherwise all files belong
    /// to whoever unpacks, and device nodes are left out.
    pub as_root: bool,
}

impl Default for Unpack {
    fn default() -> Self {
        Self { as_root: geteuid().is_root() }
    }
}

/// What was unpacked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The number of entries.
    pub entries: u64,
    /// The bytes of all regular files.
    pub bytes: u64,
    /// Device nodes that an ordinary user cannot make.
    pub left_out: Vec<PathBuf>,
}

/// What a caller does with an entry before it is unpacked: `Ok(true)` means that it is dealt with. Gets the directory that is
/// unpacked into and the entry's path under it. Chapter 4 turns whiteouts into deletions here.
pub type Intercept<'a> = &'a mut dyn FnMut(BorrowedFd<'_>, &Path) -> Result<bool, StepError>;

/// Unpacks the archive into `rootfs`, which must be empty or not there.
///
/// # Errors
/// [`Error::NotEmpty`], [`Error::Archive`] or [`Error::Entry`], or the step that failed; nothing is left behind then.
// ANCHOR: unpack
pub fn unpack(archive: &Path, rootfs: &Path, how: &Unpack) -> Result<Unpacked, Error> {
    if fs::read_dir(rootfs).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::NotEmpty(rootfs.to_owned()));
    }
    let unreadable = |source| Error::Archive { path: archive.to_owned(), source };
    let reader = io::BufReader::with_capacity(1 << 16, File::open(archive).map_err(unreadable)?);
    let name = rootfs.file_name().unwrap_or_default().to_string_lossy();
    let staging = rootfs.with_file_name(format!("sampan-{}-{name}", std::process::id()));
    step(
        "mkdir",
        format_args!("{}", staging.display()),
        "unpack under another name, so that half a tree is never mistaken for one",
    )
    .run(|| fs::create_dir(&staging))?;
    let made = unpack_into(reader, &staging, how, &mut |_, _| Ok(false));
    let made = made.map_err(|error| error.of_archive(&staging, archive)).and_then(|unpacked| {
        step(
            "rename",
            format_args!("{} {}", staging.display(), rootfs.display()),
            "the whole tree appears at once",
        )
        .run(|| fs::rename(&staging, rootfs))?;
        Ok(unpacked)
    });
    if made.is_err() {
        // The first error is the one to tell. What stays behind is named so that `cargo kit leaks` knows it.
        let _ = fs::remove_dir_all(&staging);
    }
    made
}
// ANCHOR_END: unpack

/// Unpacks a stream into a directory that is there, over what is in it.
///
/// # Errors
/// As for [`unpack`]; what was unpacked before the error stays.
pub fn unpack_into(
    reader: impl Read,
    root: &Path,
    how: &Unpack,
    intercept: Intercept<'_>,
) -> Result<Unpacked, Error> {
    let damaged = |source| Error::Archive { path: root.to_owned(), source: readable(source) };
    let mut inside = Inside::open(root)?;
    let mut unpacked = Unpacked::default();
    let mut directories = Vec::new();
    for entry in Archive::new(reader).entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = relative(Path::new(OsStr::from_bytes(&entry.path_bytes())))?;
        unpacked.entries += 1;
        if intercept(inside.root(), &path)? {
            continue;
        }
        let attributes = Attributes::of(&mut entry, &path)?;
        if make(&mut inside, &mut entry, &path, how, &mut unpacked)? {
            if entry.header().entry_type().is_dir() {
                directories.push((path, attributes));
            } else if entry.header().entry_type() != EntryType::Link {
                attributes.set(&mut inside, &path, how)?;
            }
        }
    }
    // Deepest first: setting the times of a directory's entry changes those of the directory.
    for (path, attributes) in directories.iter().rev() {
        attributes.set(&mut inside, path, how)?;
    }
    Ok(unpacked)
}

/// The reader's words for a header that is none hold the bytes that it met.
fn readable(error: io::Error) -> io::Error {
    if !error.to_string().contains("when getting cksum") {
        return error;
    }
    io::Error::new(
        error.kind(),
        "no tar archive, or a damaged one (a compressed one must be decompressed first)",
    )
}

/// Makes one entry; `false` where it was left out.
fn make(
    inside: &mut Inside,
    entry: &mut Entry<'_, impl Read>,
    path: &Path,
    how: &Unpack,
    unpacked: &mut Unpacked,
) -> Result<bool, Error> {
    let link = entry.link_name_bytes().map(|bytes| OsStr::from_bytes(&bytes).to_owned());
    let kind = entry.header().entry_type();
    match (kind, link) {
        (EntryType::Directory, _) => inside.directory(path)?,
        (EntryType::Symlink, Some(target)) => inside.symlink(path, &target)?,
        (EntryType::Link, Some(target)) => inside.hard_link(path, &relative(Path::new(&target))?)?,
        (EntryType::Fifo, _) => inside.node(path, FileType::Fifo, (0, 0))?,
        (EntryType::Char | EntryType::Block, _) if !how.as_root => {
            unpacked.left_out.push(path.to_owned());
            return Ok(false);
        }
        (EntryType::Char, _) => inside.node(path, FileType::CharacterDevice, device(entry, path)?)?,
        (EntryType::Block, _) => inside.node(path, FileType::BlockDevice, device(entry, path)?)?,
        (EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse, _) => {
            let mut file = inside.file(path)?;
            unpacked.bytes += io::copy(entry, &mut file)
                .map_err(|source| Error::Archive { path: path.to_owned(), source })?;
        }
        // A comment of the archive's writer, such as the commit that `git archive` records.
        (EntryType::XGlobalHeader, _) => return Ok(false),
        _ => {
            return Err(Error::Entry {
                path: path.to_owned(),
                reason: "is of a kind that no file system has",
            });
        }
    }
    Ok(true)
}

/// The entry's name as a path under the root: `./bin/`, `/bin` and `bin` are the same.
///
/// # Errors
/// [`Error::Entry`] for a name that climbs.
fn relative(name: &Path) -> Result<PathBuf, Error> {
    let wrong = |reason| Error::Entry { path: name.to_owned(), reason };
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(wrong("climbs out of the root with .."));
            }
        }
    }
    Ok(path)
}

fn device(entry: &Entry<'_, impl Read>, path: &Path) -> Result<(u32, u32), Error> {
    let header = entry.header();
    match (header.device_major(), header.device_minor()) {
        (Ok(Some(major)), Ok(Some(minor))) => Ok((major, minor)),
        _ => Err(Error::Entry { path: path.to_owned(), reason: "is a device without numbers" }),
    }
}

/// Owner, mode, time and extended attributes of an entry.
struct Attributes {
    symlink: bool,
    owner: (Uid, Gid),
    extended: Vec<(OsString, Vec<u8>)>,
    mode: Mode,
    modified: i64,
}

impl Attributes {
    fn of(entry: &mut Entry<'_, impl Read>, path: &Path) -> Result<Self, Error> {
        let extended = extended(entry).map_err(|source| Error::Archive { path: path.to_owned(), source })?;
        let header = entry.header();
        let wrong = |reason| Error::Entry { path: path.to_owned(), reason };
        let id =
            |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok()).filter(|&id| id != u32::MAX);
        let user = id(header.uid()).ok_or_else(|| wrong("has no valid user id"))?;
        let group = id(header.gid()).ok_or_else(|| wrong("has no valid group id"))?;
        Ok(Self {
            symlink: header.entry_type() == EntryType::Symlink,
            owner: (Uid::from_raw(user), Gid::from_raw(group)),
            extended,
            mode: Mode::from(header.mode().map_err(|_| wrong("has no valid mode"))? & 0o7777),
            modified: header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0),
        })
    }

    // ANCHOR: attributes
    fn set(&self, inside: &mut Inside, path: &Path, how: &Unpack) -> Result<(), Error> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if how.as_root {
            let (user, group) = (Some(self.owner.0), Some(self.owner.1));
            inside.at(path, "fchownat", |parent, name| {
                rustix::fs::chownat(parent, name, user, group, nofollow)
            })?;
        }
        for (key, value) in &self.extended {
            inside.at(path, "lsetxattr", |parent, name| set_extended(parent, name, key, value, how))?;
        }
        if !self.symlink {
            inside.at(path, "fchmodat", |parent, name| {
                rustix::fs::chmodat(parent, name, self.mode, AtFlags::empty())
            })?;
        }
        let time = Timespec { tv_sec: self.modified, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        inside.at(path, "utimensat", |parent, name| rustix::fs::utimensat(parent, name, &times, nofollow))?;
        Ok(())
    }
    // ANCHOR_END: attributes
}

/// The extended attributes that the entry's PAX header carries and that mean the same on every machine: a program's capabilities
/// and what users wrote. `user.overlay.` would be an order to the kernel where the tree is used as a layer.
fn extended(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut found = Vec::new();
    // The reader takes a line for a record, and stumbles over a value with a line feed in it.
    for record in entry.pax_extensions()?.into_iter().flatten().flatten() {
        let Some(key) = record.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        if key == b"security.capability" || key.starts_with(b"user.") && !key.starts_with(b"user.overlay.") {
            found.push((OsStr::from_bytes(key).to_owned(), record.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

/// Left out where the file system keeps none, and where it is root's privilege.
fn set_extended(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    key: &OsStr,
    value: &[u8],
    how: &Unpack,
) -> rustix::io::Result<()> {
    // There is no call that takes a directory and a name and follows no link; this path has the same effect.
    let path = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
    match rustix::fs::lsetxattr(&path, key, value, XattrFlags::empty()) {
        Err(Errno::NOTSUP) => Ok(()),
        Err(Errno::PERM) if !how.as_root => Ok(()),
        other => other,
    }
}
