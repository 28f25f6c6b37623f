//! The guest's disk: an ext4 image of a small Debian, made of packages and a few files of our own, and the kernel beside it.
//!
//! ```text
//! target/kit/vm/
//!   packages/   what apt downloaded
//!   kernel      the kernel, as the boot loader would find it in /boot
//!   disk.ext4   the root file system; the guest writes to a copy of it that ends with the guest
//! ```
//!
//! Nothing is installed and no root is needed: mke2fs(8) fills an image from a folder. An ordinary user's files would be that
//! user's in the image too, so mke2fs runs in a user namespace, where they are root's.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use super::guest::GUEST;
use super::packages::{self, Packages};
use crate::place;

/// What the tests call, and what somebody who looks around wants.
const PACKAGES: [&str; 30] = [
    "base-files",
    "bash",
    "busybox-static",
    "coreutils",
    "crun",
    "dash",
    "dbus",
    "findutils",
    "grep",
    "gzip",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libc-bin",
    // The modules are compressed by it, which kmod from Debian 13 on does not depend on.
    "liblzma5",
    "mount",
    "nftables",
    "passt",
    "podman",
    "procps",
    "runc",
    "sed",
    "slirp4netns",
    "strace",
    "systemd",
    "tar",
    "uidmap",
    // Its other choice would bring Perl.
    "usr-is-merged",
    "util-linux",
];

/// Of which most is never written: the image is a sparse file.
const SIZE: &str = "8g";

/// The files that packages' own scripts would make.
const FILES: [(&str, u32, &str); 10] = [
    ("usr/sbin/sampan-init", 0o755, include_str!("guest/init.sh")),
    ("etc/systemd/system/sampan-job.service", 0o644, include_str!("guest/sampan-job.service")),
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/bash\nmessagebus:x:100:100::/nonexistent:/usr/sbin/nologin\n\
         learner:x:1000:1000::/home/learner:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", 0o644, "root:x:0:\ntty:x:5:\nmessagebus:x:100:\nlearner:x:1000:\nnogroup:x:65534:\n"),
    ("etc/subuid", 0o644, "learner:100000:65536\n"),
    ("etc/subgid", 0o644, "learner:100000:65536\n"),
    ("etc/hostname", 0o644, "sampan-vm\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost sampan-vm\n::1 localhost\n"),
    ("etc/machine-id", 0o444, "5a3b0a4e5a3b4a4e8a3b5a4e5a3b0a4e\n"),
    ("root/.bashrc", 0o644, "PS1='sampan-vm:\\w\\$ '\n"),
];

/// The folders that no package has.
const FOLDERS: [&str; 2] = ["home/learner", "mnt"];

/// A kernel and a disk.
pub(super) struct Disk {
    pub(super) kernel: PathBuf,
    pub(super) image: PathBuf,
}

/// Makes both, unless they are there and made of the same.
pub(super) fn make(folder: &Path, kernel: &str, anew: bool) -> Result<Disk> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let lock = File::create(folder.join(".lock")).context("make the lock file of the virtual machine")?;
    lock.lock().context("wait for another that makes the disk")?;
    let disk = Disk { kernel: folder.join("kernel"), image: folder.join("disk.ext4") };
    let (stamp, wanted) = (folder.join(".stamp"), stamp(kernel));
    let made = disk.kernel.exists() && disk.image.exists();
    if made && !anew && fs::read_to_string(&stamp).is_ok_and(|old| old == wanted) {
        return Ok(disk);
    }
    println!("making the disk of the virtual machine, in {}", place::shown(folder));
    if stamp.exists() {
        fs::remove_file(&stamp)?;
    }
    let root = folder.join(".new-root");
    remove_tree(&root)?;
    let packages = Packages::open(&folder.join("packages"), kernel)?;
    let image = packages.download_one(&packages.versioned(kernel)?)?;
    let mut files = packages.download(&packages.closure(&PACKAGES)?)?;
    files.push(image);
    fill(&root, &files)?;
    fs::rename(boot_image(&root)?, &disk.kernel).context("put the kernel in its place")?;
    make_image(&root, &disk.image)?;
    remove_tree(&root)?;
    fs::write(&stamp, wanted)?;
    Ok(disk)
}

/// What the disk depends on, but for the packages' versions: these change when somebody wants it made anew.
fn stamp(kernel: &str) -> String {
    let files: Vec<String> =
        FILES.iter().map(|(name, mode, text)| format!("{name} {mode:o}\n{text}")).collect();
    format!("{kernel}\n{SIZE}\n{}\n{}\n{}", PACKAGES.join(" "), FOLDERS.join(" "), files.join("\n"))
}

fn fill(root: &Path, packages: &[PathBuf]) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(Path::new("usr").join(name), root.join(name))?;
    }
    packages::unpack(packages, root)?;
    for (name, mode, text) in FILES {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    for name in FOLDERS {
        fs::create_dir_all(root.join(name))?;
    }
    index_modules(root)
}

/// Which module needs which: by the package's own depmod(8), run with its own C library.
fn index_modules(root: &Path) -> Result<()> {
    let release = fs::read_dir(root.join("usr/lib/modules"))?
        .next()
        .context("the kernel's package has no modules")??
        .file_name();
    let output = Command::new(root.join(GUEST.linker))
        .args(["--argv0", "depmod", "--library-path"])
        .arg(root.join(GUEST.libraries))
        .arg(root.join("usr/bin/kmod"))
        .args([OsStr::new("-b"), root.as_os_str(), &release])
        .stdin(Stdio::null())
        .output()
        .context("run depmod")?;
    if !output.status.success() {
        bail!("depmod failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// `/boot/vmlinuz-VERSION`.
fn boot_image(root: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(root.join("boot"))?.flatten().map(|entry| entry.path());
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    files.into_iter().find(is_kernel).context("the kernel's package has no /boot/vmlinuz")
}

fn make_image(root: &Path, image: &Path) -> Result<()> {
    let new = image.with_extension("new");
    if new.exists() {
        fs::remove_file(&new)?;
    }
    let mke2fs = crate::host::program("mke2fs").context("mke2fs is not installed")?;
    let mut command = if geteuid().is_root() {
        Command::new(mke2fs)
    } else {
        let mut command = Command::new("unshare");
        command.arg("--map-root-user").arg(mke2fs);
        command
    };
    // No journal: what is lost when the guest ends was not to be kept.
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"]);
    let output = command.arg(root).arg(&new).arg(SIZE).stdin(Stdio::null()).output().context("run mke2fs")?;
    if !output.status.success() {
        bail!("mke2fs failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::rename(&new, image).context("put the disk in its place")
}

/// Also a tree with folders that their owner may not write, as packages have them.
fn remove_tree(root: &Path) -> Result<()> {
    if !root.exists() {
        return Ok(());
    }
    let status = Command::new("chmod").args(["-R", "u+rwX"]).arg(root).status().context("run chmod")?;
    if !status.success() {
        bail!("cannot make {} ours to remove", root.display());
    }
    fs::remove_dir_all(root).with_context(|| format!("remove {}", root.display()))
}
