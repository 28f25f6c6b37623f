//! Known escapes from containers, tried against the runtime: the tests of the table in [`tests::attacks`].
//!
//! The public descriptions are those of the CVE records, each told on its page of the book. Where it is cheap a test also tries the
//! same on a container without the wall in question: an attack that fails there too shows nothing.

mod exe;
mod kernel;
mod links;
mod names;
mod pids;
mod proc;
mod races;
mod rights;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tests::Test;

pub(super) fn tests() -> Vec<Test> {
    [
        exe::tests(),
        kernel::tests(),
        links::tests(),
        names::tests(),
        pids::tests(),
        proc::tests(),
        races::tests(),
        rights::tests(),
    ]
    .concat()
}

/// Somebody who swaps two names on the host, as fast as can be, while the runtime works. Stops when it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn start(one: &Path, other: &Path) -> Self {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (one, other) = (one.to_owned(), other.to_owned());
        let seen = (stop.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            while !seen.0.load(Ordering::Relaxed) {
                if renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).is_ok() {
                    seen.1.fetch_add(1, Ordering::Relaxed);
                }
                // Both states last long enough for some of the runtime's steps.
                std::hint::spin_loop();
            }
        });
        Self { stop, swaps, thread: Some(thread) }
    }

    fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// All names below a folder.
fn listing(path: &Path) -> super::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        names.push(entry.path().display().to_string());
        if entry.file_type()?.is_dir() {
            names.extend(listing(&entry.path())?);
        }
    }
    names.sort();
    Ok(names)
}
