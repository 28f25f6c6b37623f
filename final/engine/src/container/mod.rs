//! A container: what was asked for, and what became of it. One file a verb.
//!
//! `containers/ID/config.json` is written once, when the container is created; `state.json` changes with its life. A name is a
//! symbolic link `containers/NAME -> ID`: making it is the test whether the name is free, in one call, and finding a container
//! by its name is reading a link.

pub mod commit;
pub mod create;
pub mod diff;
pub mod exec;
pub mod export;
pub mod limits;
pub mod list;
pub mod logs;
pub mod names;
pub mod remove;
pub mod start;
pub mod stop;
pub mod wait;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::process::Identity;
use crate::store::{self, Durability};
use crate::{Engine, Error};

/// What was asked for: `config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The name, the user's or a made one.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The image as it was named.
    pub image: String,
    /// The digest of the image's config.
    pub image_id: String,
    /// The program and its arguments: entrypoint and command together.
    pub args: Vec<String>,
    /// The environment, as `NAME=value`.
    pub env: Vec<String>,
    /// The working directory.
    pub working_dir: PathBuf,
    /// `user[:group]`, by name or number; empty for root.
    pub user: String,
    /// The host name; the id's first 12 digits unless asked otherwise.
    pub hostname: String,
    /// Whether it has a terminal (`-t`).
    pub terminal: bool,
    /// Whether standard input stays open without a client (`-i`).
    pub open_stdin: bool,
    /// Whether it is removed at its end (`--rm`).
    pub auto_remove: bool,
    /// Whether a small init process is pid 1 (`--init`).
    pub init: bool,
    /// What is mounted into it.
    pub mounts: Vec<MountPoint>,
    /// `bridge`, `none`, `host` or `container:ID`.
    pub network: String,
    /// Published ports, as `-p` takes them.
    pub ports: Vec<String>,
    /// Memory limit in bytes (`-m`).
    pub memory: Option<u64>,
    /// Processors (`--cpus`).
    pub cpus: Option<f64>,
    /// Number of processes (`--pids-limit`).
    pub pids_limit: Option<i64>,
    /// All other limits, and devices.
    #[serde(default)]
    pub limits: limits::Limits,
    /// The signal that `stop` sends, by name.
    pub stop_signal: String,
    /// Labels, the image's and the user's.
    pub labels: BTreeMap<String, String>,
}

impl Config {
    /// The path of the container's cgroup below the hierarchies.
    pub(crate) fn cgroup(&self) -> PathBuf {
        let ours = Path::new(cgroups::cgroup::FOLDER);
        match self.limits.cgroup_parent.as_deref() {
            // What is relative is below our own folder, as the runtime has it.
            Some(parent) => match parent.strip_prefix("/") {
                Ok(below) => below.join(&self.id),
                Err(_) => ours.join(parent).join(&self.id),
            },
            None => ours.join(&self.id),
        }
    }
}

/// A bind mount or a volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// The volume's name; none for a bind mount.
    pub volume: Option<String>,
    /// The folder or file on the host.
    pub source: PathBuf,
    /// Where the container sees it.
    pub destination: PathBuf,
    /// Whether the container cannot write to it.
    pub read_only: bool,
    /// Whether an empty volume begins with the image's files at this place.
    #[serde(default)]
    pub copy: bool,
}

/// Docker's words for what a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
        })
    }
}

/// What became of it: `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The status, as its shim wrote it last.
    pub status: Status,
    /// The container's first process on the host, while it runs.
    pub process: Option<Identity>,
    /// The shim, while it runs.
    pub shim: Option<Identity>,
    /// When it was started last.
    pub started: Option<Timestamp>,
    /// When it ended last.
    pub finished: Option<Timestamp>,
    /// Its exit status, 128 + the signal's number for a killed one.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed a process of it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Its address on the bridge, while it runs.
    pub address: Option<String>,
    /// Why it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl State {
    /// A container that was never started.
    pub fn created() -> Self {
        Self {
            status: Status::Created,
            process: None,
            shim: None,
            started: None,
            finished: None,
            exit_code: None,
            oom_killed: false,
            address: None,
            error: None,
        }
    }
}

