//! The file systems that a container needs under its root.
//!
//! A rootfs from an archive has empty directories where a running system has file systems that the kernel fills. [`container_mounts`]
//! plans them, as data; [`apply`] makes them, each first as a detached mount and then put into its place, so that no mount is ever
//! seen half configured.
//!
//! What the kernel requires of whoever mounts in a user namespace: 1. proc shows a pid namespace, and mqueue an ipc namespace, and
//! sysfs a network namespace: each can be mounted only by who has capabilities over that namespace; where it is shared with the
//! host, the host's mount is bound instead; 2. proc and sysfs only where the host's are not covered in part (as they are in an
//! ordinary Docker container); 3. group 5 (`tty`) can be named only where it is mapped.
//!
//! How a target is found, and made, in a root file system that may be hostile: [`crate::mount_point`]. What a mount can be asked
//! for besides: [`More`].
//!
//! See fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), proc(5), sysfs(5), tmpfs(5), mq_overview(7).

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{CWD, FileType};
pub use rustix::mount::MountAttrFlags;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use step::{StepError, step};

pub use crate::attributes::{Change, Propagation};
use crate::file_system::{Refusal, new_instance};
pub use crate::mount_more::{Covered, More, open_propagating};
use crate::mount_more::{label, like_covered, remount};
use crate::mount_point::{kind, resolve_or_make, without_links};
use crate::{Kind, copy_up, in_root};

/// What is mounted.
#[derive(Debug)]
pub enum Source {
    /// A new instance of a file system.
    New {
        /// Its type, as in `/proc/filesystems`.
        fstype: String,
        /// The first column of the mount table.
        source: String,
        /// The file system's own options, as mount(8) takes them: `mode=755,size=65536k`.
        data: String,
    },
    /// A file or a directory of the host, as the init process sees it before pivot_root.
    Bind {
        /// The path on the host.
        path: PathBuf,
        /// Whether the mounts beneath it come along.
        recursive: bool,
    },
    /// A mount that the runtime process detached: see [`crate::new_root::detached`].
    Detached(OwnedFd),
    /// What is mounted there already: it gets other options.
    Remount {
        /// The file system's own options.
        data: String,
    },
}

/// A mount to be made.
#[derive(Debug)]
pub struct Mount {
    /// What is mounted.
    pub source: Source,
    /// Where, inside the container; made where it is missing.
    pub target: PathBuf,
    /// `MOUNT_ATTR_RDONLY` and the like; on a recursive bind they hold for the whole tree.
    pub flags: MountAttrFlags,
    /// For `--explain`.
    pub why: &'static str,
    /// What few mounts are asked for.
    pub more: More,
}

impl Mount {
    fn new(fstype: &str, target: &str, data: &str, flags: MountAttrFlags, why: &'static str) -> Self {
        let source = Source::New { fstype: fstype.into(), source: fstype.into(), data: data.into() };
        Self { source, target: target.into(), flags, why, more: More::default() }
    }

    /// The host's own mount of that name, where it cannot be another.
    fn of_host(target: &str, flags: MountAttrFlags, why: &'static str) -> Self {
        let source = Source::Bind { path: target.into(), recursive: true };
        Self { source, target: target.into(), flags, why, more: More::default() }
    }
}

const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NOSUID_NOEXEC: MountAttrFlags = NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
/// No set-user-id programs, no devices, no programs.
const SAFE: MountAttrFlags = NOSUID_NOEXEC.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
const AS_IT_IS: MountAttrFlags = MountAttrFlags::empty();

/// The plan: `/proc`, `/dev`, `/dev/pts`, `/dev/shm`, `/dev/mqueue`, `/sys`, as a container with these namespaces of its own
/// may have them. `tty_group`: whether group 5 is mapped, to which terminals belong.
// ANCHOR: plan
pub fn container_mounts(new: &[Kind], tty_group: bool) -> Vec<Mount> {
    let own = |kind| new.contains(&kind);
    // Requirement 1: a new instance can be had with the namespace, or by the host's root.
    let may = |kind| own(kind) || !own(Kind::User);
    let mut mounts = vec![
        if may(Kind::Pid) {
            Mount::new(
                "proc",
                "/proc",
                "",
                SAFE,
                "shows the processes of the pid namespace of whoever mounts it",
            )
        } else {
            Mount::of_host("/proc", AS_IT_IS, "the pid namespace is the host's, and so is what shows it")
        },
        Mount::new(
            "tmpfs",
            "/dev",
            "mode=755,size=65536k",
            NOSUID,
            "a /dev of its own: no disk of the host's is in it",
        ),
        terminals(tty_group),
    ];
    mounts.extend(shared_memory(own(Kind::Ipc)));
    mounts.push(if may(Kind::Network) {
        let why = "shows the network namespace's interfaces; and switches of the machine, so it is read-only";
        Mount::new("sysfs", "/sys", "", SAFE | READ_ONLY, why)
    } else {
        Mount::of_host(
            "/sys",
            READ_ONLY,
            "the network namespace is the host's, and so is what shows it; read-only",
        )
    });
    mounts
}
// ANCHOR_END: plan

