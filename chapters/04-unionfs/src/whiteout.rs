//! How a layer says "deleted", in its two spellings.
//!
//! A layer lies over others and cannot take a file out of them; it can only hide it.
//!
//! | | in a layer's tar archive | in an overlay's directory |
//! |---|---|---|
//! | the name `x` is hidden | an empty file `.wh.x` | a character device `x` with the numbers 0, 0 |
//! | all that was in this directory is hidden | an empty file `.wh..wh..opq` in it | its attribute `trusted.overlay.opaque` (`user.` with userxattr) is `y` |
//!
//! The kernel lets anybody make the device 0, 0, for it opens nothing (5.8). A whiteout of the archive hides what lies *under*
//! its layer, never what the same layer holds, wherever in the archive it stands; the two spellings agree only if the whiteouts are
//! made after everything else. So [`Whiteouts`] collects them while the archive is unpacked, and [`Whiteouts::apply`] makes them.
//!
//! See the OCI image specification, layer.md; the kernel's overlayfs.rst, "whiteouts and opaque directories".

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, XattrFlags, chmodat,
    fsetxattr, mkdirat, mknodat, openat2, statat, utimensat,
};
use rustix::io::Errno;
use step::{StepError, step};

/// What the name of a hidden file begins with in an archive.
pub const PREFIX: &str = ".wh.";
/// The name that makes its directory opaque in an archive.
pub const OPAQUE: &str = ".wh..wh..opq";
/// Names of AUFS's own bookkeeping, in old images: neither a file nor a whiteout.
const AUFS: &str = ".wh..wh.";

/// What the names of one archive's whiteouts may take.
const MOST_MEMORY: usize = 64 << 20;

/// The whiteouts of one archive, collected while it is unpacked.
#[derive(Debug)]
pub struct Whiteouts {
    userxattr: bool,
    hidden: BTreeSet<PathBuf>,
    opaque: BTreeSet<PathBuf>,
    memory: usize,
}

/// What an archive's entry means by its name.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    File,
    Hidden(OsString),
    Opaque,
    Ignored,
    Wrong,
}

impl Whiteouts {
    /// None yet. `userxattr` as in [`crate::Overlay`].
    pub fn new(userxattr: bool) -> Self {
        Self { userxattr, hidden: BTreeSet::new(), opaque: BTreeSet::new(), memory: 0 }
    }

    /// Looks at an entry before it is unpacked; `true` where it is a whiteout and no file. Fits `chroot::unpack::Intercept`:
    /// `&mut |root, path| whiteouts.intercept(root, path)`.
    ///
    /// # Errors
    /// EINVAL for a whiteout of nothing, of `.` or of `..`, and for what lies in a folder whose name is that of a whiteout; ENOMEM where
    /// there are more than any layer has.
    pub fn intercept(&mut self, _root: BorrowedFd<'_>, path: &Path) -> Result<bool, StepError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        for part in folder {
            match meaning(part) {
                Meaning::File => {}
                Meaning::Ignored => return Ok(true),
                _ => return Err(StepError::new("whiteout", path.display(), Errno::INVAL)),
            }
        }
        match meaning(path.file_name().unwrap_or_default()) {
            Meaning::File => return Ok(false),
            Meaning::Hidden(name) => drop(self.hidden.insert(folder.join(name))),
            Meaning::Opaque => drop(self.opaque.insert(folder.to_owned())),
            Meaning::Ignored => {}
            Meaning::Wrong => return Err(StepError::new("whiteout", path.display(), Errno::INVAL)),
        }
        self.memory += path.as_os_str().len() + size_of::<PathBuf>();
        if self.memory > MOST_MEMORY {
            return Err(StepError::new("whiteout", path.display(), Errno::NOMEM));
        }
        Ok(true)
    }

    /// Makes the whiteouts in the unpacked layer at `root`. Call it when all entries are unpacked.
    ///
    /// # Errors
    /// The step that failed.
    // ANCHOR: apply
    pub fn apply(&self, root: BorrowedFd<'_>) -> Result<(), StepError> {
        for path in &self.hidden {
            let name = path.file_name().unwrap_or_default();
            let folder = folder_of(root, path.parent().unwrap_or(Path::new("")))?;
            match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Hidden below and made anew in this layer: a file hides what was there, a directory must say that it does.
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    make_opaque(root, path, self.userxattr)?;
                }
                Ok(_) => {}
                Err(_) => make_whiteout(&folder, name, path)?,
            }
        }
        self.opaque.iter().try_for_each(|path| make_opaque(root, path, self.userxattr))
    }
    // ANCHOR_END: apply
}

