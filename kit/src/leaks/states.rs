//! Containers of `sampan-runtime`, which nobody stands beside: its state folder says which process each has.
//!
//! `create` comes back and leaves the container to its caller, so no program of ours is above it. In use is one whose process
//! lives, and one that is just being created: whoever does that holds a lock on its folder. What is left is a folder that names nobody.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::owner::started;
use super::places::names;
use super::{Kind, Leak, Roots};

/// Where other engines have the runtime keep its state, and look after it.
const OTHERS: [&str; 3] =
    ["/run/containerd/runc", "/run/docker/runtime-runc", "/run/docker/runtime-sampan-runtime"];

/// The default folders of all users, as far as they can be read.
pub(crate) fn folders(run: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/run/sampan-runtime")];
    // Beside the engine's: `/run/user/1000/sampan`, or in `/tmp/sampan-run-1000`.
    folders.extend(run.iter().filter_map(|folder| Some(folder.parent()?.join("sampan-runtime"))));
    folders.extend(run.iter().map(|folder| folder.join("sampan-runtime")));
    folders.sort();
    folders.dedup();
    folders.retain(|folder| folder.is_dir());
    folders
}

/// The folders of others, which are never leaks of ours.
pub(crate) fn foreign() -> Vec<PathBuf> {
    let below =
        |folder: &str| names(Path::new(folder)).map(|name| Path::new(folder).join(name)).collect::<Vec<_>>();
    OTHERS.iter().flat_map(|folder| below(folder)).collect()
}

/// The processes of all containers that live.
pub(crate) fn processes(roots: &Roots) -> Vec<i32> {
    let all = roots.states.iter().chain(&roots.foreign_states);
    all.flat_map(|folder| names(folder).map(move |id| folder.join(id)))
        .filter_map(|folder| process(&roots.proc, &folder))
        .collect()
}

/// Whether a container of this id lives or is being made.
pub(crate) fn lives(roots: &Roots, id: &str) -> bool {
    let mut all = roots.states.iter().chain(&roots.foreign_states);
    all.any(|folder| is_used(&roots.proc, &folder.join(id)))
}

/// Folders of containers whose process has gone.
pub(crate) fn find(roots: &Roots) -> Vec<Leak> {
    let folders = roots.states.iter().flat_map(|folder| names(folder).map(move |id| folder.join(id)));
    let left = folders.filter(|folder| folder.is_dir() && !is_used(&roots.proc, folder));
    let leak = |folder: PathBuf| Leak {
        kind: Kind::Directory,
        name: folder.display().to_string(),
        why: "its container's process is gone: `sampan-runtime delete --force` removes it too".to_owned(),
    };
    left.map(leak).collect()
}

fn is_used(proc: &Path, folder: &Path) -> bool {
    process(proc, folder).is_some() || is_locked(folder)
}

fn is_locked(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|folder| Flock::lock(folder, FlockArg::LockSharedNonblock).is_err())
}

/// The process that the container's record names, if that still lives.
fn process(proc: &Path, folder: &Path) -> Option<i32> {
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("state.json")).ok()?).ok()?;
    let pid = i32::try_from(record.get("pid")?.as_i64()?).ok()?;
    let start = record.get("startTime")?.as_u64()?;
    (started(proc, pid) == Some(start)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_in_use_while_its_process_lives_or_somebody_holds_it() {
        let root = tempfile::tempdir().unwrap();
        let (proc, states) = (root.path().join("proc"), root.path().join("states"));
        for id in ["lives", "gone", "later", "half", "held"] {
            fs::create_dir_all(states.join(id)).unwrap();
        }
        fs::create_dir_all(proc.join("7")).unwrap();
        fs::write(proc.join("7/stat"), format!("7 (sleep) S {}777 0", "0 ".repeat(18))).unwrap();
        for (id, pid, start) in [("lives", 7, 777), ("later", 7, 778), ("gone", 8, 777)] {
            let record = format!("{{\"pid\":{pid},\"startTime\":{start}}}");
            fs::write(states.join(id).join("state.json"), record).unwrap();
        }
        let held = File::open(states.join("held")).unwrap();
        let _held = Flock::lock(held, FlockArg::LockExclusive).unwrap();
        let roots = Roots {
            proc,
            temporary: vec![],
            run: vec![],
            states: vec![states.clone()],
            foreign_states: vec![],
        };
        let mut found: Vec<String> = find(&roots).into_iter().map(|leak| leak.name).collect();
        found.sort();
        assert_eq!(found, ["gone", "half", "later"].map(|id| states.join(id).display().to_string()));
        assert_eq!(processes(&roots), [7]);
        assert!(lives(&roots, "lives") && lives(&roots, "held") && !lives(&roots, "gone"));
    }
}
