//! Whose is it, and does the owner live?

use std::fs;
use std::path::Path;

use super::Roots;

/// The programs that make things on a host.
const PROGRAMS: [&str; 8] = [
    "01-chroot",
    "02-namespaces",
    "03-cgroups",
    "04-unionfs",
    "05-network",
    "sampan",
    "sampan-runtime",
    "kit",
];

/// Who an object's name says that it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A program of ours.
    Process(i32),
    /// A container of the engine.
    Container(String),
    /// The name tells nobody.
    Unknown,
}

impl Owner {
    /// `03-cgroups-4711`, `4711`, or 64 hexadecimal digits.
    pub(crate) fn parse(name: &str) -> Self {
        if is_id(name) {
            return Self::Container(name.to_owned());
        }
        let number = name.rsplit('-').next().unwrap_or_default();
        number.parse().map_or(Self::Unknown, Self::Process)
    }

    pub(crate) fn lives(&self, roots: &Roots) -> bool {
        match self {
            Self::Process(pid) => is_ours(&roots.proc, *pid),
            Self::Container(id) => {
                roots.run.iter().any(|run| shim_lives(&roots.proc, &run.join(id))) || is_held(&roots.proc, id)
            }
            Self::Unknown => false,
        }
    }

    /// Why an object of a dead owner is a leak.
    pub(crate) fn gone(&self) -> String {
        match self {
            Self::Process(pid) => format!("process {pid}, which made it, is gone"),
            Self::Container(_) => "its container's shim is gone".to_owned(),
            Self::Unknown => "it has no owner".to_owned(),
        }
    }
}

/// An id of the engine's.
pub(crate) fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a process runs one of our programs: a number alone may have been given to somebody else since.
pub(crate) fn is_ours(proc: &Path, pid: i32) -> bool {
    let folder = proc.join(pid.to_string());
    let ours = |name: &str| PROGRAMS.contains(&name);
    let exe = fs::read_link(folder.join("exe")).unwrap_or_default();
    // A program that was rebuilt while it ran is `05-network (deleted)`.
    let exe = exe.file_name().unwrap_or_default().to_string_lossy();
    !is_dead(&folder)
        && (ours(exe.trim_end_matches(" (deleted)"))
            || fs::read_to_string(folder.join("comm")).is_ok_and(|name| ours(name.trim())))
}

/// A zombie holds nothing but its number.
fn is_dead(folder: &Path) -> bool {
    let state = stat_fields(folder).and_then(|fields| fields.first().cloned());
    matches!(state.as_deref(), None | Some("Z" | "X"))
}

/// The fields of `/proc/PID/stat` behind the name, which may itself hold blanks: the first is field 3, the state.
fn stat_fields(folder: &Path) -> Option<Vec<String>> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// The mark of a shim names its process by number and start time, so that no later process of that number is taken for it.
fn shim_lives(proc: &Path, folder: &Path) -> bool {
    let Ok(text) = fs::read_to_string(folder.join("shim.json")) else { return false };
    let Ok(mark) = serde_json::from_str::<serde_json::Value>(&text) else { return false };
    let number = |name: &str| mark.get(name).and_then(serde_json::Value::as_u64);
    let (Some(pid), Some(start)) = (number("pid"), number("start_time")) else { return false };
    i32::try_from(pid).is_ok_and(|pid| started(proc, pid) == Some(start))
}

/// When a process that lives was started, in clock ticks since boot.
pub(crate) fn started(proc: &Path, pid: i32) -> Option<u64> {
    let folder = proc.join(pid.to_string());
    if is_dead(&folder) {
        return None;
    }
    stat_fields(&folder)?.get(19)?.parse().ok()
}

/// Whether a shim holds the container, wherever its mark lies: `--run-root`, or another mount namespace's `/run`.
fn is_held(proc: &Path, id: &str) -> bool {
    super::places::names(proc).filter_map(|name| name.parse().ok()).any(|pid: i32| {
        let line = fs::read(proc.join(pid.to_string()).join("cmdline")).unwrap_or_default();
        let mut args = line.split(|&byte| byte == 0);
        args.any(|arg| arg == b"shim") && args.any(|arg| arg == id.as_bytes()) && is_ours(proc, pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn proc(pid: i32, name: &str, state: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(pid.to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
        let zeros = "0 ".repeat(18);
        fs::write(folder.join("stat"), format!("{pid} ({name} (x) ) {state} {zeros}777 0")).unwrap();
        root
    }

    #[test]
    fn names_tell_their_owner() {
        assert_eq!(Owner::parse("03-cgroups-4711"), Owner::Process(4711));
        assert_eq!(Owner::parse("4711"), Owner::Process(4711));
        assert_eq!(Owner::parse(ID), Owner::Container(ID.to_owned()));
        assert_eq!(Owner::parse("other"), Owner::Unknown);
    }

    #[test]
    fn a_number_that_somebody_else_has_is_no_owner() {
        for (name, state, lives) in
            [("03-cgroups", "S", true), ("03-cgroups", "Z", false), ("bash", "S", false)]
        {
            let proc = proc(4711, name, state);
            let roots = Roots {
                proc: proc.path().into(),
                temporary: vec![],
                run: vec![],
                states: vec![],
                foreign_states: vec![],
            };
            assert_eq!(Owner::Process(4711).lives(&roots), lives, "{name} {state}");
            assert!(!Owner::Process(4712).lives(&roots));
        }
    }

    #[test]
    fn a_container_lives_while_its_shim_does_and_not_with_another_process_of_that_number() {
        let proc = proc(50, "sampan", "S");
        let run = tempfile::tempdir().unwrap();
        fs::create_dir(run.path().join(ID)).unwrap();
        let run_folders = vec![run.path().into()];
        let roots = Roots {
            proc: proc.path().into(),
            temporary: vec![],
            run: run_folders,
            states: vec![],
            foreign_states: vec![],
        };
        let container = Owner::Container(ID.to_owned());
        assert!(!container.lives(&roots));
        for (start, lives) in [(777, true), (778, false)] {
            let mark = format!("{{\"pid\": 50, \"start_time\": {start}}}");
            fs::write(run.path().join(ID).join("shim.json"), mark).unwrap();
            assert_eq!(container.lives(&roots), lives);
        }
    }
}
