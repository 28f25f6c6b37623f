//! The overlay's mount before kernel 6.8: one string of options for mount(2).
//!
//! What the kernel requires: 1. the string, with its NUL, fits in one page; 2. `:` parts the layers and `,` the options, so that
//! either, and `\` itself, is escaped by `\` in a path.
//!
//! 127 layers with the names that an image store gives them do not fit in a page. Then every directory is opened, and named by
//! the number of its descriptor from within `/proc/self/fd`: four letters a layer, nothing to escape.
//!
//! See mount(2), proc_pid_fd(5).

use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;
use rustix::param::page_size;
use step::{StepError, step};

use crate::overlay::{Overlay, directory};
use crate::refusal::Refusal;

/// Mounts by mount(2).
pub(crate) fn mount(overlay: &Overlay, target: &Path) -> Result<(), Refusal> {
    let spelled = option_string(overlay);
    if spelled.len() < page_size() {
        return mount_string(overlay, target, &spelled);
    }
    let open = |path: &Path| directory(path);
    let layers = overlay.uppermost_first().into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (open(&overlay.upper)?, open(&overlay.work)?);
    let target =
        std::path::absolute(target).map_err(|error| StepError::new("getcwd", target.display(), error))?;
    let short = Overlay {
        lower: layers.iter().rev().map(number).collect(),
        upper: number(&upper),
        work: number(&work),
        ..overlay.clone()
    };
    let before = directory(Path::new("."))?;
    step("chdir", format_args!("/proc/self/fd"), "from here each open layer has a name of a few digits")
        .run(|| rustix::process::chdir("/proc/self/fd"))?;
    let mounted = mount_string(overlay, &target, &option_string(&short));
    step("fchdir", format_args!("back"), "the working directory is the caller's")
        .run(|| rustix::process::fchdir(&before))?;
    mounted
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

fn number(directory: &OwnedFd) -> PathBuf {
    directory.as_raw_fd().to_string().into()
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
