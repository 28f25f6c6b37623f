//! Mount several directories as one with the overlay file system.
//!
//! ```text
//!   target:    /bin/sh   /etc/hosts   /new          what the container sees
//!              -------   ----------   ----
//!   upper:                /etc/hosts   /new          the one directory that is written
//!   lower[1]:             /etc/hosts                 a layer, never written
//!   lower[0]:  /bin/sh    /etc/hosts                 the lowest layer, never written
//! ```
//!
//! What the kernel requires: 1. at most 500 lower directories; 2. upper and work lie on one mount, neither inside the other, and
//! their file system keeps extended attributes and can rename over a whiteout (no overlay, no NFS); 3. no directory stands in
//! two places of the stack; 4. an overlay lies on an overlay once, not twice; 5. in a user namespace `userxattr` (kernel 5.11),
//! for the `trusted.` attributes belong to the host's root alone.
//!
//! The new mount API makes a file system in four calls, each with its own error: fsopen(2) a context, fsconfig(2) one setting at a
//! time, fsmount(2) the result, move_mount(2) it into the tree. `lowerdir+` adds one layer a call, uppermost first (kernel 6.8).
//! A kernel without it says so, and gets the old option string: see [`crate::options`].
//!
//! See fsopen(2), fsconfig(2), fsmount(2), move_mount(2); the kernel's Documentation/filesystems/overlayfs.rst.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};
use step::{StepError, step};

use crate::refusal::{self, Refusal};
use crate::{Error, options};

/// fsconfig(2) copies at most this many bytes of a string, its NUL among them.
const STRING_MAX: usize = 256;

/// Layers, and the directory that takes what is written.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// The layers, lowest first; at most 500. None of them is ever written.
    pub lower: Vec<PathBuf>,
    /// The directory that takes what is written. Its root's owner and mode become those of the merged root.
    pub upper: PathBuf,
    /// A directory of the kernel's own, empty, on the mount of `upper` and outside it.
    pub work: PathBuf,
    /// Keep the overlay's notes in `user.overlay.` attributes: a user namespace may not write `trusted.overlay.`.
    pub userxattr: bool,
    /// Never sync `upper` to the disk: right for a container that is removed at its end. After it, `upper` and `work` cannot be
    /// mounted again.
    pub volatile: bool,
    /// Keep an index of copied-up inodes in `work`: hard links of a layer stay together, and the kernel refuses an `upper` that
    /// is mounted already (EBUSY) or that was used with other layers (ESTALE). Off for containers: an upper directory whose
    /// content depends on `work` cannot become a layer.
    pub index: bool,
}

impl Overlay {
    /// Mounts the overlay on the directory `target`, in this process's mount namespace.
    ///
    /// # Errors
    /// [`Error::NoLayers`]; [`Error::Refused`] where the kernel's answer can be put in words; else the step that failed.
    // ANCHOR: mount
    pub fn mount(&self, target: &Path) -> Result<(), Error> {
        if self.lower.is_empty() {
            return Err(Error::NoLayers);
        }
        let outcome = match self.mount_by_fsconfig(target) {
            Err(refusal) if refusal.is_old_kernel() => options::mount(self, target),
            other => other,
        };
        outcome.map_err(|refusal| refusal.explain(self, target))
    }
    // ANCHOR_END: mount

