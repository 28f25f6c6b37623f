//! `linux.maskedPaths` and `readonlyPaths`: files of `/proc` and `/sys` that belong to the whole machine.
//!
//! A namespace of its own does not make all of `/proc` a container's own: `/proc/kcore` is the machine's memory, `/proc/sys` its
//! settings. What must not be read is covered, a directory by an empty read-only tmpfs and a file by `/dev/null`; what must
//! not be written is mounted onto itself read-only.
//!
//! The root file system may be hostile, so no path is trusted: 1. each is opened once, by openat2(2), with the container's root
//! as its root, and the mount is made *on that descriptor*: a link that is swapped in later changes nothing; 2. no magic link
//! of `/proc` is followed; 3. what covers a file is opened and looked at before: `/dev/null` must be the device 1:3, for a
//! link in its place would bind something else there (CVE-2025-31133); 4. a path that is not there is skipped: nothing is made.
//!
//! See mount_setattr(2), open_tree(2), move_mount(2), openat2(2); runtime-spec: config-linux.md.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use ::namespaces::in_root;
use ::namespaces::mounts::Change;
use nix::errno::Errno;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use step::{StepError, step};

use crate::proc;

/// Covers and protects the paths below `/`, which is the container's root by now. `own_proc`: whether proc is mounted at `/proc`.
/// `label`: what SELinux knows the container's files by.
///
/// # Errors
/// The step that failed.
pub(crate) fn apply(
    masked: &[String],
    readonly: &[String],
    own_proc: bool,
    label: Option<&str>,
) -> Result<(), StepError> {
    if masked.is_empty() && readonly.is_empty() {
        return Ok(());
    }
    let places = Places { root: open_root()?, proc: own_proc.then(proc::open).transpose()? };
    readonly.iter().try_for_each(|path| protect(&places, path))?;
    let mut covers = Covers { label, ..Covers::default() };
    masked.iter().try_for_each(|path| covers.cover(&places, path))
}

/// Where paths are looked up.
struct Places {
    root: OwnedFd,
    proc: Option<OwnedFd>,
}

impl Places {
    fn find(&self, path: &str) -> Result<Option<OwnedFd>, StepError> {
        let text = Path::new("/").join(path.trim_start_matches('/'));
        match (&self.proc, text.strip_prefix("/proc")) {
            (Some(proc), Ok(rest)) if !rest.components().any(|part| part == Component::ParentDir) => {
                find(proc.as_fd(), &rest.to_string_lossy())
            }
            _ => find(self.root.as_fd(), path),
        }
    }
}

/// Makes directories read-only, without the mounts that lie in them: `/` for `root.readonly`.
///
/// # Errors
/// The step that failed.
pub(crate) fn close(paths: &[String]) -> Result<(), StepError> {
    let root = open_root()?;
    for path in paths {
        let Some(directory) = find(root.as_fd(), path)? else { continue };
        step(
            "mount_setattr",
            format_args!("{path} MOUNT_ATTR_RDONLY"),
            "nothing can be made or changed here",
        )
        .run(|| set_attributes(directory.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false))?;
    }
    Ok(())
}

fn open_root() -> Result<OwnedFd, StepError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, "/", flags, Mode::empty()).map_err(|errno| StepError::new("openat", "/", errno))
}

/// Opens what is at `path`; none where nothing is.
fn find(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, StepError> {
    match in_root::open(root, &Path::new(".").join(path.trim_start_matches('/')), ResolveFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(StepError::new("openat2 RESOLVE_IN_ROOT", path, errno)),
    }
}

fn protect(places: &Places, path: &str) -> Result<(), StepError> {
    let Some(target) = places.find(path)? else { return Ok(()) };
    step(
        "mount_setattr",
        format_args!("{path} MOUNT_ATTR_RDONLY"),
        "a setting of the whole machine: to be seen, not changed",
    )
    .run(|| {
        let copy = clone(target.as_fd(), true)?;
        set_attributes(copy.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, true)?;
        attach(copy.as_fd(), target.as_fd())
    })
}

/// What files and directories are covered with. The empty directory is mounted where the first is covered and copied from there
/// for each further one: before Linux 6.15 a mount that hangs nowhere cannot be copied.
#[derive(Default)]
struct Covers<'a> {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
    label: Option<&'a str>,
}

impl Covers<'_> {
    fn cover(&mut self, places: &Places, path: &str) -> Result<(), StepError> {
        let Some(target) = places.find(path)? else { return Ok(()) };
        let stat = rustix::fs::fstat(&target).map_err(|errno| StepError::new("fstat", path, errno))?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let with = if directory { "an empty directory" } else { "/dev/null" };
        let cover = |cover: BorrowedFd<'_>| {
            step(
                "move_mount",
                format_args!("{with} to {path}"),
                "it tells of the whole machine: covered, it is empty",
            )
            .run(|| attach(cover, target.as_fd()))
        };
        match &self.empty {
            None if directory => {
                let empty = empty(self.label)?;
                cover(empty.as_fd())?;
                self.empty = Some(empty);
                Ok(())
            }
            Some(empty) if directory => cover(copy(empty.as_fd(), with)?.as_fd()),
            _ => cover(copy(self.null(places.root.as_fd())?, with)?.as_fd()),
        }
    }

    // ANCHOR: null
    fn null(&mut self, root: BorrowedFd<'_>) -> Result<BorrowedFd<'_>, StepError> {
        if self.null.is_none() {
            let fd = find(root, "/dev/null")?;
            let fd = fd.filter(|fd| {
                rustix::fs::fstat(fd).is_ok_and(|stat| {
                    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
                        && stat.st_rdev == rustix::fs::makedev(1, 3)
                })
            });
            self.null =
                Some(fd.ok_or_else(|| {
                    StepError::new("fstat", "/dev/null is not the device 1:3", Errno::ENODEV)
                })?);
        }
        Ok(held(&self.null))
    }
    // ANCHOR_END: null
}

/// A tmpfs with nothing in it, mounted nowhere yet.
fn empty(label: Option<&str>) -> Result<OwnedFd, StepError> {
    let make = || {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_flag(fs.as_fd(), "ro")?;
        label.map_or(Ok(()), |label| fsconfig_set_string(fs.as_fd(), "context", label))?;
        fsconfig_create(fs.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    step("fsmount", format_args!("tmpfs ro"), "one empty directory, to cover others with").run(make)
}

fn copy(cover: BorrowedFd<'_>, what: &str) -> Result<OwnedFd, StepError> {
    step("open_tree", format_args!("{what} OPEN_TREE_CLONE"), "the same once more, for another place")
        .run(|| clone(cover, false))
}

fn held(fd: &Option<OwnedFd>) -> BorrowedFd<'_> {
    // `CWD` is never used: both callers have just filled the option.
    fd.as_ref().map_or(CWD, AsFd::as_fd)
}

/// A detached copy of the mount and directory at `fd`.
pub(crate) fn clone(fd: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(fd, c"", flags)
}

pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// Sets attributes of a mount; `recursive`: and of those beneath it.
pub(crate) fn set_attributes(
    mount: BorrowedFd<'_>,
    set: MountAttrFlags,
    recursive: bool,
) -> rustix::io::Result<()> {
    let change = Change { set, recursive, ..Change::default() };
    change.apply(mount).map_err(|errno| rustix::io::Errno::from_raw_os_error(errno as i32))
}
