//! Unpack a root file system from a tar archive, trusting nothing in it.
//!
//! `docker export` and `debootstrap | tar` give a root file system as a tar archive: one header of 512 bytes for each file, then
//! its bytes. Unpacked as root by a careless program, an archive owns the machine; see [`crate::inside`] for the way that paths
//! are kept in, and [`crate::archive`] for how it is read. What is left to see to here: 1. `..` in a name is refused; 2. ownership
//! comes before the mode, since chown(2) clears set-user-id; 3. a directory's mode and times come last, for it must be writable until
//! then; by then a link may stand where it was, which is not to be followed; 4. device nodes are made for root alone, because an
//! ordinary user cannot, nor root of a user namespace, who gives files no owners but those of its map; 5. what must be kept in memory to the end has a limit; 6. the archive appears under its final name
//! complete or not at all.
//!
//! See tar(5), path_resolution(7). Chapter 4 unpacks image layers by the same code, and adds the whiteouts.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use step::{StepError, step};
use tar::EntryType;

use crate::Error;
use crate::archive::{Archive, Entry};
use crate::inside::Inside;

/// How an archive is unpacked.
#[derive(Debug, Clone)]
pub struct Unpack {
    /// Give each file the owner that the archive records: root's privilege. Otherwise all files belong to whoever unpacks.
    pub as_root: bool,
    /// Make device nodes: the privilege of the machine's root. Otherwise they are left out.
    pub devices: bool,
}

/// What this process may do. Root of a user namespace has owners to give where that has more ids than its own, and no devices.
impl Default for Unpack {
    fn default() -> Self {
        let is_root = geteuid().is_root();
        let map = |of: &str| fs::read_to_string(format!("/proc/self/{of}_map")).unwrap_or_default();
        let (users, groups) = (map("uid"), map("gid"));
        let several = |map: &str| map.lines().count() > 1 || !map.trim_end().ends_with(" 1");
        // Where nothing can be read there are no user namespaces.
        let whole = users.is_empty() || users.split_whitespace().eq(["0", "0", "4294967295"]);
        Self { as_root: is_root && several(&users) && several(&groups), devices: is_root && whole }
    }
}

/// What was unpacked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The number of entries.
    pub entries: u64,
    /// The bytes of all regular files.
    pub bytes: u64,
    /// Device nodes that an ordinary user cannot make; the first thousand.
    pub left_out: Vec<PathBuf>,
    /// Whether files of others than root became those of whoever unpacked them.
    pub owners_left_out: bool,
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
    let mut work = Work {
        archive: Archive::new(reader),
        inside: Inside::open(root)?,
        buffer: vec![0; BUFFER].into_boxed_slice(),
        unpacked: Unpacked::default(),
    };
    let damaged = |source| Error::Archive { path: root.to_owned(), source };
    let (mut directories, mut kept) = (Vec::new(), 0);
    while let Some(entry) = work.archive.next().map_err(damaged)? {
        let path = relative(Path::new(OsStr::from_bytes(&entry.path)))?;
        work.unpacked.entries += 1;
        if intercept(work.inside.root(), &path)? {
            continue;
        }
        let attributes = Attributes::of(&entry, &path)?;
        if !work.make(&entry, &path, how).map_err(|error| error.in_archive(&path, root))? {
            continue;
        }
        work.unpacked.owners_left_out |= !how.as_root && attributes.owner != (Uid::ROOT, Gid::ROOT);
        if entry.kind == EntryType::Directory {
            kept += attributes.memory() + path.as_os_str().len();
            if kept > MOST_MEMORY {
                return Err(refused(&path, "is one directory more than memory is spent on"));
            }
            directories.push((path, attributes));
        } else if entry.kind != EntryType::Link {
            attributes.set(&mut work.inside, &path, how)?;
        }
    }
    // Deepest first: where a mode shuts its owner out, what is below must be done.
    for (path, attributes) in directories.iter().rev() {
        attributes.set(&mut work.inside, path, how)?;
    }
    Ok(work.unpacked)
}

/// What is read at once.
const BUFFER: usize = 1 << 17;
/// What the attributes of all directories may take: more than a million of them.
const MOST_MEMORY: usize = 256 << 20;

/// Device nodes that are named.
const MOST_NAMED: usize = 1000;

