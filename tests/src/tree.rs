//! A private copy of a directory tree.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

/// Copies directories, files, links and hard links, with their modes; everything belongs to `owner` if one is given, else to
/// whom it belonged. Device nodes, sockets and FIFOs are left out.
///
/// # Errors
/// The first file that cannot be read or made, by name.
pub fn copy(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    copy_one(from, to, owner, &mut HashMap::new())
}

/// What an ordinary user may not read, such as a `shadow` that root made, is copied as nothing.
fn closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && !nix::unistd::geteuid().is_root()
}

type Copied = HashMap<(u64, u64), PathBuf>;

fn copy_one(from: &Path, to: &Path, owner: Option<(u32, u32)>, copied: &mut Copied) -> io::Result<()> {
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", from.display()));
    let about = fs::symlink_metadata(from).map_err(failed)?;
    let kind = about.file_type();
    if kind.is_dir() {
        fs::create_dir_all(to).map_err(failed)?;
        let entries = match fs::read_dir(from) {
            Err(error) if closed(&error) => None,
            other => Some(other.map_err(failed)?),
        };
        for entry in entries.into_iter().flatten() {
            let name = entry?.file_name();
            copy_one(&from.join(&name), &to.join(&name), owner, copied)?;
        }
    } else if kind.is_symlink() {
        symlink(fs::read_link(from)?, to).map_err(failed)?;
    } else if !kind.is_file() {
        return Ok(());
    } else if let Some(first) = copied.get(&(about.dev(), about.ino())) {
        return fs::hard_link(first, to).map_err(failed);
    } else {
        match fs::copy(from, to) {
            Err(error) if closed(&error) => drop(fs::File::create(to).map_err(failed)?),
            other => drop(other.map_err(failed)?),
        }
        copied.insert((about.dev(), about.ino()), to.to_owned());
    }
    let (user, group) = owner.unwrap_or((about.uid(), about.gid()));
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::lchown(to, Some(user), Some(group)).map_err(failed)?;
    }
    // After chown, which clears set-user-id.
    if kind.is_symlink() { Ok(()) } else { fs::set_permissions(to, about.permissions()).map_err(failed) }
}

/// Gives a file or directory to a user.
///
/// # Errors
/// As chown(2).
pub fn give(path: &Path, user: u32, group: u32) -> io::Result<()> {
    nix::unistd::chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))).map_err(io::Error::from)
}
