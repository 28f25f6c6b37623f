//! Put the kernel's refusal in words.
//!
//! An overlay can be wrong in a dozen ways, and errno says EINVAL to most. Where it is one setting that is wrong, the kernel
//! leaves a sentence in the context: read(2) on the descriptor of fsopen(2) gives it, one message a call, as `e overlay: ...`.
//! Where the settings are wrong together, the sentence goes to the kernel's log, which an ordinary user may not read; then this
//! file looks at the directories as the kernel did. It only reads.

use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use step::StepError;

use crate::{Error, Overlay};

/// The kernel's limit: `OVL_MAX_STACK` in fs/overlayfs.
pub const MAX_LAYERS: usize = 500;
/// statfs(2)'s type of an overlay: `OVERLAYFS_SUPER_MAGIC`.
const OVERLAY_MAGIC: rustix::fs::FsWord = 0x794c_7630;

/// A step that failed, and what the kernel said of it.
#[derive(Debug)]
pub(crate) struct Refusal {
    step: StepError,
    said: String,
}

impl From<StepError> for Refusal {
    fn from(step: StepError) -> Self {
        Self { step, said: String::new() }
    }
}

/// Reads what the kernel left in the context.
pub(crate) fn heard(step: StepError, context: BorrowedFd<'_>) -> Refusal {
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    // ENODATA ends the messages.
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]);
        // A letter for its weight, then who says it.
        let text = text.get(2..).unwrap_or(&text).trim();
        said.push(text.strip_prefix("overlay: ").unwrap_or(text).to_owned());
    }
    Refusal { step, said: said.join("; ") }
}

impl Refusal {
    /// Whether the kernel's answer means that it is too old for what was asked, and not that a directory is wrong.
    // ANCHOR: old_kernel
    pub(crate) fn is_old_kernel(&self) -> bool {
        let call = (self.step.call(), self.step.errno());
        match call {
            // Before 5.2 there is no such call.
            ("fsopen", Some(Errno::ENOSYS)) => true,
            // From 6.5 on overlay looks at each setting when it is given.
            ("fsconfig", Some(Errno::EINVAL)) if !self.said.is_empty() => {
                // The second is said of a setting that is only collected, when a page is full of them.
                self.said.contains("Unknown parameter 'lowerdir+'") || self.said.contains("VFS: Legacy")
            }
            // Between the two, settings are only collected, and all is looked at in the end.
            ("fsconfig", Some(Errno::EINVAL)) => only_collects(),
            _ => false,
        }
    }
    // ANCHOR_END: old_kernel

    /// The error for whoever asked for the overlay.
    pub(crate) fn explain(self, overlay: &Overlay, target: &Path) -> Error {
        let looked = || diagnose(self.step.errno(), overlay).map(str::to_owned);
        let said = (!self.said.is_empty()).then(|| self.said.clone());
        match said.or_else(looked) {
            Some(reason) => Error::Refused { target: target.to_owned(), reason, source: self.step },
            None => Error::Step(self.step),
        }
    }
}

/// Whether this kernel's overlay takes a setting that does not exist: then it does not look at settings one by one.
fn only_collects() -> bool {
    rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC)
        .is_ok_and(|context| rustix::mount::fsconfig_set_flag(&context, "sampan").is_ok())
}

/// What is wrong with the directories, in the order in which the kernel looks.
fn diagnose(errno: Option<Errno>, overlay: &Overlay) -> Option<&'static str> {
    match errno? {
        Errno::EINVAL if overlay.uppermost_first().len() > MAX_LAYERS => {
            Some("the kernel stacks at most 500 layers")
        }
        Errno::EINVAL if nested(&overlay.upper, &overlay.work) => {
            Some("upperdir and workdir lie one inside the other")
        }
        Errno::EINVAL if mount_of(&overlay.upper) != mount_of(&overlay.work) => {
            Some("upperdir and workdir must lie on one mount of one file system")
        }
        Errno::EINVAL if is_overlay(&overlay.upper) => {
            Some("upperdir lies on an overlay itself, which cannot keep the whiteouts of another")
        }
        Errno::EINVAL if overlay.work.join("work/incompat/volatile").exists() => {
            Some("upperdir was mounted volatile before, and may be torn")
        }
        Errno::EINVAL if overlay.lower.iter().any(|layer| is_overlay(layer)) => {
            Some("a layer lies on an overlay that lies on an overlay: the kernel stacks two, not three")
        }
        Errno::ELOOP => Some("one directory stands in the stack twice, or inside another of it"),
        Errno::ESTALE => Some("upperdir was used with other layers before, and its index says so"),
        Errno::EBUSY => Some("upperdir or workdir is in use by another overlay"),
        _ => None,
    }
}

fn nested(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a.starts_with(&b) || b.starts_with(&a),
        _ => false,
    }
}

fn mount_of(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    Some(stat.stx_mnt_id)
}

fn is_overlay(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == OVERLAY_MAGIC)
}