/// An archive on its way into a directory.
struct Work<R> {
    archive: Archive<R>,
    inside: Inside,
    buffer: Box<[u8]>,
    unpacked: Unpacked,
}

impl<R: Read> Work<R> {
    /// Makes one entry; `false` where it was left out.
    fn make(&mut self, entry: &Entry, path: &Path, how: &Unpack) -> Result<bool, Error> {
        let target = OsStr::from_bytes(&entry.link);
        let inside = &mut self.inside;
        if path.as_os_str().is_empty()
            && !matches!(entry.kind, EntryType::Directory | EntryType::XGlobalHeader)
        {
            return Err(refused(path, "has no name, or that of the root, and is no directory"));
        }
        match entry.kind {
            EntryType::Directory => inside.directory(path)?,
            EntryType::Symlink | EntryType::Link if target.is_empty() => {
                return Err(refused(path, "is a link to nothing"));
            }
            EntryType::Symlink => inside.symlink(path, target)?,
            EntryType::Link => inside.hard_link(path, &relative(Path::new(target))?)?,
            EntryType::Fifo => inside.node(path, FileType::Fifo, (0, 0))?,
            EntryType::Char | EntryType::Block if !how.devices => {
                if self.unpacked.left_out.len() < MOST_NAMED {
                    self.unpacked.left_out.push(path.to_owned());
                }
                return Ok(false);
            }
            EntryType::Char => inside.node(path, FileType::CharacterDevice, device(entry, path)?)?,
            EntryType::Block => inside.node(path, FileType::BlockDevice, device(entry, path)?)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let file = inside.file(path)?;
                self.fill(file, entry, path)?;
                self.unpacked.bytes = self.unpacked.bytes.saturating_add(entry.size);
            }
            _ => return Err(refused(path, "is of a kind that no file system has")),
        }
        Ok(true)
    }

    /// Writes a file's content; between the parts of one with holes nothing.
    fn fill(&mut self, mut file: File, entry: &Entry, path: &Path) -> Result<(), Error> {
        let failed = |call| {
            move |error| {
                Error::Step(StepError::new(
                    call,
                    path.display(),
                    Errno::from_io_error(&error).unwrap_or(Errno::IO),
                ))
            }
        };
        let Some(parts) = &entry.parts else {
            return self.copy(&mut file, entry.size, path, &failed("write"));
        };
        for &(offset, length) in parts {
            file.seek(SeekFrom::Start(offset)).map_err(failed("lseek"))?;
            self.copy(&mut file, length, path, &failed("write"))?;
        }
        file.set_len(entry.size).map_err(failed("ftruncate"))
    }

    fn copy(
        &mut self,
        file: &mut File,
        mut left: u64,
        path: &Path,
        failed: &dyn Fn(io::Error) -> Error,
    ) -> Result<(), Error> {
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match self.archive.read(&mut self.buffer[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(|source| Error::Archive { path: path.to_owned(), source })?,
            };
            file.write_all(&self.buffer[..count]).map_err(failed)?;
            left -= count as u64;
        }
        Ok(())
    }
}

fn refused(path: &Path, reason: &'static str) -> Error {
    const SHOWN: usize = 100;
    let bytes = path.as_os_str().as_bytes();
    let short = || [&bytes[..SHOWN], b"..."].concat();
    let path = if bytes.len() > SHOWN { OsString::from_vec(short()).into() } else { path.to_owned() };
    Error::Entry { path, reason }
}

/// The entry's name as a path under the root: `./bin/`, `/bin` and `bin` are the same.
///
/// # Errors
/// [`Error::Entry`] for a name that climbs.
fn relative(name: &Path) -> Result<PathBuf, Error> {
    /// PATH_MAX without the NUL at its end, and NAME_MAX.
    const LONGEST: (usize, usize) = (4095, 255);
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part)
                if part.len() > LONGEST.1 || path.as_os_str().len() + part.len() >= LONGEST.0 =>
            {
                return Err(refused(name, "has a longer name than Linux allows"));
            }
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refused(name, "climbs out of the root with .."));
            }
        }
    }
    Ok(path)
}

fn device(entry: &Entry, path: &Path) -> Result<(u32, u32), Error> {
    entry.device.ok_or_else(|| refused(path, "is a device without numbers"))
}

