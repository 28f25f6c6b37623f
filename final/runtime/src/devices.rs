//! `linux.devices`, and why a device node that is made inside opens nothing.
//!
//! Root in a container may make device nodes (`CAP_MKNOD` is among Docker's capabilities, for archives are unpacked with it), and
//! a node with the numbers of the host's disk *is* the host's disk. Docker forbids to open it by the devices controller of
//! cgroups. Here the mounts forbid it, which needs no cgroup: every file system of the container is mounted `nodev`, and only
//! the nodes that it is meant to have are mounts of their own without it. Order: the nodes are made in the container's `/dev`;
//! each is bound onto itself; then `/dev` as a whole becomes `nodev`, and the root file system too.
//!
//! A configuration that allows all devices (`--privileged`) is left as it is.
//! Not covered yet: rules for single devices (`linux.resources.devices`), which want the controller.
//!
//! See mknod(2), mount_setattr(2), open_tree(2); runtime-spec: config-linux.md, "Devices".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use step::{StepError, step};

use crate::masked::{attach, clone, set_attributes};

/// The nodes that chapter 2 makes.
const DEFAULT: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What the container may have besides the default nodes.
#[derive(Debug)]
pub(crate) struct Devices {
    more: Vec<LinuxDevice>,
    /// Whether a node that is made inside must not work.
    pub(crate) confined: bool,
}

impl Devices {
    pub(crate) fn new(linux: &Linux) -> Self {
        let rules =
            linux.resources().as_ref().and_then(|resources| resources.devices().clone()).unwrap_or_default();
        let all = rules.iter().any(|rule| {
            rule.allow()
                && rule.typ().is_none_or(|typ| typ == LinuxDeviceType::A)
                && rule.major().is_none()
                && rule.minor().is_none()
        });
        Self { more: linux.devices().clone().unwrap_or_default(), confined: !all }
    }

    /// Makes the configuration's own nodes below `root`.
    pub(crate) fn create(&self, root: BorrowedFd<'_>, in_user_namespace: bool) -> Result<(), StepError> {
        for device in &self.more {
            let path = device.path();
            let parent = directory(root, path.parent().unwrap_or(Path::new("/")))?;
            let name = path.file_name().unwrap_or_default();
            if in_user_namespace {
                // Chapter 2 binds the default nodes; others are bound by the caller's mounts.
                continue;
            }
            let kind = match device.typ() {
                LinuxDeviceType::B => FileType::BlockDevice,
                LinuxDeviceType::P => FileType::Fifo,
                _ => FileType::CharacterDevice,
            };
            let (major, minor) = (number(device.major())?, number(device.minor())?);
            let mode = Mode::from(device.file_mode().unwrap_or(0o666) & 0o7777);
            let owner = (Uid::from_raw(device.uid().unwrap_or(0)), Gid::from_raw(device.gid().unwrap_or(0)));
            step(
                "mknod",
                format_args!("{} {major}:{minor}", path.display()),
                "a device that the configuration asks for",
            )
            .run(|| {
                match rustix::fs::mknodat(&parent, name, kind, mode, rustix::fs::makedev(major, minor)) {
                    Err(rustix::io::Errno::EXIST) => Ok(()),
                    other => other,
                }?;
                rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?;
                rustix::fs::chownat(&parent, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)
            })?;
        }
        Ok(())
    }

    /// Makes every other node below `root` useless.
    pub(crate) fn confine(&self, root: BorrowedFd<'_>, in_user_namespace: bool) -> Result<(), StepError> {
        // The kernel lets no device of a user namespace's own mounts be opened anyway.
        if in_user_namespace || !self.confined {
            return Ok(());
        }
        step(
            "mount_setattr",
            format_args!("/dev MOUNT_ATTR_NODEV"),
            "a node that is made later opens nothing; these few are mounts of their own",
        )
        .run(|| {
            let mut nodes: Vec<PathBuf> = DEFAULT.iter().map(|name| Path::new("/dev").join(name)).collect();
            nodes.extend(self.more.iter().map(|device| device.path().clone()));
            let opened = nodes.iter().map(|path| open(root, path)).collect::<rustix::io::Result<Vec<_>>>()?;
            let copies = opened
                .iter()
                .map(|node| clone(node.as_fd(), false))
                .collect::<rustix::io::Result<Vec<_>>>()?;
            set_attributes(open(root, Path::new("/dev"))?.as_fd(), libc::MOUNT_ATTR_NODEV, false)?;
            set_attributes(root, libc::MOUNT_ATTR_NODEV, false)?;
            copies.iter().zip(&opened).try_for_each(|(copy, node)| attach(copy.as_fd(), node.as_fd()))
        })
    }
}

fn number(number: i64) -> Result<u32, StepError> {
    u32::try_from(number).map_err(|_| StepError::new("mknod", number, Errno::EINVAL))
}

fn open(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, inside, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Opens a directory below the root, and makes it.
fn directory(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, StepError> {
    let mut at = open(root, Path::new(".")).map_err(|errno| StepError::new("openat2", "/", errno))?;
    let mut walked = PathBuf::from("/");
    for part in path.strip_prefix("/").unwrap_or(path) {
        walked.push(part);
        at = match open(root, &walked) {
            Err(rustix::io::Errno::NOENT) => {
                let made = rustix::fs::mkdirat(&at, part, Mode::from(0o755));
                made.and_then(|()| open(root, &walked))
            }
            other => other,
        }
        .map_err(|errno| StepError::new("openat2", walked.display(), errno))?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confined(rules: &str) -> bool {
        Devices::new(&serde_json::from_str(&format!(r#"{{"resources":{{"devices":{rules}}}}}"#)).unwrap())
            .confined
    }

    #[test]
    fn only_a_rule_for_all_devices_opens_the_fence() {
        assert!(confined("[]"));
        assert!(confined(r#"[{"allow":false,"access":"rwm"}]"#));
        assert!(confined(r#"[{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}]"#));
        assert!(confined(r#"[{"allow":true,"type":"c","access":"m"}]"#));
        assert!(!confined(r#"[{"allow":true,"access":"rwm"}]"#));
    }
}
