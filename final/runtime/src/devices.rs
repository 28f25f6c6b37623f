//! `linux.devices`, and why a device node that is made inside opens nothing.
//!
//! Root in a container may make device nodes (`CAP_MKNOD` is among Docker's capabilities, for archives are unpacked with it), and
//! a node with the numbers of the host's disk *is* the host's disk. The rules of `linux.resources.devices` are kept by the
//! cgroup (chapter 3: a program on version 2, a controller of version 1). Where there is none that can, the mounts forbid it:
//! every file system of the container is mounted `nodev`, and only the nodes that it is meant to have are mounts of their own
//! without it; a rule that allows some other device has no effect there, as with runc for an ordinary user. Order: the nodes are made in the container's `/dev`;
//! each is bound onto itself; then `/dev` as a whole becomes `nodev`, and the root file system too.
//!
//! A configuration that allows all devices (`--privileged`) is left as it is.
//!
//! See mknod(2), mount_setattr(2), open_tree(2); runtime-spec: config-linux.md, "Devices".

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ::cgroups::Cgroup;
use ::namespaces::devices::{NODES, there};
use ::namespaces::in_root;
use nix::errno::Errno;
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};
use rustix::fs::{AtFlags, FileType, Gid, Mode, ResolveFlags, Uid};
use rustix::mount::MountAttrFlags;
use step::{StepError, step};

use crate::masked::{attach, clone, set_attributes};
use crate::resources;

/// What `/dev` is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Dev {
    /// The image's directory: nodes are made there all the same, as runc does it.
    #[default]
    Image,
    /// A file system of the container's own.
    Own,
    /// The host's, or somebody else's: nothing is made there.
    Bound,
}

/// What the container may have besides the default nodes.
#[derive(Debug)]
pub(crate) struct Devices {
    more: Vec<LinuxDevice>,
    /// Whether a node that is made inside must not work.
    pub(crate) confined: bool,
}

impl Devices {
    pub(crate) fn new(linux: &Linux, cgroup: Option<&Cgroup>) -> Self {
        let guarded = cgroup.is_some_and(Cgroup::guards_devices);
        // Rules that make no sense were an error before.
        let all = || {
            resources::limits(linux.resources().as_ref())
                .is_ok_and(|it| resources::allows_everything(&it.more))
        };
        let mut more = linux.devices().clone().unwrap_or_default();
        // `--privileged` lists the host's. The container's own leads to its own devpts, and is there already.
        more.retain(|device| device.path() != Path::new("/dev/ptmx"));
        Self { more, confined: !guarded && !all() }
    }

    /// Makes chapter 2's nodes and the configuration's own below `root`; in a user namespace, where nobody can, the host's are bound.
    pub(crate) fn create(&self, root: BorrowedFd<'_>, in_user_namespace: bool) -> Result<(), StepError> {
        ::namespaces::devices::create(root, in_user_namespace)?;
        for device in &self.more {
            let kind = match device.typ() {
                LinuxDeviceType::B => FileType::BlockDevice,
                LinuxDeviceType::P => FileType::Fifo,
                _ => FileType::CharacterDevice,
            };
            let numbers = rustix::fs::makedev(number(device.major())?, number(device.minor())?);
            if in_user_namespace && kind != FileType::Fifo {
                ::namespaces::devices::borrow(root, device.path(), kind, numbers)?;
            } else {
                make(root, device, kind, numbers)?;
            }
        }
        Ok(())
    }

    /// Makes every other node below `root` useless.
    pub(crate) fn confine(
        &self,
        root: BorrowedFd<'_>,
        dev: Dev,
        in_user_namespace: bool,
    ) -> Result<(), StepError> {
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
            let mut nodes = Vec::new();
            if dev != Dev::Bound {
                nodes.extend(NODES.iter().map(|(name, ..)| Path::new("/dev").join(name)));
                nodes.extend(self.more.iter().map(|device| device.path().clone()));
            }
            let opened = nodes.iter().map(|path| open(root, path)).collect::<rustix::io::Result<Vec<_>>>()?;
            let copies = opened
                .iter()
                .map(|node| clone(node.as_fd(), false))
                .collect::<rustix::io::Result<Vec<_>>>()?;
            if dev == Dev::Own {
                let dev = open(root, Path::new("/dev"))?;
                set_attributes(dev.as_fd(), MountAttrFlags::MOUNT_ATTR_NODEV, false)?;
            }
            set_attributes(root, MountAttrFlags::MOUNT_ATTR_NODEV, false)?;
            copies.iter().zip(&opened).try_for_each(|(copy, node)| attach(copy.as_fd(), node.as_fd()))
        })
    }
}

fn make(
    root: BorrowedFd<'_>,
    device: &LinuxDevice,
    kind: FileType,
    numbers: rustix::fs::Dev,
) -> Result<(), StepError> {
    let path = device.path();
    let (folder, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    let parent =
        directory(root, folder).map_err(|errno| StepError::new("openat2", folder.display(), errno))?;
    let mode = Mode::from(device.file_mode().unwrap_or(0o666) & 0o7777);
    let owner = (Uid::from_raw(device.uid().unwrap_or(0)), Gid::from_raw(device.gid().unwrap_or(0)));
    step(
        "mknod",
        format_args!("{} {}:{}", path.display(), device.major(), device.minor()),
        "a device that the configuration asks for",
    )
    .run(|| {
        match rustix::fs::mknodat(&parent, name, kind, mode, numbers) {
            Err(rustix::io::Errno::EXIST) => {}
            other => other?,
        }
        let node = there(parent.as_fd(), name, kind, numbers)?;
        // By descriptor, and not by a name that could be another file's by now.
        rustix::fs::chownat(&node, c"", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH)?;
        rustix::fs::chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), mode)
    })
}

fn number(number: i64) -> Result<u32, StepError> {
    u32::try_from(number).map_err(|_| StepError::new("mknod", number, Errno::EINVAL))
}

fn open(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    in_root::open(root, path, ResolveFlags::empty())
}

/// Opens a directory below the root, and makes it.
pub(crate) fn directory(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let mut at = open(root, Path::new("."))?;
    let mut walked = PathBuf::from("/");
    for part in path.strip_prefix("/").unwrap_or(path) {
        walked.push(part);
        at = match open(root, &walked) {
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&at, part, Mode::from(0o755))?;
                open(root, &walked)?
            }
            other => other?,
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confined(rules: &str) -> bool {
        let linux = serde_json::from_str(&format!(r#"{{"resources":{{"devices":{rules}}}}}"#)).unwrap();
        Devices::new(&linux, None).confined
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
