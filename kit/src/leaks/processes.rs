//! Processes of containers whose runtime process or shim is gone.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::owner::{is_id, is_ours};
use super::{Kind, Leak, Roots, states};

/// What every container's program finds in its environment.
const MARK: &[u8] = b"container=sampan";

struct Process {
    parent: i32,
    name: String,
    /// Whether it carries the mark, or is one of our programs inside a pid namespace (an init process).
    contained: bool,
    /// Whether it is one of our programs outside any.
    runtime: bool,
}

pub(crate) fn find(roots: &Roots) -> Vec<Leak> {
    let proc = &*roots.proc;
    let processes: HashMap<i32, Process> = super::places::names(proc)
        .filter_map(|name| name.parse().ok())
        .filter_map(|pid| Some((pid, read(proc, pid)?)))
        .collect();
    let held = Held::new(roots);
    let mut leaked: Vec<i32> = processes
        .iter()
        .filter(|(pid, process)| {
            process.contained && !has_runtime(process, &processes) && !held.has(**pid, process, &processes)
        })
        .map(|(pid, _)| *pid)
        .collect();
    leaked.sort_unstable();
    let leak = |pid: i32| {
        let name = processes.get(&pid).map_or("", |process| process.name.as_str());
        Leak {
            kind: Kind::Process,
            name: pid.to_string(),
            why: format!("{name}, whose runtime process is gone"),
        }
    };
    leaked.into_iter().map(leak).collect()
}

fn read(proc: &Path, pid: i32) -> Option<Process> {
    let folder = proc.join(pid.to_string());
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("State:")?.starts_with('Z') {
        return None;
    }
    // One number for each pid namespace that the process is in, from ours inwards.
    let nested = field("NSpid:").is_some_and(|numbers| numbers.split_whitespace().count() > 1);
    let ours = is_ours(proc, pid);
    let environment = fs::read(folder.join("environ")).unwrap_or_default();
    Some(Process {
        parent: field("PPid:")?.parse().ok()?,
        name: field("Name:")?.to_owned(),
        contained: ours && nested
            || is_helper(&folder)
            || environment.split(|byte| *byte == 0).any(|entry| entry == MARK),
        runtime: ours && !nested,
    })
}

/// Whether this is the program that carried packets for an ordinary user's container: its command line names a file `helper` in a
/// container's folder, which only our programs ask for. Its environment cannot be read: it protects itself.
fn is_helper(folder: &Path) -> bool {
    let line = fs::read(folder.join("cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|arg| {
        let arg = String::from_utf8_lossy(arg);
        let path = Path::new(arg.strip_prefix("--api-socket=").unwrap_or(&arg));
        let parent = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        path.file_name().is_some_and(|name| name == "helper")
            && (is_id(&parent) || parent.starts_with("sampan-") || parent.starts_with("build-"))
    })
}

/// What belongs to containers that were made to outlive `sampan-runtime`.
struct Held {
    proc: PathBuf,
    /// Their first processes.
    first: Vec<i32>,
    /// Their pid namespaces, where they are their own.
    namespaces: Vec<PathBuf>,
}

impl Held {
    fn new(roots: &Roots) -> Self {
        let first = states::processes(roots);
        let proc = roots.proc.clone();
        let own = namespace(&proc, "self");
        let inside = first.iter().filter_map(|pid| namespace(&proc, &pid.to_string()));
        let namespaces = inside.filter(|inside| Some(inside) != own.as_ref()).collect();
        Self { proc, first, namespaces }
    }

    /// One of the first, a descendant of one, or one that came by `exec` into the same pid namespace.
    fn has(&self, pid: i32, process: &Process, all: &HashMap<i32, Process>) -> bool {
        if self.first.is_empty() {
            return false;
        }
        let inside = namespace(&self.proc, &pid.to_string()).is_some_and(|it| self.namespaces.contains(&it));
        let mut above = std::iter::successors(Some(process.parent), |pid| Some(all.get(pid)?.parent));
        inside
            || self.first.contains(&pid)
            || above.by_ref().take(all.len()).any(|pid| self.first.contains(&pid))
    }
}

fn namespace(proc: &Path, pid: &str) -> Option<PathBuf> {
    fs::read_link(proc.join(pid).join("ns/pid")).ok()
}

fn has_runtime(process: &Process, all: &HashMap<i32, Process>) -> bool {
    let mut next = all.get(&process.parent);
    // As many steps as there are processes: what is read while it changes might be a circle.
    for _ in 0..all.len() {
        match next {
            Some(parent) if parent.runtime => return true,
            Some(parent) => next = all.get(&parent.parent),
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plant(root: &Path, pid: i32, parent: i32, name: &str, nested: bool, environment: &str) {
        let folder = root.join(pid.to_string());
        fs::create_dir(&folder).unwrap();
        let inner = if nested { "\t1" } else { "" };
        let status = format!("Name:\t{name}\nState:\tS (sleeping)\nPPid:\t{parent}\nNSpid:\t{pid}{inner}\n");
        fs::write(folder.join("status"), status).unwrap();
        fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
        fs::write(folder.join("stat"), format!("{pid} ({name}) S {parent}")).unwrap();
        fs::write(folder.join("environ"), environment.replace(' ', "\0")).unwrap();
    }

    #[test]
    fn only_a_container_without_its_runtime_process_is_a_leak() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path(), 1, 0, "init", false, "");
        // A container in use: runtime process, init process, command.
        plant(root.path(), 10, 1, "sampan", false, "");
        plant(root.path(), 11, 10, "sampan", true, "");
        plant(root.path(), 12, 11, "sh", true, "PATH=/bin container=sampan");
        // Nobody's container, and two that are not ours.
        plant(root.path(), 20, 1, "sh", true, "container=sampan");
        plant(root.path(), 21, 1, "02-namespaces", true, "");
        plant(root.path(), 30, 1, "sh", true, "container=podman notcontainer=sampan");
        plant(root.path(), 31, 1, "02-namespaces", false, "");
        // A helper of nobody, one in use, and one of somebody else's.
        let helpers = [
            (40, 1, "/run/sampan-7-abc/helper"),
            (41, 10, "/run/sampan-10-abc/helper"),
            (42, 1, "/run/x/helper"),
        ];
        for (pid, parent, path) in helpers {
            plant(root.path(), pid, parent, "pasta", false, "");
            fs::write(root.path().join(pid.to_string()).join("cmdline"), format!("pasta\0--pid\0{path}\0"))
                .unwrap();
        }
        // A container of the runtime's, with a child.
        plant(root.path(), 50, 1, "sh", true, "container=sampan");
        plant(root.path(), 51, 50, "sh", true, "container=sampan");
        fs::write(root.path().join("50/stat"), format!("50 (sh) S 1 {}777 0", "0 ".repeat(17))).unwrap();
        let states = tempfile::tempdir().unwrap();
        fs::create_dir(states.path().join("c")).unwrap();
        fs::write(states.path().join("c/state.json"), "{\"pid\":50,\"startTime\":777}").unwrap();
        let roots = Roots {
            proc: root.path().into(),
            temporary: vec![],
            run: vec![],
            states: vec![states.path().into()],
            foreign_states: vec![],
        };
        let names: Vec<String> = find(&roots).into_iter().map(|leak| leak.name).collect();
        assert_eq!(names, ["20", "21", "40"]);
    }
}
