//! Reach what other containers share: run it as root *inside* (`04-unionfs --layer target/kit/rootfs /kit/04-escape`).
//!
//! Up to chapter 3 two containers on one root file system share its files: what one writes, the other reads, or runs. Over layers
//! they share the same bytes, and none may write them. The attacks: 1. write to the base itself; 2. open what mountinfo names, the
//! layers and the upper directory on the host; 3. find a descriptor whose file is the layer's own, by `/proc/self/map_files`; 4. take
//! the overlay away, and see what lies under it; 5. give it other layers, by a remount or in an overlay of one's own; 6. write
//! the overlay's own attributes, which would lead a name elsewhere.
//!
//! Prints RISK with what was reached, and SAFE when each attack was tried and refused.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{XattrFlags, fstatfs, setxattr, statfs};
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

/// statfs(2)'s type of an overlay.
const OVERLAY: rustix::fs::FsWord = 0x794c_7630;

/// What an attack reached, if anything.
type Attack = fn(&Stack) -> io::Result<Option<String>>;

/// The overlay as this process's mount table shows it.
struct Stack {
    lower: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

const ATTACKS: [(&str, Attack); 6] = [
    ("write to the base", write_to_the_base),
    ("open the paths of the mount table", open_paths),
    ("open a mapped file behind the overlay", open_mapped),
    ("unmount the overlay", unmount_it),
    ("remount it with other layers", remount),
    ("mark a directory as another", redirect),
];

fn main() -> ExitCode {
    let stack = match Stack::find() {
        Ok(stack) => stack,
        Err(error) => {
            println!("ERROR: the mount table cannot be read: {error}");
            return ExitCode::from(2);
        }
    };
    let mut reached = Vec::new();
    for (name, attack) in ATTACKS {
        match attack(&stack) {
            Ok(None) => {}
            Ok(Some(what)) => reached.push(format!("{name}: {what}")),
            Err(error) => {
                println!("ERROR: {name}: the attack could not be tried: {error}");
                return ExitCode::from(2);
            }
        }
    }
    if reached.is_empty() {
        println!("SAFE: six ways to the shared base, none leads there");
        return ExitCode::SUCCESS;
    }
    for what in reached {
        println!("RISK: {what}");
    }
    ExitCode::from(1)
}

/// Without an overlay the base is written in place, and everybody's. With one, what is written must go elsewhere: the kernel says
/// so by the file system that the name lies on.
// ANCHOR: base
fn write_to_the_base(_: &Stack) -> io::Result<Option<String>> {
    let base = Path::new("/bin/busybox");
    // As a program would that wants every next container to run its own code.
    let reached = File::open(base).and_then(|file| {
        let again = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
        OpenOptions::new().append(true).open(again)
    });
    let _ = fs::set_permissions(base, std::os::unix::fs::PermissionsExt::from_mode(0o4755));
    let _ = fs::hard_link(base, "/bin/second");
    match reached {
        Ok(file) if !is_overlay(&file) => Ok(Some(format!("{} is written in place", base.display()))),
        _ if statfs("/")?.f_type != OVERLAY => Ok(Some("/ is shared with whoever else has it".into())),
        _ => Ok(None),
    }
}
// ANCHOR_END: base

fn open_paths(stack: &Stack) -> io::Result<Option<String>> {
    let paths = stack.lower.iter().chain(&stack.others);
    Ok(paths.filter(|path| fs::read_dir(path).is_ok()).map(|path| path.display().to_string()).next())
}

/// A mapping of a file in an overlay is of the layer's own inode. The kernel must hide it where it shows the mapping as a link.
// ANCHOR: mapped
fn open_mapped(_: &Stack) -> io::Result<Option<String>> {
    for entry in fs::read_dir("/proc/self/map_files")? {
        let link = entry?.path();
        // EPERM without CAP_CHECKPOINT_RESTORE of the host: as good a refusal as any.
        let Ok(file) = File::open(&link) else { continue };
        let target = fs::read_link(&link).unwrap_or_default();
        if target.starts_with("/kit") && !is_overlay(&file) {
            return Ok(Some(format!("{} is the layer's own file", target.display())));
        }
    }
    Ok(None)
}
// ANCHOR_END: mapped

/// Under the overlay lies nothing: pivot_root made it the root of this mount namespace.
fn unmount_it(stack: &Stack) -> io::Result<Option<String>> {
    let before = names()?;
    let _ = unmount("/", UnmountFlags::DETACH);
    if names()? != before {
        return Ok(Some(format!("under it lies {}", names()?.join(" "))));
    }
    open_paths(stack)
}

fn remount(stack: &Stack) -> io::Result<Option<String>> {
    let _ = mount_remount("/", MountFlags::empty(), c"lowerdir=/proc,upperdir=/dev/shm/u,workdir=/dev/shm/w");
    for layer in &stack.lower {
        // Two layers, for one without an upper directory is refused whatever it is.
        let both = CString::new(format!("lowerdir={}:/dev", layer.display()))?;
        if rustix::mount::mount("again", "/dev/shm", "overlay", MountFlags::empty(), both.as_c_str()).is_ok()
        {
            let _ = unmount("/dev/shm", UnmountFlags::DETACH);
            return Ok(Some(format!("{} can be mounted again", layer.display())));
        }
    }
    Ok(None)
}

/// An overlay's notes in its own upper directory would lead a name anywhere in a layer. They must not be writable from inside.
fn redirect(_: &Stack) -> io::Result<Option<String>> {
    fs::create_dir_all("/escape")?;
    for name in ["user.overlay.redirect", "trusted.overlay.redirect"] {
        let _ = setxattr("/escape", name, b"/etc", XattrFlags::empty());
    }
    // A directory of its own again, now looked up anew: it must still be empty.
    fs::rename("/escape", "/escape.again")?;
    let led = fs::read_dir("/escape.again")?.next().is_some();
    fs::remove_dir_all("/escape.again")?;
    Ok(led.then(|| "the directory shows another one's files".to_owned()))
}

fn is_overlay(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|stat| stat.f_type == OVERLAY)
}

fn names() -> io::Result<Vec<String>> {
    let mut names: Vec<_> =
        fs::read_dir("/")?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

impl Stack {
    /// The directories that `/` was made of, as its line in the mount table names them.
    fn find() -> io::Result<Self> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
        let options = root.rsplit(' ').next().unwrap_or_default().split(',');
        let mut stack = Self { lower: Vec::new(), others: Vec::new() };
        for (key, value) in options.filter_map(|option| option.split_once('=')) {
            match key {
                "lowerdir+" => stack.lower.push(value.into()),
                "lowerdir" => stack.lower.extend(value.split(':').map(PathBuf::from)),
                "upperdir" | "workdir" => stack.others.push(value.into()),
                _ => {}
            }
        }
        Ok(stack)
    }
}