    /// The new mount API.
    // ANCHOR: fsconfig
    fn mount_by_fsconfig(&self, target: &Path) -> Result<(), Refusal> {
        let context =
            step("fsopen", format_args!("overlay"), "a file system in the making: settings come one by one")
                .run(|| rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC))?;
        let context = context.as_fd();
        set(context, "source", Path::new("sampan"), "the name that the mount table shows")?;
        for layer in self.uppermost_first() {
            set(context, "lowerdir+", layer, "one more read-only layer, under those before it")?;
        }
        set(context, "upperdir", &self.upper, "the one directory that is written")?;
        set(
            context,
            "workdir",
            &self.work,
            "where the kernel prepares a file before it appears in upperdir",
        )?;
        for (key, value, why) in self.settings() {
            step("fsconfig", format_args!("{key} {}", value.unwrap_or_default()), why)
                .run(|| match value {
                    Some(value) => rustix::mount::fsconfig_set_string(context, key, value),
                    None => rustix::mount::fsconfig_set_flag(context, key),
                })
                .map_err(|error| refusal::heard(error, context))?;
        }
        step("fsconfig", format_args!("CMD_CREATE"), "now the kernel looks at all of it together")
            .run(|| rustix::mount::fsconfig_create(context))
            .map_err(|error| refusal::heard(error, context))?;
        let mount = step("fsmount", format_args!("overlay"), "a mount that hangs nowhere yet")
            .run(|| rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()))
            .map_err(|error| refusal::heard(error, context))?;
        step("move_mount", format_args!("{}", target.display()), "the merged tree appears here")
            .run(|| {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                rustix::mount::move_mount(&mount, "", CWD, target, flags)
            })
            .map_err(Refusal::from)
    }
    // ANCHOR_END: fsconfig

    /// The layers in the kernel's order. A layer that stands twice is given once, where it is uppermost: below that it would
    /// change nothing, and the kernel takes no directory twice.
    pub(crate) fn uppermost_first(&self) -> Vec<&Path> {
        let mut layers: Vec<&Path> = Vec::with_capacity(self.lower.len());
        for layer in self.lower.iter().rev() {
            if !layers.contains(&layer.as_path()) {
                layers.push(layer);
            }
        }
        layers
    }

    /// What is set besides the directories. Each of the first three has a default that a distribution may have changed, and with
    /// which `upper` would hold less than what was written: a name of a file's old place, or its attributes without its bytes.
    pub(crate) fn settings(&self) -> Vec<(&'static str, Option<&'static str>, &'static str)> {
        let mut settings = Vec::new();
        if self.userxattr {
            settings.push(("userxattr", None, "a user namespace has no right to trusted. attributes"));
        } else {
            // With userxattr both are off, and naming them is an error.
            settings.push((
                "metacopy",
                Some("off"),
                "a copied-up file is whole, so that upper can become a layer",
            ));
            settings.push((
                "redirect_dir",
                Some("nofollow"),
                "an attribute in a layer must not lead elsewhere",
            ));
        }
        let index = if self.index { "on" } else { "off" };
        settings.push(("index", Some(index), "whether work remembers which inode came from which layer"));
        if self.volatile {
            settings.push(("volatile", None, "nothing here outlives the container: never sync it"));
        }
        settings
    }
}

/// Takes the overlay away from `target`, now if nobody uses it, else when the last user is gone.
///
/// # Errors
/// The step; EINVAL where `target` is no mount.
pub fn unmount(target: &Path) -> Result<(), Error> {
    step(
        "umount2",
        format_args!("{} MNT_DETACH", target.display()),
        "the layers are plain directories again",
    )
    .run(|| rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW))?;
    Ok(())
}

/// Sets one directory. A path that is too long for fsconfig(2), or in which overlay would take a `\\` for an escape, is given by
/// the descriptor of the directory that it names.
fn set(context: BorrowedFd<'_>, key: &'static str, path: &Path, why: &'static str) -> Result<(), Refusal> {
    let text = path.as_os_str().as_bytes();
    let odd = text.len() >= STRING_MAX || text.contains(&b'\\');
    let open = odd.then(|| directory(path)).transpose()?;
    let given = open.as_ref().map_or_else(|| path.as_os_str().to_owned(), by_descriptor);
    step("fsconfig", format_args!("{key} {}", path.display()), why)
        .run(|| rustix::mount::fsconfig_set_string(context, key, given.as_bytes()))
        .map_err(|error| refusal::heard(error, context))
}

fn by_descriptor(directory: &OwnedFd) -> OsString {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

/// Opens a directory for its name alone.
pub(crate) fn directory(path: &Path) -> Result<OwnedFd, StepError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|errno: Errno| StepError::new("openat", path.display(), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_given_uppermost_first_and_each_once() {
        let lower = ["a", "b", "a", "c"].map(PathBuf::from).to_vec();
        let overlay = Overlay { lower, ..Overlay::default() };
        assert_eq!(overlay.uppermost_first(), ["c", "a", "b"].map(Path::new));
    }

    #[test]
    fn userxattr_leaves_out_what_the_kernel_refuses_beside_it() {
        let keys = |overlay: Overlay| overlay.settings().iter().map(|(key, ..)| *key).collect::<Vec<_>>();
        assert_eq!(keys(Overlay { userxattr: true, ..Overlay::default() }), ["userxattr", "index"]);
        let volatile = Overlay { volatile: true, ..Overlay::default() };
        assert_eq!(keys(volatile), ["metacopy", "redirect_dir", "index", "volatile"]);
    }
}
