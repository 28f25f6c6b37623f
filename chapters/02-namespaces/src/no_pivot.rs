//! Leave the old root where it cannot be swapped away.
//!
//! The first root of a machine, an initramfs, is mounted on nothing, and so pivot_root(2) refuses to move it. There the new root
//! stays on top of it, and chroot(2) makes that the root. What chroot leaves open in chapter 1 it leaves open here: whoever may
//! call it inside can climb out, into what lies below. So all else that is mounted there is taken away first, and what is
//! left to be reached is the initramfs alone.
//!
//! What the kernel requires: 1. a mount that a more privileged mount namespace has locked in its place cannot be taken away
//! (EINVAL): it is covered instead.
//!
//! Order: detach what is mounted beside the new root -> into the new root -> chroot -> "/".
//! See chroot(2), umount2(2), mount_namespaces(7); the kernel's ramfs-rootfs-initramfs.rst.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, chroot, fchdir};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use step::{StepError, step};

/// Makes the mount whose root directory is `new_root`, and which lies on top of `/` ([`crate::new_root::attach`]), the root of
/// this process.
///
/// # Errors
/// The step that failed.
pub fn enter(new_root: BorrowedFd<'_>) -> Result<(), StepError> {
    let table = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| StepError::new("open", "/proc/self/mountinfo", error))?;
    let (old, new) = (mount_id(CWD, "/")?, mount_id(new_root, "")?);
    for path in beside(&table, old, new) {
        take_away(&path)?;
    }
    step("fchdir", format_args!("the new root"), "chroot leaves the working directory where it is")
        .run(|| fchdir(new_root))?;
    step("chroot", format_args!("."), "an initramfs cannot be swapped: this process looks from here now")
        .run(|| chroot("."))?;
    step("chdir", format_args!("/"), "the same directory, by its new name").run(|| chdir("/"))
}

fn mount_id(directory: BorrowedFd<'_>, path: &str) -> Result<u64, StepError> {
    let seen = statx(directory, path, AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    seen.map(|seen| seen.stx_mnt_id).map_err(|errno| StepError::new("statx", path, errno))
}

/// What is mounted on the old root itself; the last first. What is mounted on that goes with it.
fn beside(table: &str, old: u64, new: u64) -> Vec<PathBuf> {
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (id, parent) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
        let path = fields.nth(2)?;
        (parent == old && id != old && id != new).then(|| plain(path))
    });
    let mut mounts: Vec<_> = mounts.collect();
    mounts.reverse();
    mounts
}

/// The kernel writes blanks and backslashes of a path as three octal digits.
fn plain(path: &str) -> PathBuf {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(path.to_owned(), |path, (code, character)| path.replace(code, character)).into()
}

fn take_away(path: &Path) -> Result<(), StepError> {
    let why = "else a program that climbs out of its chroot finds it";
    step("umount2", format_args!("{} MNT_DETACH", path.display()), why).run(|| {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Requirement 1.
            Err(Errno::EINVAL | Errno::EPERM) if path.is_dir() => {
                mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>)
            }
            other => other,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_on_the_old_root_is_named() {
        let table = "1 1 0:2 / / rw - rootfs rootfs rw\n20 1 0:5 / /proc rw - proc proc rw\n21 20 0:6 / /proc/x rw - tmpfs t rw\n\
            22 1 0:7 / /a\\040b rw - tmpfs t rw\n40 1 254:0 /c / rw - ext4 /dev/vda rw\n41 40 0:9 / /proc rw - proc proc rw\n";
        assert_eq!(beside(table, 1, 40), [PathBuf::from("/a b"), PathBuf::from("/proc")]);
    }
}