/// Owner, mode, time and extended attributes of an entry.
struct Attributes {
    kind: EntryType,
    owner: (Uid, Gid),
    extended: Vec<(OsString, Vec<u8>)>,
    mode: Mode,
    modified: (i64, u32),
}

impl Attributes {
    fn of(entry: &Entry, path: &Path) -> Result<Self, Error> {
        let user = entry.uid.ok_or_else(|| refused(path, "has no valid user id"))?;
        let group = entry.gid.ok_or_else(|| refused(path, "has no valid group id"))?;
        Ok(Self {
            kind: entry.kind,
            owner: (Uid::from_raw(user), Gid::from_raw(group)),
            extended: extended(entry),
            mode: Mode::from(entry.mode.ok_or_else(|| refused(path, "has no valid mode"))?),
            modified: entry.modified,
        })
    }

    fn memory(&self) -> usize {
        size_of::<(PathBuf, Self)>()
            + self
                .extended
                .iter()
                .map(|(key, value)| size_of::<(OsString, Vec<u8>)>() + key.len() + value.len())
                .sum::<usize>()
    }

    // ANCHOR: attributes
    fn set(&self, inside: &mut Inside, path: &Path, how: &Unpack) -> Result<(), Error> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if how.as_root {
            let (user, group) = (Some(self.owner.0), Some(self.owner.1));
            let given = inside.at(path, "fchownat", |parent, name| {
                rustix::fs::chownat(parent, name, user, group, nofollow)
            });
            given.map_err(|error| self.no_such_id(path, error))?;
        }
        for (key, value) in &self.extended {
            inside.at(path, "lsetxattr", |parent, name| set_extended(parent, name, key, value, how))?;
        }
        match self.kind {
            EntryType::Symlink => {}
            EntryType::Directory => {
                inside.at(path, "chmod", |parent, name| chmod_directory(parent, name, self.mode))?;
            }
            // Made a moment ago: it is no link.
            _ => inside.at(path, "fchmodat", |parent, name| {
                rustix::fs::chmodat(parent, name, self.mode, AtFlags::empty())
            })?,
        }
        let time = Timespec { tv_sec: self.modified.0, tv_nsec: self.modified.1.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        inside.at(path, "utimensat", |parent, name| rustix::fs::utimensat(parent, name, &times, nofollow))?;
        Ok(())
    }
    // ANCHOR_END: attributes

    /// EINVAL of chown(2): the map of this user namespace has no such id.
    fn no_such_id(&self, path: &Path, error: StepError) -> Error {
        let (user, group) = (self.owner.0.as_raw(), self.owner.1.as_raw());
        match error.errno() {
            Some(nix::errno::Errno::EINVAL) => Error::Owner { path: path.to_owned(), user, group },
            _ => error.into(),
        }
    }
}

/// Changes the mode of a directory, and of nothing else that may stand in its place by now: fchmodat(2) would follow a link.
fn chmod_directory(parent: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // What is open by its path alone has no other way; the kernel goes from here to the directory, not along a path.
    rustix::fs::chmod(format!("/proc/self/fd/{}", directory.as_raw_fd()), mode)
}

/// The extended attributes that mean the same on every machine: a program's capabilities and what users wrote. `trusted.overlay.`
/// and `user.overlay.` would be orders to the kernel where the tree is used as a layer.
fn extended(entry: &Entry) -> Vec<(OsString, Vec<u8>)> {
    let means_the_same = |(key, value): &&(Vec<u8>, Vec<u8>)| match key.as_slice() {
        b"security.capability" => !is_of_a_namespace(value),
        key => key.starts_with(b"user.") && !key.starts_with(b"user.overlay."),
    };
    let kept = entry.attributes.iter().filter(means_the_same);
    kept.map(|(key, value)| (OsStr::from_bytes(key).to_owned(), value.clone())).collect()
}

/// Whether these capabilities are for programs in the user namespace of one user of another machine: the third version of
/// `struct vfs_ns_cap_data`, with a root that is not 0. See capabilities(7).
fn is_of_a_namespace(value: &[u8]) -> bool {
    const VERSION_3: u8 = 3;
    value.get(3) == Some(&VERSION_3) && value.get(20..24) != Some(&[0; 4])
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
        // Of what is neither a file nor a directory, also root's.
        Err(Errno::PERM) if key.as_bytes().starts_with(b"user.") => Ok(()),
        other => other,
    }
}
