//! Swap the root mount with pivot_root(2).
//!
//! chroot changes where one process begins to look; the host's tree stays mounted above, and chapter 1's escape climbs to it.
//! pivot_root changes the mount table itself: the new root becomes the mount at `/`, the old one hangs somewhere below it, and
//! umount2 takes it away. Afterwards there is no outside to climb to in this mount namespace.
//!
//! What the kernel requires, each else EINVAL: 1. the new root is a mount, and its directory that mount's root; 2. neither the
//! mount that it is mounted on, nor the old root's, is shared, or the swap would happen to others too; 3. the old root is
//! itself mounted on something: the first root of a booted machine, an initramfs, is not, and so cannot be moved away;
//! 4. this process is not in a chroot; 5. the new root is not one that a more privileged namespace locked in place.
//! And: 6. new and old root are not the same mount (EBUSY).
//!
//! Order: into the new root -> pivot with "." for both -> the old root is now on top of ".": detach it -> "/".
//! That "." serves as both needs no directory for the old root in somebody's read-only rootfs.
//!
//! See pivot_root(2), umount2(2), mount_namespaces(7).

use std::fs;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::unistd::{chdir, fchdir};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
use rustix::process::pivot_root;
use step::{StepError, step};

use crate::Error;

/// Makes the mount whose root directory is `new_root` the root of this mount namespace, and detaches the old one.
///
/// # Errors
/// [`Error::Pivot`] where the kernel answers EINVAL, with the cause; else the step that failed.
// ANCHOR: enter
pub fn enter(new_root: BorrowedFd<'_>) -> Result<(), Error> {
    step("fchdir", format_args!("the new root"), "name both sides of the swap by \".\"")
        .run(|| fchdir(new_root))?;
    step(
        "pivot_root",
        format_args!(". ."),
        "swap the root mount itself: unlike chroot, nothing of the old tree stays reachable",
    )
    .run(|| pivot_root(".", "."))
    .map_err(|error| refusal(new_root, error))?;
    step("umount2", format_args!(". MNT_DETACH"), "the old root lies on top of the new one: take it away")
        .run(|| umount2(".", MntFlags::MNT_DETACH))?;
    step("chdir", format_args!("/"), "the working directory was the old root").run(|| chdir("/"))?;
    Ok(())
}
// ANCHOR_END: enter

/// EINVAL has five causes, and the mount table tells which it was.
fn refusal(new_root: BorrowedFd<'_>, source: StepError) -> Error {
    if source.errno() != Some(Errno::EINVAL) {
        return source.into();
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let seen = statx(new_root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok();
    let is_mount = seen.is_none_or(|seen| seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    let id = seen.map(|seen| seen.stx_mnt_id);
    Error::Pivot { reason: reason(&table, id, is_mount), source }
}

/// Why pivot_root refused, from `/proc/self/mountinfo`, the new root's mount id, and whether it is a mount's root.
fn reason(table: &str, id: Option<u64>, is_mount: bool) -> &'static str {
    let mounts: Vec<_> = table.lines().filter_map(Line::parse).collect();
    // The new root may lie on top of the old one: see `new_root::attach`.
    let is_new = |mount: &&Line<'_>| is_mount && Some(mount.id) == id;
    let root = mounts.iter().rev().find(|mount| mount.place == "/" && !is_new(mount));
    let parent =
        |mount: &Line<'_>| mounts.iter().find(|other| other.id == mount.parent && other.id != mount.id);
    let new = mounts.iter().find(|mount| Some(mount.id) == id);
    match (root, new) {
        (None, Some(new)) if new.place == "/" => "the new root is the root already",
        (None, _) => "this process is in a chroot, whose root is no mount: run it outside",
        (Some(root), _) if root.kind == "rootfs" || root.parent == root.id => {
            "the root is a ramdisk, the first root of this machine, which cannot be moved: boot from a disk, or \
             `mount --bind` a directory and chroot there after `mount --move . /`"
        }
        _ if !is_mount => "the new root is no mount point: bind it onto itself first",
        (_, Some(new)) if parent(new).is_some_and(|parent| parent.shared) => {
            "the mount on which the new root is mounted is shared with other mount namespaces: make / private first"
        }
        (Some(root), _) if parent(root).is_some_and(|parent| parent.shared) => {
            "the mount on which the old root is mounted is shared with other mount namespaces: make it private first"
        }
        _ => {
            "the new root is locked in its place by a more privileged mount namespace: bind it first, with the mounts beneath it"
        }
    }
}

/// A line of mountinfo, as far as it matters here. See proc_pid_mountinfo(5).
struct Line<'a> {
    id: u64,
    parent: u64,
    place: &'a str,
    shared: bool,
    kind: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let fields: Vec<_> = mount.split(' ').collect();
        Some(Self {
            id: fields.first()?.parse().ok()?,
            parent: fields.get(1)?.parse().ok()?,
            place: fields.get(4)?,
            shared: fields.iter().skip(6).any(|field| field.starts_with("shared:")),
            kind: system.split(' ').next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: &str = "27 1 254:0 / / rw - ext4 /dev/vda rw\n40 27 254:0 /c /c rw - ext4 /dev/vda rw\n";

    #[test]
    fn each_cause_is_told_apart() {
        assert!(reason(DISK, Some(27), false).contains("no mount point"));
        assert!(
            reason(&DISK.replace("/ / rw", "/ / rw shared:1"), Some(40), true).contains("make / private")
        );
        let ramdisk = "1 1 0:2 / / rw - rootfs rootfs rw\n40 1 254:0 /c /c rw - ext4 /dev/vda rw\n";
        assert!(reason(ramdisk, Some(40), true).contains("ramdisk"));
        let chroot = "40 27 254:0 /c /c rw - ext4 /dev/vda rw\n";
        assert!(reason(chroot, Some(40), true).contains("chroot"));
        assert!(reason(DISK, Some(40), true).contains("locked"));
    }
}
