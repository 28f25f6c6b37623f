//! Make files under a directory, whatever the names in an archive say.
//!
//! An archive may come from anybody. `../../etc/passwd` is the simple attack; the better one is an entry that is a link,
//! `bin -> /etc`, and after it a file `bin/passwd`. Checking the path as text cannot see the second, and checking it in the
//! file system leaves time to change it. openat2(2) with `RESOLVE_IN_ROOT` lets the kernel walk the path with this directory as
//! its root: neither `..` nor any link leaves it.
//!
//! Each operation resolves the *parent* that way and then acts on the last name alone, never following a link there.
//!
//! See openat2(2), and the `*at` calls: mkdirat(2), symlinkat(2), linkat(2), mknodat(2).

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use step::StepError;

/// A directory that the operations cannot leave.
#[derive(Debug)]
pub struct Inside {
    root: OwnedFd,
    /// The parent used last: archives list a directory's entries one after another.
    parent: Option<(PathBuf, OwnedFd)>,
}

type Result<T> = std::result::Result<T, StepError>;

impl Inside {
    /// Opens the directory.
    ///
    /// # Errors
    /// The call that failed, as for all operations here.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(named("openat", path))?;
        Ok(Self { root, parent: None })
    }

    /// The directory itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens the directory that holds `path`, and makes it (0755) where an archive left it out.
    // ANCHOR: parent
    fn parent(&mut self, path: &Path) -> Result<&OwnedFd> {
        let folder = path.parent().unwrap_or(Path::new(""));
        if self.parent.as_ref().is_none_or(|(open, _)| open != folder) {
            let fd = match self.resolve(folder) {
                Err(Errno::NOENT) => self.make_missing(folder)?,
                other => other.map_err(named("openat2 RESOLVE_IN_ROOT", folder))?,
            };
            self.parent = Some((folder.to_owned(), fd));
        }
        self.parent.as_ref().map(|(_, fd)| fd).ok_or_else(|| named("openat2", folder)(Errno::NOENT))
    }

    fn resolve(&self, folder: &Path) -> rustix::io::Result<OwnedFd> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(
            &self.root,
            folder,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }
    // ANCHOR_END: parent

    /// Makes what is missing of a path, from the top down and not by recursion: a name may have two thousand parts.
    fn make_missing(&self, folder: &Path) -> Result<OwnedFd> {
        let step = |path: &Path, done: rustix::io::Result<OwnedFd>| {
            done.map_err(|errno| StepError::new("openat2 RESOLVE_IN_ROOT", path.display(), errno))
        };
        let mut walked = PathBuf::new();
        let mut open = step(&walked, self.resolve(&walked))?;
        for part in folder {
            walked.push(part);
            open = match self.resolve(&walked) {
                Err(Errno::NOENT) => {
                    let mode = Mode::from(0o755);
                    // Whatever the umask of whoever unpacks: the archive's users are to get in.
                    let chmod = || rustix::fs::chmodat(&open, part, mode, AtFlags::empty());
                    let make = || rustix::fs::mkdirat(&open, part, mode).and_then(|()| chmod());
                    match make() {
                        // A link that leads nowhere makes way.
                        Err(Errno::EXIST) => {
                            rustix::fs::unlinkat(&open, part, AtFlags::empty()).and_then(|()| make())
                        }
                        made => made,
                    }
                    .map_err(named("mkdirat", &walked))?;
                    step(&walked, self.resolve(&walked))?
                }
                other => step(&walked, other)?,
            };
        }
        Ok(open)
    }

    /// Makes a directory; one that is there already stays, with what is in it.
    pub fn directory(&mut self, path: &Path) -> Result<()> {
        let name = last(path);
        let parent = self.parent(path)?;
        match rustix::fs::mkdirat(parent, name, Mode::from(0o755)) {
            Err(Errno::EXIST) => {
                let is_directory = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
                if is_directory {
                    return Ok(());
                }
                self.replace(path, "mkdirat", |parent, name| {
                    rustix::fs::mkdirat(parent, name, Mode::from(0o755))
                })
            }
            other => other.map_err(named("mkdirat", path)),
        }
    }

    /// Makes an empty file that did not exist, and opens it for writing.
    pub fn file(&mut self, path: &Path) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.replace(path, "openat", |parent, name| {
            rustix::fs::openat(parent, name, flags, Mode::from(0o600))
        })
        .map(File::from)
    }

    /// Makes a symbolic link. Where it points to is the business of whoever follows it, inside the new root.
    pub fn symlink(&mut self, path: &Path, target: &OsStr) -> Result<()> {
        self.replace(path, "symlinkat", |parent, name| rustix::fs::symlinkat(target, parent, name))
    }

    /// Makes a second name for the file `target`, which is looked up inside as well.
    pub fn hard_link(&mut self, path: &Path, target: &Path) -> Result<()> {
        if path == target {
            return Ok(());
        }
        let from = self
            .parent(target)?
            .try_clone()
            .map_err(|error| StepError::new("dup", target.display(), error))?;
        self.replace(path, "linkat", |parent, name| {
            rustix::fs::linkat(&from, last(target), parent, name, AtFlags::empty())
        })
    }

    /// Makes a device node, a FIFO or a socket.
    pub fn node(&mut self, path: &Path, kind: FileType, device: (u32, u32)) -> Result<()> {
        let device = rustix::fs::makedev(device.0, device.1);
        self.replace(path, "mknodat", |parent, name| {
            rustix::fs::mknodat(parent, name, kind, Mode::from(0o600), device)
        })
    }

    /// The directory that holds `path`, with its last name, for calls that set an attribute of it.
    pub fn at<'a, T>(
        &mut self,
        path: &'a Path,
        call: &'static str,
        act: impl FnOnce(BorrowedFd<'_>, &'a OsStr) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let parent = self.parent(path)?;
        act(parent.as_fd(), last(path)).map_err(named(call, path))
    }

    /// Makes `path` by `make`. What stood there under that name, not being a directory, makes way: of two entries of one name
    /// the later counts, and a link is replaced, never written through.
    fn replace<T>(
        &mut self,
        path: &Path,
        call: &'static str,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let name = last(path);
        let parent = self.parent(path)?.as_fd();
        let made = match make(parent, name) {
            Err(Errno::EXIST) => rustix::fs::unlinkat(parent, name, AtFlags::empty())
                .and_then(|()| make(parent, name))
                .map_err(named(call, path)),
            other => other.map_err(named(call, path)),
        };
        // A replaced link may have been part of the remembered parent's path.
        if self.parent.as_ref().is_some_and(|(open, _)| open.starts_with(path)) {
            self.parent = None;
        }
        made
    }
}

fn last(path: &Path) -> &OsStr {
    path.file_name().unwrap_or(OsStr::new("."))
}

fn named<'a>(call: &'static str, path: &'a Path) -> impl FnOnce(Errno) -> StepError + 'a {
    move |errno| StepError::new(call, path.display(), errno)
}