fn terminals(tty_group: bool) -> Mount {
    let options = "newinstance,ptmxmode=0666,mode=0620";
    let options = if tty_group { format!("{options},gid=5") } else { options.into() };
    Mount::new("devpts", "/dev/pts", &options, NOSUID_NOEXEC, "terminals of its own, numbered from 0")
}

/// What belongs to the ipc namespace, and is the host's where that is.
fn shared_memory(own: bool) -> Vec<Mount> {
    if own {
        let options = "mode=1777,size=65536k";
        return vec![
            Mount::new("tmpfs", "/dev/shm", options, SAFE, "POSIX shared memory is files, here"),
            Mount::new("mqueue", "/dev/mqueue", "", SAFE, "shows the message queues of the ipc namespace"),
        ];
    }
    let there = ["/dev/shm", "/dev/mqueue"].into_iter().filter(|target| Path::new(target).is_dir());
    there.map(|target| Mount::of_host(target, AS_IT_IS, "the host's, as the ipc namespace is")).collect()
}

/// Makes the mounts under the new root, in their order. No path leaves `root`, whatever links lie there.
///
/// # Errors
/// The step that failed, with what the kernel said of it besides its number.
// ANCHOR: apply
pub fn apply(root: BorrowedFd<'_>, mounts: &[Mount]) -> Result<(), StepError> {
    for mount in mounts {
        let said = RefCell::new(String::new());
        let made = step("mount", format_args!("{}", Told(mount)), mount.why).run(|| {
            make(root, mount).map_err(|refusal| {
                said.replace(refusal.said);
                refusal.errno
            })
        });
        made.map_err(|error| with_words(error, &said.take()))?;
    }
    Ok(())
}

fn make(root: BorrowedFd<'_>, mount: &Mount) -> Result<(), Refusal> {
    let made;
    let detached = match &mount.source {
        Source::New { fstype, source, data } => {
            let data = &*like_covered(root, mount, data)?;
            made = new_instance(fstype, source, data, mount.flags)?;
            if let Some(text) = &mount.more.label {
                label(made.as_fd(), text)?;
            }
            made.as_fd()
        }
        Source::Bind { path, recursive } => {
            made = cloned(path, *recursive)?;
            restrict(made.as_fd(), mount.flags)?;
            made.as_fd()
        }
        Source::Detached(tree) => {
            restrict(tree.as_fd(), mount.flags)?;
            tree.as_fd()
        }
        Source::Remount { data } => return remount(root, mount, data),
    };
    if let Covered::Copied { dress } = mount.more.covered
        && let Some(covered) = copy_up::source(root, &mount.target)?
    {
        copy_up::copy_up(covered.as_fd(), detached, dress)?;
    }
    for change in &mount.more.changes {
        change.apply(detached)?;
    }
    place(root, detached, mount)
}
// ANCHOR_END: apply

/// A copy of the mount at `path`, part of no mount table; `recursive`: and of those beneath it.
///
/// # Errors
/// As open_tree(2).
pub fn cloned(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut how = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    how.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(CWD, path, how)
}

/// Binds one file or directory of the host at `target`.
pub(crate) fn bind(root: BorrowedFd<'_>, path: &Path, target: &Path) -> rustix::io::Result<()> {
    let detached = cloned(path, false)?;
    let target = resolve_or_make(root, target, kind(&detached)? == FileType::Directory)?;
    attach(detached.as_fd(), target.as_fd())
}

fn restrict(tree: BorrowedFd<'_>, flags: MountAttrFlags) -> Result<(), Errno> {
    if flags.is_empty() {
        return Ok(());
    }
    Change { set: flags, recursive: true, ..Change::default() }.apply(tree)
}