fn meaning(name: &OsStr) -> Meaning {
    let bytes = name.as_bytes();
    if bytes == OPAQUE.as_bytes() {
        return Meaning::Opaque;
    }
    if bytes.starts_with(AUFS.as_bytes()) {
        return Meaning::Ignored;
    }
    match bytes.strip_prefix(PREFIX.as_bytes()) {
        None => Meaning::File,
        Some(b"" | b"." | b"..") => Meaning::Wrong,
        Some(hidden) => Meaning::Hidden(OsStr::from_bytes(hidden).to_owned()),
    }
}

/// The name in an archive of the whiteout that hides `path`.
pub fn archive_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(PREFIX);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Whether this is the overlay's whiteout.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether the overlay looks no deeper than this directory, which is open for reading.
pub fn is_opaque(directory: impl AsFd, userxattr: bool) -> bool {
    let mut value = [0; 2];
    let length = rustix::fs::fgetxattr(directory, opaque_attribute(userxattr), &mut value);
    length == Ok(1) && value[0] == b'y'
}

fn opaque_attribute(userxattr: bool) -> &'static str {
    if userxattr { "user.overlay.opaque" } else { "trusted.overlay.opaque" }
}

// ANCHOR: make
fn make_whiteout(folder: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), StepError> {
    let times = times_of(folder);
    step("mknodat", format_args!("{} c 0 0", path.display()), "the overlay's word for: deleted here")
        .run(|| mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), 0))?;
    // The folder's time is the archive's, and not that of this moment.
    times.map_or(Ok(()), |times| {
        utimensat(folder, "", &times, AtFlags::EMPTY_PATH)
            .map_err(|errno| StepError::new("utimensat", path.display(), errno))
    })
}

fn make_opaque(root: BorrowedFd<'_>, path: &Path, userxattr: bool) -> Result<(), StepError> {
    let folder = folder_of(root, path)?;
    let name = opaque_attribute(userxattr);
    step(
        "fsetxattr",
        format_args!("{} {name}=y", path.display()),
        "whatever lower layers have in here is hidden",
    )
    .run(|| fsetxattr(&folder, name, b"y", XattrFlags::empty()))
}
// ANCHOR_END: make

/// Opens a folder of the layer, and makes it where the archive has only a whiteout in it. Resolved as chapter 1 does it: no link
/// leads out.
fn folder_of(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, StepError> {
    let open = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    };
    let failed = |path: &Path, errno| StepError::new("openat2 RESOLVE_IN_ROOT", path.display(), errno);
    match open(path) {
        Err(Errno::NOENT) => {
            // From the top down, and not by recursion: a name may have two thousand parts.
            let mut walked = PathBuf::new();
            let mut folder = open(&walked).map_err(|errno| failed(&walked, errno))?;
            for part in path {
                walked.push(part);
                let next = open(&walked).or_else(|errno| match errno {
                    Errno::NOENT => {
                        mkdirat(&folder, part, Mode::from(0o755))?;
                        // Whatever the umask of whoever unpacks.
                        chmodat(&folder, part, Mode::from(0o755), AtFlags::empty())?;
                        open(&walked)
                    }
                    other => Err(other),
                });
                folder = next.map_err(|errno| failed(&walked, errno))?;
            }
            Ok(folder)
        }
        other => other.map_err(|errno| failed(path, errno)),
    }
}

fn times_of(folder: &OwnedFd) -> Option<Timestamps> {
    let stat = rustix::fs::fstat(folder).ok()?;
    let time = |seconds, nanoseconds: i64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let nanoseconds = |value| i64::try_from(value).unwrap_or(0);
    Some(Timestamps {
        last_access: time(stat.st_atime, nanoseconds(stat.st_atime_nsec)),
        last_modification: time(stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
    })
}