/// A container of the store.
#[derive(Debug)]
pub struct Container {
    /// What was asked for.
    pub config: Config,
    /// What became of it, as of when it was read.
    pub state: State,
    /// Its folder.
    pub folder: PathBuf,
}

impl Container {
    /// The id's beginning, as it is shown.
    pub fn short_id(&self) -> &str {
        self.config.id.get(..12).unwrap_or(&self.config.id)
    }

    /// Its log: one JSON object a line, as Docker's `json-file` driver writes it.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let Some(config) = store::read_json::<Config>(&folder.join("config.json"))? else { return Ok(None) };
        // `create` writes it before the other: where it is not there, somebody removes this container just now.
        let Some(state) = store::read_json(&folder.join("state.json"))? else { return Ok(None) };
        Ok(Some(Self { config, state, folder: folder.to_owned() }))
    }

    /// Waits for its lock, and reads it anew: what was read before is history. None where it was removed meanwhile.
    pub(crate) fn locked(self) -> Result<Option<(store::Lock, Self)>, Error> {
        let Some(lock) = store::Lock::if_there(&self.folder)? else { return Ok(None) };
        Ok(Self::read(&self.folder)?.map(|now| (lock, now)))
    }

    pub(crate) fn write_state(&self) -> Result<(), Error> {
        store::write_json(&self.folder.join("state.json"), &self.state, self.durability())
    }

    pub(crate) fn durability(&self) -> Durability {
        if self.config.auto_remove { Durability::Cache } else { Durability::Disk }
    }
}

impl Engine {
    /// Finds a container by its name, its id, or the beginning of its id that fits no other.
    ///
    /// # Errors
    /// [`Error::NoSuch`] where none or several fit.
    pub fn container(&self, name: &str) -> Result<Container, Error> {
        let none = || Error::NoSuch(format!("no such container: {name} (`sampan ps -a` lists them)"));
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(none());
        }
        let exact = self.paths.containers().join(name);
        let folder = match fs::read_link(&exact) {
            Ok(id) => self.paths.containers().join(id),
            Err(_) if exact.is_dir() => exact,
            Err(_) => self.by_prefix(name)?.ok_or_else(none)?,
        };
        let container = Container::read(&folder)?.ok_or_else(none)?;
        self.repair(container)?.ok_or_else(none)
    }

    fn by_prefix(&self, prefix: &str) -> Result<Option<PathBuf>, Error> {
        if !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let mut found = self
            .folders()?
            .into_iter()
            .filter(|folder| folder.file_name().is_some_and(|id| id.to_string_lossy().starts_with(prefix)));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => {
                Err(Error::NoSuch(format!("several containers' ids begin with {prefix}: give more digits")))
            }
            (first, _) => Ok(first),
        }
    }

    /// The folders of all containers.
    pub(crate) fn folders(&self) -> Result<Vec<PathBuf>, Error> {
        let path = self.paths.containers();
        let entries = fs::read_dir(&path).map_err(|source| Error::Store { path, source })?;
        Ok(entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect())
    }

    // ANCHOR: repair
    /// A container that says it runs, and whose shim is dead, has ended: the kernel killed its processes with the shim
    /// (PR_SET_PDEATHSIG). What the shim would have done is done here; none is left of one with `--rm`.
    fn repair(&self, container: Container) -> Result<Option<Container>, Error> {
        let alive = |container: &Container| container.state.shim.is_some_and(|shim| shim.is_alive());
        if container.state.status != Status::Running || alive(&container) {
            return Ok(Some(container));
        }
        // Another command may have repaired it while this one waited, or its shim may just have ended well.
        let Some((_lock, mut container)) = container.locked()? else { return Ok(None) };
        if container.state.status == Status::Running && !alive(&container) {
            self.release(&container)?;
            crate::network::sweep(&container.config)?;
            if container.config.auto_remove {
                self.discard(&container, true)?;
                return Ok(None);
            }
            container.state.status = Status::Exited;
            container.state.exit_code = Some(137);
            container.state.finished = Some(Timestamp::now());
            container.state.error = Some("the shim was killed".to_owned());
            container.state.process = None;
            container.state.shim = None;
            container.state.address = None;
            container.write_state()?;
        }
        Ok(Some(container))
    }
    // ANCHOR_END: repair
}