// ANCHOR: place
/// Puts a detached mount at its target under `root`; a directory on a directory, a file on a file.
///
/// What confines a container is looked up below `/proc` and `/sys` later, and devices are made in `/dev`: so these lie where
/// their paths say, for a link there could be turned in between (CVE-2019-19921, CVE-2023-27561). And nothing else is put on proc
/// by a link that leads there (CVE-2019-16884).
fn place(root: BorrowedFd<'_>, detached: BorrowedFd<'_>, mount: &Mount) -> Result<(), Refusal> {
    // An instance's root is a directory, always.
    let directory = matches!(mount.source, Source::New { .. }) || kind(detached)? == FileType::Directory;
    let straight = ["/proc", "/sys", "/dev"].iter().any(|path| mount.target == Path::new(path));
    let found = if straight {
        without_links(root, &mount.target, directory).map_err(linked)?
    } else {
        resolve_or_make(root, &mount.target, directory)?
    };
    if !mount.target.starts_with("/proc") && in_root::on_proc(found.as_fd())? {
        return Err(refused(
            Errno::ELOOP,
            "a link leads into proc, and what confines the container would be covered",
        ));
    }
    if !directory && kind(&found)? == FileType::Directory {
        return Err(refused(Errno::EISDIR, "the source is a file, and a directory is there"));
    }
    Ok(attach(detached, found.as_fd())?)
}
// ANCHOR_END: place

/// Puts a detached mount on what is open.
pub(crate) fn attach(detached: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(detached, "", target, "", flags)
}

fn linked(errno: rustix::io::Errno) -> Refusal {
    if errno == rustix::io::Errno::LOOP {
        return refused(Errno::ELOOP, "it must be an ordinary directory, to which no link leads");
    }
    errno.into()
}

fn refused(errno: Errno, said: &str) -> Refusal {
    Refusal { errno, said: said.to_owned() }
}

/// The same error, and the words.
fn with_words(error: StepError, said: &str) -> StepError {
    match error.errno() {
        Some(errno) if !said.is_empty() => {
            StepError::new("mount", format_args!("{}: {said}", error.operands()), errno)
        }
        _ => error,
    }
}

/// `proc on /proc`, as mount(8) prints it.
struct Told<'a>(&'a Mount);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let target = self.0.target.display();
        match &self.0.source {
            Source::New { fstype, data, .. } if data.is_empty() => write!(f, "{fstype} on {target}"),
            Source::New { fstype, data, .. } => write!(f, "{fstype} on {target} ({data})"),
            Source::Bind { path, .. } => write!(f, "--bind {} on {target}", path.display()),
            Source::Detached(_) => write!(f, "--bind on {target}"),
            Source::Remount { data } => write!(f, "-o remount,{data} {target}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(new: &[Kind], tty: bool) -> Vec<String> {
        container_mounts(new, tty).iter().map(|mount| Told(mount).to_string()).collect()
    }

    #[test]
    fn a_container_with_all_namespaces_has_instances_of_its_own() {
        let mounts = told(&Kind::ALL, true);
        assert_eq!(
            mounts,
            [
                "proc on /proc",
                "tmpfs on /dev (mode=755,size=65536k)",
                "devpts on /dev/pts (newinstance,ptmxmode=0666,mode=0620,gid=5)",
                "tmpfs on /dev/shm (mode=1777,size=65536k)",
                "mqueue on /dev/mqueue",
                "sysfs on /sys",
            ]
        );
    }

    #[test]
    fn what_a_user_namespace_may_not_mount_is_bound_from_the_host() {
        let mounts = told(&[Kind::User, Kind::Mount], false);
        assert!(mounts.contains(&"--bind /proc on /proc".into()));
        assert!(mounts.contains(&"--bind /sys on /sys".into()));
        assert!(mounts.contains(&"devpts on /dev/pts (newinstance,ptmxmode=0666,mode=0620)".into()));
    }

    #[test]
    fn root_may_mount_for_the_hosts_namespaces_too() {
        let mounts = told(&[Kind::Mount], true);
        assert!(mounts.contains(&"proc on /proc".into()) && mounts.contains(&"sysfs on /sys".into()));
    }

    #[test]
    fn sys_is_read_only_everywhere() {
        for new in [&Kind::ALL[..], &[Kind::User, Kind::Mount]] {
            let mounts = container_mounts(new, true);
            let sys = mounts.iter().find(|mount| mount.target == Path::new("/sys")).unwrap();
            assert!(sys.flags.contains(MountAttrFlags::MOUNT_ATTR_RDONLY));
        }
    }
}
