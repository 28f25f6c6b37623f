//! The cgroups of what is ended: thawed before, removed after.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the hierarchies are mounted.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroups = mounts.lines().filter(|line| line.contains(" - cgroup"));
    cgroups.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// The folders of a process's cgroups in our part of the hierarchies, `sampan`.
pub(crate) fn of_process(pid: i32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)?.strip_prefix('/'));
    let ours = own.filter(|path| path.starts_with("sampan/"));
    ours.flat_map(|path| hierarchies().into_iter().map(move |root| root.join(path))).collect()
}

/// A process that version 1 of cgroups has frozen does not even die when it is killed.
pub(crate) fn thaw(pid: i32) {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let Some((_, own)) = text.lines().find_map(|line| line.split_once(":freezer:/")) else { return };
    for root in hierarchies() {
        // The other hierarchies, and the root of this, have no such file.
        let _ = fs::write(root.join(own).join("freezer.state"), "THAWED");
    }
}

/// Removes the cgroups of a test that failed before it came to that, `sampan/test-PID-NAME` in each hierarchy: the next test
/// with this pid would be refused them. One that passed has left none, for that is looked for.
pub(crate) fn remove_of_test(pid: u32) {
    let own = format!("test-{pid}-");
    for root in hierarchies() {
        for entry in fs::read_dir(root.join("sampan")).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&own) {
                remove(&entry.path());
            }
        }
    }
}

/// The innermost first. One in which a process is left stays, and `kit leaks` names it.
pub(crate) fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
