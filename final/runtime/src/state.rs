//! What is kept of a container between two commands: `<root>/<id>/state.json`, the configuration, and the FIFO of `start`.
//!
//! Nothing says "running" in the file: a status that is written can be wrong. The process says it: gone is stopped, waiting at the
//! FIFO is created, else running. A number may be another process's by now, so the time of its start is kept with it.
//!
//! See runtime-spec: runtime.md, "State"; proc_pid_stat(5), field 22.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::unistd::geteuid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use step::step;

/// The FIFO at which a created container waits.
pub(crate) const FIFO: &str = "exec.fifo";

/// Where containers' states are.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    pub(crate) pid: i32,
    pub(crate) bundle: PathBuf,
    pub(crate) annotations: std::collections::HashMap<String, String>,
    /// Field 22 of `/proc/PID/stat`.
    pub(crate) start_time: u64,
}

/// What the specification calls status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Created,
    Running,
    Stopped,
}

/// The specification's state, with runc's additions left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: Status,
    bundle: &'a Path,
    annotations: &'a std::collections::HashMap<String, String>,
}

impl Store {
    pub(crate) fn new(root: Option<PathBuf>) -> Self {
        let default = || {
            if geteuid().is_root() {
                return PathBuf::from("/run/sampan-runtime");
            }
            let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            run.unwrap_or_else(|| format!("/tmp/sampan-run-{}", geteuid()).into()).join("sampan-runtime")
        };
        Self { root: root.unwrap_or_else(default) }
    }

    /// Takes the id, for whoever is first: of two processes one makes the directory.
    pub(crate) fn reserve(&self, id: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder(id)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .with_context(|| format!("cannot make {:?}", self.root))?;
        step(
            "mkdir",
            format_args!("{}", folder.display()),
            "the container's state; of two of one name one comes too late",
        )
        .run(|| fs::DirBuilder::new().mode(0o700).create(&folder))
        .map_err(|error| {
            if error.errno() == Some(nix::errno::Errno::EEXIST) {
                anyhow::anyhow!("a container {id} is there already: `sampan-runtime delete {id}` removes it")
            } else {
                error.into()
            }
        })?;
        Ok(folder)
    }

    pub(crate) fn folder(&self, id: &str) -> anyhow::Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id.starts_with('.') || !id.chars().all(plain) {
            bail!("{id:?} is no container id: letters, digits, and _ + - . after the first");
        }
        Ok(self.root.join(id))
    }

    pub(crate) fn write(&self, record: &Record, spec: &Spec) -> anyhow::Result<()> {
        let folder = self.folder(&record.id)?;
        for (name, text) in
            [("config.json", serde_json::to_vec(spec)?), ("state.json", serde_json::to_vec(record)?)]
        {
            // Renamed into place: a reader sees all of it or nothing.
            let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
            fs::write(&new, text)
                .and_then(|()| fs::rename(&new, &path))
                .with_context(|| format!("cannot write {path:?}"))?;
        }
        Ok(())
    }

    pub(crate) fn read(&self, id: &str) -> anyhow::Result<Record> {
        let path = self.folder(id)?.join("state.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{path:?} is damaged")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("there is no container {id}"),
            Err(error) => Err(error).with_context(|| format!("cannot read {path:?}")),
        }
    }

    pub(crate) fn spec(&self, id: &str) -> anyhow::Result<Spec> {
        let path = self.folder(id)?.join("config.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
        serde_json::from_slice(&text).with_context(|| format!("{path:?} is no configuration"))
    }

    pub(crate) fn status(&self, record: &Record) -> anyhow::Result<Status> {
        if start_time(record.pid) != Some(record.start_time) {
            return Ok(Status::Stopped);
        }
        let waits = self.folder(&record.id)?.join(FIFO).exists();
        Ok(if waits { Status::Created } else { Status::Running })
    }

    pub(crate) fn show(&self, record: &Record) -> anyhow::Result<String> {
        let status = self.status(record)?;
        let shown = Shown {
            oci_version: &record.oci_version,
            id: &record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status,
            bundle: &record.bundle,
            annotations: &record.annotations,
        };
        Ok(serde_json::to_string_pretty(&shown)?)
    }

    pub(crate) fn remove(&self, id: &str) -> anyhow::Result<()> {
        let folder = self.folder(id)?;
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {folder:?}"))?;
        // The last one takes the root along; a root that somebody else uses is not empty.
        let _ = fs::remove_dir(&self.root);
        Ok(())
    }
}

/// When the process was started, in clock ticks since boot; none where it has ended.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, also brackets and blanks.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ended = matches!(fields.first(), Some(&("Z" | "X")));
    fields.get(19)?.parse().ok().filter(|_| !ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_the_root() {
        let store = Store::new(Some("/r".into()));
        for id in ["", "..", "a/b", ".x", "a b"] {
            store.folder(id).unwrap_err();
        }
        assert_eq!(store.folder("a-1").unwrap(), Path::new("/r/a-1"));
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(pid).is_some_and(|time| time > 0));
        assert_eq!(start_time(i32::MAX), None);
    }
}
