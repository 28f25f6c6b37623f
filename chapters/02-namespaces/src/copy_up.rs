//! The content of a directory, copied into the file system that is going to cover it.
//!
//! An image has files in `/var/lib/x`, and the container gets a tmpfs there: without this it would find it empty. The directory is
//! the image's and may hold anything: nothing in it is ever named by a path. Each directory is read and written through
//! its own descriptor, no link is followed, and a link is copied as a link.
//!
//! What is copied: directories, files, links, FIFOs, sockets and devices, with mode, owner, extended attributes and the time of change; a
//! file with several names becomes several files. What may not be: an owner whose id is not mapped in this user namespace
//! stays root, and a device that nobody here may make is left out, as nobody here could have opened it.
//!
//! See openat(2), mknodat(2), fchownat(2), utimensat(2), xattr(7).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::ffi::CStr;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::{Errno, Result};

/// How deep directories may lie in each other: each is held open while it is copied.
const DEPTH: u32 = 256;

/// Copies what is in the directory `from` to `to`; `as_it_is`: its owner and mode too.
pub(crate) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>, as_it_is: bool) -> Result<()> {
    let stat = rustix::fs::fstat(from)?;
    // The detached mount's descriptor is a place alone (O_PATH).
    let to = open(to, c".", OFlags::DIRECTORY)?;
    copy_entries(from, to.as_fd(), DEPTH)?;
    if as_it_is { dress(from, to.as_fd(), &stat) } else { Ok(()) }
}

fn copy_entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() != b"." && name.to_bytes() != b".." {
            copy_one(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn copy_one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::from(0o700))?;
            let (from, to) = (open(from, name, OFlags::DIRECTORY)?, open(to, name, OFlags::DIRECTORY)?);
            copy_entries(from.as_fd(), to.as_fd(), depth)?;
            dress(from.as_fd(), to.as_fd(), &stat)
        }
        FileType::RegularFile => {
            let from = open(from, name, OFlags::NONBLOCK)?;
            if !crate::mount_point::kind(&from)?.is_file() {
                return Err(Errno::STALE);
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let to = rustix::fs::openat(to, name, flags, Mode::from(0o600))?;
            let (mut reader, mut writer) = (File::from(from), File::from(to));
            io::copy(&mut reader, &mut writer).map_err(|error| number(&error))?;
            dress(reader.as_fd(), writer.as_fd(), &stat)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(&target, to, name)?;
            own(to, name, &stat)
        }
        kind => match rustix::fs::mknodat(to, name, kind, Mode::from(0o600), stat.st_rdev) {
            Err(Errno::PERM) => Ok(()),
            Err(errno) => Err(errno),
            Ok(()) => {
                own(to, name, &stat)?;
                rustix::fs::chmodat(to, name, Mode::from(stat.st_mode & 0o7777), AtFlags::empty())
            }
        },
    }
}

fn open(directory: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::openat(
        directory,
        name,
        flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Owner first: changing it takes set-user-id away.
fn dress(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
    unless_refused(rustix::fs::fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    ))?;
    attributes(from, to)?;
    rustix::fs::fchmod(to, Mode::from(stat.st_mode & 0o7777))?;
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() };
    rustix::fs::futimens(to, &Timestamps { last_access: time, last_modification: time })
}

fn own(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    unless_refused(rustix::fs::chownat(directory, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW))
}

fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let mut names = Vec::new();
    match rustix::fs::flistxattr_query(from) {
        Err(Errno::OPNOTSUPP) | Ok(0) => return Ok(()),
        other => names.resize(other?, 0_u8),
    }
    let length = rustix::fs::flistxattr(from, names.as_mut_slice())?;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; rustix::fs::fgetxattr_query(from, name)?];
        let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        unless_refused(rustix::fs::fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty()))?;
    }
    Ok(())
}

/// What only the host's root may do, or the new file system cannot hold.
fn unless_refused(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

fn number(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Opens a directory for [`copy_up`], or says that there is none: a tmpfs that covers nothing stays empty.
pub(crate) fn source(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>> {
    let there = match crate::mount_point::resolve(root, path) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    // O_PATH descriptors cannot be read; "." of it can, and is the same directory whatever lies on the path by now.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&there, ".", flags, Mode::empty()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_tree_is_copied_and_no_link_is_followed() {
        let folder = std::env::temp_dir().join(format!("sampan-{}-copy-up", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(from.join("sub/deep")).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(from.join("sub/deep/file"), "text").unwrap();
        fs::set_permissions(from.join("sub/deep/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        symlink("/etc/passwd", from.join("sub/link")).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1777)).unwrap();
        copy_up(File::open(&from).unwrap().as_fd(), File::open(&to).unwrap().as_fd(), true).unwrap();
        assert_eq!(fs::read_to_string(to.join("sub/deep/file")).unwrap(), "text");
        let (old, new) = (from.join("sub/deep/file"), to.join("sub/deep/file"));
        let (old, new) = (fs::metadata(old).unwrap(), fs::metadata(new).unwrap());
        assert_eq!((new.mode() & 0o7777, new.mtime()), (0o4751, old.mtime()));
        assert_eq!(fs::read_link(to.join("sub/link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1777);
        fs::remove_dir_all(&folder).unwrap();
    }
}
