//! Read a layer's directory by descriptors.
//!
//! A running container may swap a directory for a link at any moment. A path that is walked as text from the host's side would
//! then lead out of the layer; a chain of openat(2) with `O_NOFOLLOW` cannot. Everything here only reads.
//!
//! See openat(2), fstatat(2), getdents(2), listxattr(2), proc_pid_fd(5).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use step::StepError;

/// An open directory of a layer.
#[derive(Debug)]
pub(crate) struct Folder {
    directory: OwnedFd,
    /// Its path from the layer's root, for errors.
    path: PathBuf,
}

type Result<T> = std::result::Result<T, StepError>;

/// Extended attributes by name.
pub(crate) type Attributes = BTreeMap<OsString, Vec<u8>>;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Folder {
    /// Opens a layer's root.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let directory = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
            .map_err(|errno| StepError::new("openat", path.display(), errno))?;
        Ok(Self { directory, path: PathBuf::new() })
    }

    /// Opens a directory in this one, never through a link.
    pub(crate) fn folder(&self, name: &OsStr) -> Result<Self> {
        let directory =
            rustix::fs::openat(&self.directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        Ok(Self { directory: directory.map_err(self.failed("openat", name))?, path: self.path.join(name) })
    }

    /// Opens a regular file in this directory. What has become something else is gone: opening a FIFO would wait, and to open some
    /// devices is an order to them. So it is opened by its path alone, looked at, and then opened to be read.
    pub(crate) fn file(&self, name: &OsStr) -> Result<File> {
        let open = || {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
            if kind(&rustix::fs::fstat(&found)?) != FileType::RegularFile {
                return Err(Errno::NOENT);
            }
            let path = format!("/proc/self/fd/{}", found.as_raw_fd());
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        };
        open().map(File::from).map_err(self.failed("openat", name))
    }

    /// Whether the name is here, and what it is; never follows a link.
    pub(crate) fn stat(&self, name: &OsStr) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("fstatat", name)(errno)),
        }
    }

    /// The names in it, in the order of their bytes.
    pub(crate) fn names(&self) -> Result<BTreeSet<OsString>> {
        let here = OsStr::new(".");
        let mut names = BTreeSet::new();
        for entry in Dir::read_from(&self.directory).map_err(self.failed("getdents", here))? {
            let entry = entry.map_err(self.failed("getdents", here))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Where a link points to.
    pub(crate) fn link(&self, name: &OsStr) -> Result<OsString> {
        let target = rustix::fs::readlinkat(&self.directory, name, Vec::new())
            .map_err(self.failed("readlinkat", name))?;
        Ok(OsStr::from_bytes(target.as_bytes()).to_owned())
    }

    /// The extended attributes of a name that belong into a layer: `user.` and a program's capabilities, not the host's labels,
    /// and never the overlay's own, which would be orders to the kernel where the layer is used.
    pub(crate) fn attributes(&self, name: &OsStr) -> Result<Attributes> {
        // There is no call that takes a directory and a name and follows no link; this path has the same effect.
        let path = Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(name);
        let mut list = Vec::new();
        match read_all(&mut list, |buffer| rustix::fs::llistxattr(&path, buffer)) {
            Err(Errno::NOTSUP) => return Ok(Attributes::new()),
            other => other.map_err(self.failed("llistxattr", name))?,
        }
        let mut attributes = Attributes::new();
        for key in list.split(|&byte| byte == 0).map(OsStr::from_bytes).filter(|key| belongs(key)) {
            let mut value = Vec::new();
            match read_all(&mut value, |buffer| rustix::fs::lgetxattr(&path, key, buffer)) {
                Err(Errno::NODATA) => {}
                other => {
                    other.map_err(self.failed("lgetxattr", name))?;
                    attributes.insert(key.to_owned(), value);
                }
            }
        }
        Ok(attributes)
    }

    fn failed(&self, call: &'static str, name: &OsStr) -> impl FnOnce(Errno) -> StepError {
        let path = self.path.join(name);
        move |errno| StepError::new(call, path.display(), errno)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Whether a name is gone, or has become something else, since it was found: a container may be running.
pub(crate) fn is_gone(error: &StepError) -> bool {
    let errnos = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    error.errno().is_some_and(|found| errnos.iter().any(|errno| errno.raw_os_error() == found as i32))
}

/// The kind of a file.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn belongs(key: &OsStr) -> bool {
    let key = key.as_bytes();
    key == b"security.capability" || (key.starts_with(b"user.") && !key.starts_with(b"user.overlay."))
}

/// Reads what a call gives, with more room as long as the kernel says that there is too little: at most 64 KiB, xattr(7).
fn read_all(
    buffer: &mut Vec<u8>,
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<()> {
    buffer.resize(256, 0);
    loop {
        match read(buffer) {
            Err(Errno::RANGE) if buffer.len() < 1 << 16 => buffer.resize(buffer.len() * 4, 0),
            other => {
                buffer.truncate(other?);
                return Ok(());
            }
        }
    }
}
