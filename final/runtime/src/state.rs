//! What is kept of a container between two commands: `<root>/<id>/state.json`, the configuration, and the FIFO of `start`.
//!
//! Nothing says "running" in a file: a status that is written can be wrong. It is asked for:
//!
//! ```text
//! somebody holds the folder's lock     creating (or being deleted)
//! the process is gone                  stopped
//! the cgroup is frozen                 paused
//! the FIFO of `start` is there         created
//! else                                 running
//! ```
//!
//! A process's number may be another's by now, so the time of its start is kept with it. The lock is flock(2)'s: the kernel takes it
//! from whoever is killed, so that a create that was is told from one that goes on.
//!
//! See runtime-spec: runtime.md, "State"; proc_pid_stat(5), field 22; flock(2).

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cgroups::FreezerState;
use nix::unistd::geteuid;
use oci_spec::runtime::Spec;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use step::step;

/// The FIFO at which a created container waits.
pub(crate) const FIFO: &str = "exec.fifo";

/// Where containers' states are.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    /// A folder around it in which anybody could have made it.
    common: Option<PathBuf>,
}

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// 0 until there is one.
    pub(crate) pid: i32,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) created: jiff::Timestamp,
    pub(crate) annotations: HashMap<String, String>,
    /// Field 22 of `/proc/PID/stat`.
    pub(crate) start_time: u64,
}

/// What the specification calls status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The specification's state, with what runc adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown<'a> {
    oci_version: &'a str,
    pub(crate) id: &'a str,
    pub(crate) pid: i32,
    pub(crate) status: Status,
    pub(crate) bundle: &'a Path,
    rootfs: &'a Path,
    pub(crate) created: jiff::Timestamp,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: &'a HashMap<String, String>,
    pub(crate) owner: String,
}

/// The folder of a container that is being created, locked. Whoever is killed has no lock any more.
#[derive(Debug)]
pub(crate) struct Reserved {
    lock: File,
}

impl Reserved {
    /// From here on it is what its process is. The init process has a copy of the descriptor, so closing it is not enough.
    pub(crate) fn unlock(self) -> io::Result<()> {
        Ok(flock(&self.lock, FlockOperation::Unlock)?)
    }
}

impl Store {
    /// The folder that is named, or the usual one.
    pub(crate) fn new(root: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(root) = root {
            return Ok(Self { root, common: None });
        }
        let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        // Rootless Podman calls a runtime as root of its user namespace: /run is not that root's.
        if geteuid().is_root() && (run.is_none() || !namespaces::in_user_namespace()) {
            return Ok(Self { root: "/run/sampan-runtime".into(), common: None });
        }
        if let Some(run) = run {
            return Ok(Self { root: run.join("sampan-runtime"), common: None });
        }
        let common = PathBuf::from(format!("/tmp/sampan-run-{}", geteuid()));
        check_own(&common)?;
        Ok(Self { root: common.join("sampan-runtime"), common: Some(common) })
    }

    /// Takes the id, for whoever is first: of two processes one makes the directory.
    pub(crate) fn reserve(&self, id: &str) -> anyhow::Result<Reserved> {
        let folder = self.folder(id)?;
        let reserved = step(
            "mkdir",
            format_args!("{}", folder.display()),
            "the container's state; of two of one name one comes too late",
        )
        .run(|| {
            loop {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
                match fs::DirBuilder::new().mode(0o700).create(&folder) {
                    // The last container has just taken the root along.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => return other,
                }
            }
        });
        match reserved {
            Err(error) if error.errno() == Some(nix::errno::Errno::EEXIST) => {
                bail!("container with id {id} exists already: `sampan-runtime delete {id}` removes it")
            }
            other => other?,
        }
        if let Some(common) = &self.common {
            check_own(common)?;
        }
        self.lock(id)?.with_context(|| format!("container {id} was deleted while it was created"))
    }

