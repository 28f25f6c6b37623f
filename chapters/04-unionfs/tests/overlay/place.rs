//! Where a test works: namespaces of its own, and a folder.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use unionfs::Overlay;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Makes the namespaces. Called once, while there is one thread.
pub(crate) fn enter() -> Result<()> {
    if geteuid().is_root() {
        unshare(CloneFlags::CLONE_NEWNS)?;
    } else {
        chroot::user::become_root()?;
        unshare(CloneFlags::CLONE_NEWNS)?;
    }
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    Ok(())
}

/// Whether the overlay's attributes must be those of an ordinary user.
pub(crate) fn userxattr() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.split_whitespace().nth(2) == Some("1"))
}

/// A folder on a tmpfs of its own.
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    number: AtomicU32,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        // Over the host's, so that nothing is made there.
        let covered = std::env::temp_dir();
        mount("sampan-test", &covered, "tmpfs", MountFlags::empty(), None)?;
        let root = covered.join("overlay");
        fs::create_dir(&root)?;
        Ok(Self { root, number: AtomicU32::new(0) })
    }

    pub(crate) fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A layer with these files.
    pub(crate) fn layer(&self, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
        let layer = self.dir(name)?;
        for (file, content) in files {
            let file = layer.join(file);
            fs::create_dir_all(file.parent().unwrap_or(&layer))?;
            fs::write(file, content)?;
        }
        Ok(layer)
    }

    /// An overlay over these layers with new upper and work directories.
    pub(crate) fn overlay(&self, lower: &[PathBuf]) -> Result<Overlay> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        Ok(Overlay {
            lower: lower.to_vec(),
            upper: self.dir(&format!("upper{number}"))?,
            work: self.dir(&format!("work{number}"))?,
            userxattr: userxattr(),
            ..Overlay::default()
        })
    }

    /// Mounts it, on a new directory.
    pub(crate) fn mounted(&self, overlay: &Overlay) -> Result<Mounted> {
        let target = self.dir(&format!("merged{}", self.number.fetch_add(1, Ordering::Relaxed)))?;
        overlay.mount(&target)?;
        Ok(Mounted(target))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = unmount(std::env::temp_dir(), UnmountFlags::DETACH);
    }
}

/// A mounted overlay; unmounted when dropped.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    /// Its line of the mount table.
    pub(crate) fn line(&self) -> Result<String> {
        let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
        let target = self.0.display().to_string();
        let line = table.lines().find(|line| line.split(' ').nth(4) == Some(&target));
        Ok(line.ok_or("not in the mount table")?.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unionfs::unmount(&self.0);
    }
}
