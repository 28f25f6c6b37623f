//! One at a time: a lock that leaves nothing behind.
//!
//! Two programs that start containers at once would both find no bridge, and both make one. A file lock lets one in; the kernel
//! opens it when its holder ends, however that ends. The file is removed by who holds the lock. So who waited may wake with a
//! lock on a file that no longer has a name, while a third has locked a new one: after locking, the name must still lead to
//! the file that was locked, or all begins anew.
//!
//! See flock(2).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::Error;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the lock `network.lock` in the directory `run`, which is made (0700) where it is missing.
    ///
    /// # Errors
    /// [`Error::Lock`].
    // ANCHOR: lock
    pub fn take(run: &Path) -> Result<Self, Error> {
        let path = run.join("network.lock");
        let take = || -> io::Result<File> {
            loop {
                match fs::DirBuilder::new().recursive(true).mode(0o700).create(run) {
                    // It was there, and its last user removed it before its kind could be asked.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !is_something_else(run) => {
                        continue;
                    }
                    made => made?,
                }
                let opened = File::options().create(true).append(true).mode(0o600).open(&path);
                let file = match opened {
                    // Somebody's last act was to remove the empty directory.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    opened => opened?,
                };
                match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                    Err(rustix::io::Errno::INTR) => continue,
                    locked => locked?,
                }
                let ours = file.metadata()?;
                match fs::metadata(&path) {
                    Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => return Ok(file),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        };
        match take() {
            Ok(file) => Ok(Self { path, _file: file }),
            Err(source) => Err(Error::Lock { path, source }),
        }
    }
    // ANCHOR_END: lock
}

fn is_something_else(run: &Path) -> bool {
    fs::metadata(run).is_ok_and(|data| !data.is_dir())
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the descriptor is closed, or another's file would be removed. What cannot be removed is locked again by the next.
        let _ = fs::remove_file(&self.path);
        if let Some(run) = self.path.parent() {
            // Fails while anybody has something in it, which is right.
            let _ = fs::remove_dir(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = Lock::take(&run).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(!run.exists());
    }
}
