//! What the kernel must have: its version, the namespaces, pivot_root, overlay.

use std::fs;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::utsname::uname;
use nix::unistd::{chdir, geteuid};
use serde_json::json;

use super::Finding;
use crate::mountinfo;
use crate::trial::{become_ordinary, enter_mount_namespace, enter_user_namespace, in_child, told};

/// `setns` by pidfd is of 5.8, the youngest call that root's chapters cannot do without; overlay's `userxattr` of 5.11.
const OLDEST: (u32, u32) = (5, 8);
const OLDEST_ROOTLESS: (u32, u32) = (5, 11);
/// Not in nix. See time_namespaces(7).
const CLONE_NEWTIME: i32 = 0x80;

pub(super) fn version() -> Finding {
    let release = uname().map(|uname| uname.release().to_string_lossy().into_owned()).unwrap_or_default();
    let data = json!({ "release": release });
    let numbers = parse(&release);
    let upgrade = "upgrade to a distribution with Linux 5.11 or later (Debian 12, Ubuntu 22.04)";
    match numbers {
        Some(numbers) if numbers < OLDEST => Finding::missing(format!("Linux {release} is too old"), upgrade),
        Some(numbers) if numbers < OLDEST_ROOTLESS => {
            Finding::missing_unless_root(format!("Linux {release} knows no rootless overlay"), upgrade)
        }
        _ => Finding::works(format!("Linux {release}")),
    }
    .with(data)
}

fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Unshares it, as an ordinary user inside a user namespace.
pub(super) fn namespace(file: &'static str) -> Finding {
    let flag = match file {
        "pid" => CloneFlags::CLONE_NEWPID,
        "net" => CloneFlags::CLONE_NEWNET,
        "mnt" => CloneFlags::CLONE_NEWNS,
        "ipc" => CloneFlags::CLONE_NEWIPC,
        "uts" => CloneFlags::CLONE_NEWUTS,
        "user" => CloneFlags::CLONE_NEWUSER,
        "cgroup" => CloneFlags::CLONE_NEWCGROUP,
        _ => CloneFlags::from_bits_retain(CLONE_NEWTIME),
    };
    let inode = fs::read_link(Path::new("/proc/self/ns").join(file)).ok();
    let inode = inode.map(|link| link.display().to_string());
    let outcome = in_child(|| {
        if !geteuid().is_root() && file != "user" {
            enter_user_namespace()?;
        }
        told("unshare", unshare(flag)).map(|()| "")
    });
    match outcome {
        Ok(_) => Finding::works(inode.clone().unwrap_or_default()),
        Err(error) => Finding::missing(
            error,
            "run on a machine, or in a virtual machine, of your own: this kernel or whoever runs this container forbids it",
        ),
    }
    .with(json!({ "inode": inode }))
}

/// pivot_root(2) refuses where the root is the kernel's first file system, a ramdisk: EINVAL.
pub(super) fn pivot_root() -> Finding {
    let fstype = mountinfo::read(Path::new("/proc/self"))
        .into_iter()
        .rfind(|mount| mount.target == Path::new("/"))
        .map(|mount| mount.fstype)
        .unwrap_or_default();
    let outcome = in_child(|| {
        if !geteuid().is_root() {
            enter_user_namespace()?;
        }
        enter_mount_namespace()?;
        told("chdir", chdir("/tmp"))?;
        told("pivot_root", nix::unistd::pivot_root(".", "."))?;
        told("umount2", umount2(".", MntFlags::MNT_DETACH)).map(|()| "")
    });
    match outcome {
        Ok(_) => Finding::works(format!("works, from a root on {fstype}")),
        Err(error) if fstype == "rootfs" => Finding::missing(
            format!("{error}: the root directory is a ramdisk (rootfs), which cannot be swapped"),
            "boot with a root file system on a disk, or: mount --rbind / /mnt && cd /mnt && mount --move . / && chroot .",
        ),
        Err(error) => Finding::missing(error, "run on a machine, or in a virtual machine, of your own"),
    }
    .with(json!({ "root": fstype }))
}

/// As root; an ordinary user has the next check.
pub(super) fn overlay() -> Finding {
    if !geteuid().is_root() {
        return Finding::works("not asked: this user's overlay is the next line");
    }
    match in_child(|| mount_overlay("").map(|()| "")) {
        Ok(_) => Finding::works("mounts"),
        Err(error) => Finding::missing(error, "modprobe overlay"),
    }
}

pub(super) fn overlay_userxattr() -> Finding {
    let outcome = in_child(|| {
        become_ordinary()?;
        enter_user_namespace()?;
        mount_overlay(",userxattr").map(|()| "")
    });
    match outcome {
        Ok(_) => Finding::works("mounts in a user namespace"),
        Err(error) => Finding::missing_unless_root(
            format!("an ordinary user cannot: {error}"),
            "upgrade to Linux 5.11 or later, with user namespaces for ordinary users",
        ),
    }
}

fn mount_overlay(more: &str) -> Result<(), String> {
    enter_mount_namespace()?;
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(Path::new("/tmp").join(name)).map_err(|error| error.to_string())?;
    }
    let data = format!("lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work{more}");
    let data = Some(data.as_str());
    told("mount overlay", mount(Some("overlay"), "/tmp/merged", Some("overlay"), MsFlags::empty(), data))?;
    fs::write("/tmp/merged/file", "").map_err(|error| format!("write to the overlay: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(parse("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(parse("5.10-rc1"), Some((5, 10)));
        assert!(parse("5.10.0") > Some(OLDEST), "10 is more than 8");
        assert_eq!(parse("Darwin"), None);
    }
}
