//! The overlay's mount before kernel 6.8: one string of options for mount(2).
//!
//! What the kernel requires: 1. the string, with its NUL, fits in one page; 2. `:` parts the layers and `,` the options, so that
//! either, and `\` itself, is escaped by `\` in a path.
//!
//! 127 layers with the names that an image store gives them do not fit in a page. Then each directory gets a link with a name of
//! a few digits, in a tmpfs that is mounted nowhere and is gone with its descriptor. (`/proc/self/fd` has such names
//! too, but they are longer, and a caller may have no /proc.)
//!
//! See mount(2), fsmount(2), symlink(7).

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{SysconfVar, sysconf};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};
use step::{StepError, step};

use crate::overlay::{Overlay, directory};
use crate::refusal::Refusal;

/// Where the C library does not know a page's size: the smallest that Linux has.
const PAGE: usize = 4096;

/// Mounts by mount(2).
pub(crate) fn mount(overlay: &Overlay, target: &Path) -> Result<(), Refusal> {
    let spelled = option_string(overlay);
    // Asked of the C library: the kernel would be asked in /proc, which an init process may not have yet.
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| usize::try_from(size).ok());
    if spelled.len() < page.unwrap_or(PAGE) {
        return mount_string(overlay, target, &spelled);
    }
    let target = absolute(target)?;
    let links = Links::make(overlay)?;
    let before = directory(Path::new("."))?;
    step("fchdir", format_args!("the links"), "from here each layer has a name of a few digits")
        .run(|| rustix::process::fchdir(&links.folder))?;
    let mounted = mount_string(overlay, &target, &option_string(&links.overlay));
    step("fchdir", format_args!("back"), "the working directory is the caller's")
        .run(|| rustix::process::fchdir(&before))?;
    mounted
}

/// Links with short names, and the overlay by these names.
struct Links {
    folder: OwnedFd,
    overlay: Overlay,
}

impl Links {
    fn make(overlay: &Overlay) -> Result<Self, StepError> {
        let context =
            step("fsopen", format_args!("tmpfs"), "the options do not fit in a page: room for links")
                .run(|| rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC))?;
        step("fsconfig", format_args!("CMD_CREATE"), "an empty tmpfs")
            .run(|| rustix::mount::fsconfig_create(context.as_fd()))?;
        let folder =
            step("fsmount", format_args!("tmpfs"), "mounted nowhere: nobody else meets it").run(|| {
                rustix::mount::fsmount(
                    context.as_fd(),
                    FsMountFlags::FSMOUNT_CLOEXEC,
                    MountAttrFlags::empty(),
                )
            })?;
        let mut links = Self { folder, overlay: overlay.clone() };
        let mut count = 0;
        let mut link = |path: &Path| {
            let (path, name) = (absolute(path)?, count.to_string());
            count += 1;
            step("symlinkat", format_args!("{} {name}", path.display()), "a short name for a directory")
                .run(|| rustix::fs::symlinkat(&path, &links.folder, &name))?;
            Ok::<_, StepError>(PathBuf::from(name))
        };
        let lower = overlay.uppermost_first().into_iter().rev().map(&mut link);
        links.overlay.lower = lower.collect::<Result<_, _>>()?;
        links.overlay.upper = link(&overlay.upper)?;
        links.overlay.work = link(&overlay.work)?;
        Ok(links)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, StepError> {
    std::path::absolute(path).map_err(|error| StepError::new("getcwd", path.display(), error))
}

fn mount_string(overlay: &Overlay, target: &Path, text: &[u8]) -> Result<(), Refusal> {
    let data =
        CString::new(text).map_err(|_| StepError::new("mount", "overlay", rustix::io::Errno::INVAL))?;
    step(
        "mount",
        format_args!(
            "overlay {} with {} layers in {} bytes",
            target.display(),
            overlay.lower.len(),
            text.len()
        ),
        "this kernel has no lowerdir+: all options in one string",
    )
    .run(|| rustix::mount::mount("sampan", target, "overlay", MountFlags::empty(), data.as_c_str()))?;
    Ok(())
}

/// The options as mount(2) takes them. Planned apart, so that it can be tested without a kernel.
// ANCHOR: option_string
pub fn option_string(overlay: &Overlay) -> Vec<u8> {
    let mut text = b"lowerdir=".to_vec();
    for (index, layer) in overlay.uppermost_first().into_iter().enumerate() {
        if index > 0 {
            text.push(b':');
        }
        escape(layer.as_os_str(), &mut text);
    }
    for (key, path) in [("upperdir", &overlay.upper), ("workdir", &overlay.work)] {
        text.extend(format!(",{key}=").bytes());
        escape(path.as_os_str(), &mut text);
    }
    for (key, value, _) in overlay.settings() {
        text.extend(value.map_or(format!(",{key}"), |value| format!(",{key}={value}")).bytes());
    }
    text
}
// ANCHOR_END: option_string

fn escape(path: &OsStr, text: &mut Vec<u8>) {
    for &byte in path.as_bytes() {
        if matches!(byte, b'\\' | b':' | b',') {
            text.push(b'\\');
        }
        text.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parts_paths_is_escaped_in_them() {
        let overlay = Overlay {
            lower: vec!["/a:1".into(), r"/b,2\3".into()],
            upper: "/u,p".into(),
            work: "/w".into(),
            userxattr: true,
            ..Overlay::default()
        };
        let text = String::from_utf8(option_string(&overlay)).unwrap();
        assert_eq!(text, r"lowerdir=/b\,2\\3:/a\:1,upperdir=/u\,p,workdir=/w,userxattr,index=off");
    }
}