    /// The lock of a container's folder; none where another command has it.
    pub(crate) fn lock(&self, id: &str) -> anyhow::Result<Option<Reserved>> {
        let folder = self.folder(id)?;
        let lock = File::open(&folder).with_context(|| format!("cannot open {folder:?}"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Reserved { lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno).with_context(|| format!("cannot lock {folder:?}")),
        }
    }

    fn is_locked(&self, id: &str) -> anyhow::Result<bool> {
        let Ok(folder) = File::open(self.folder(id)?) else { return Ok(false) };
        Ok(flock(&folder, FlockOperation::NonBlockingLockShared).is_err())
    }

    /// The ids of all containers, sorted.
    pub(crate) fn ids(&self) -> anyhow::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("cannot read {:?}", self.root))?,
        };
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut ids: Vec<_> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    pub(crate) fn folder(&self, id: &str) -> anyhow::Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id.starts_with('.') || !id.chars().all(plain) {
            bail!("{id:?} is no container id: letters, digits, and _ + - . after the first");
        }
        Ok(self.root.join(id))
    }

    pub(crate) fn write_spec(&self, id: &str, spec: &Spec) -> anyhow::Result<()> {
        self.put(id, "config.json", &serde_json::to_vec(spec)?)
    }

    pub(crate) fn write(&self, record: &Record) -> anyhow::Result<()> {
        self.put(&record.id, "state.json", &serde_json::to_vec(record)?)
    }

    /// Renamed into place: a reader sees all of it or nothing.
    fn put(&self, id: &str, name: &str, text: &[u8]) -> anyhow::Result<()> {
        let folder = self.folder(id)?;
        let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {path:?}"))
    }

    pub(crate) fn read(&self, id: &str) -> anyhow::Result<Record> {
        let path = self.folder(id)?.join("state.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{path:?} is damaged")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.folder(id)?.is_dir() {
                    bail!("container {id} is half made: `sampan-runtime delete --force {id}` removes it");
                }
                bail!("container {id} does not exist")
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {path:?}")),
        }
    }

    pub(crate) fn spec(&self, id: &str) -> anyhow::Result<Spec> {
        let path = self.folder(id)?.join("config.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
        serde_json::from_slice(&text).with_context(|| format!("{path:?} is no configuration"))
    }

    pub(crate) fn status(&self, record: &Record) -> anyhow::Result<Status> {
        if self.is_locked(&record.id)? {
            return Ok(Status::Creating);
        }
        if !record.lives() {
            return Ok(Status::Stopped);
        }
        // Also one that was not started: to start it now would be to wait until it is resumed.
        if self.is_paused(record) {
            return Ok(Status::Paused);
        }
        let waits = self.folder(&record.id)?.join(FIFO).exists();
        Ok(if waits { Status::Created } else { Status::Running })
    }

    fn is_paused(&self, record: &Record) -> bool {
        let cgroup = self.cgroup(&record.id).ok().flatten();
        cgroup.is_some_and(|cgroup| cgroup.freezer_state().is_ok_and(|state| state != FreezerState::Thawed))
    }

    /// The container's cgroup; none where it has none, or none any more.
    pub(crate) fn cgroup(&self, id: &str) -> anyhow::Result<Option<cgroups::Cgroup>> {
        let spec = self.spec(id)?;
        let Some(linux) = spec.linux() else { return Ok(None) };
        Ok(sampan_runtime::cgroups::open(id, linux)?)
    }

    pub(crate) fn show<'a>(&self, record: &'a Record) -> anyhow::Result<Shown<'a>> {
        let status = self.status(record)?;
        Ok(Shown {
            oci_version: &record.oci_version,
            id: &record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status,
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: record.created,
            annotations: &record.annotations,
            owner: String::new(),
        })
    }

    /// The name of the user to whom the container belongs, or his number.
    pub(crate) fn owner(&self, id: &str) -> anyhow::Result<String> {
        let uid = fs::metadata(self.folder(id)?)?.uid();
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        });
        Ok(name.unwrap_or_else(|| format!("#{uid}")))
    }

    /// The last container takes the root along; a root that somebody else uses is not empty.
    pub(crate) fn tidy(&self) {
        let _ = fs::remove_dir(&self.root);
    }

    pub(crate) fn remove(&self, id: &str) -> anyhow::Result<()> {
        let folder = self.folder(id)?;
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {folder:?}"))?;
        self.tidy();
        Ok(())
    }
}

impl Record {
    /// Whether its process is the one that was started.
    pub(crate) fn lives(&self) -> bool {
        self.pid > 0 && start_time(self.pid) == Some(self.start_time)
    }

    /// A descriptor of its process, as long as that lives. It is opened first and looked at then: from there on the number
    /// cannot become another's unnoticed.
    pub(crate) fn pidfd(&self) -> Option<OwnedFd> {
        pidfd(self.pid).filter(|_| self.lives())
    }
}

/// Whoever makes this folder first in /tmp could put containers into it, whose hooks run as this user.
fn check_own(folder: &Path) -> anyhow::Result<()> {
    let about = match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("cannot read {folder:?}"))?,
    };
    if about.is_dir() && about.uid() == geteuid().as_raw() && about.mode() & 0o022 == 0 {
        return Ok(());
    }
    bail!("{folder:?} is not this user's alone: set XDG_RUNTIME_DIR, or give --root")
}

/// A descriptor of whatever process has this number now.
pub(crate) fn pidfd(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
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
        let store = Store::new(Some("/r".into())).unwrap();
        for id in ["", "..", "a/b", ".x", "a b"] {
            store.folder(id).unwrap_err();
        }
        assert_eq!(store.folder("a-1").unwrap(), Path::new("/r/a-1"));
    }

    #[test]
    fn a_folder_of_somebody_elses_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        check_own(folder.path()).unwrap();
        check_own(&folder.path().join("none")).unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
        check_own(&folder.path().join("link")).unwrap_err();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        check_own(folder.path()).unwrap_err();
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(pid).is_some_and(|time| time > 0));
        assert_eq!(start_time(i32::MAX), None);
    }
}
