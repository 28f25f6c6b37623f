//! Run one step of a build: a container that lives for one command, and whose writable layer is the result.
//!
//! There is no shim: the command that builds is the parent, and what the step prints is the build's output. The layer lies in
//! `build/ID/upper`, on the store's file system, so that it becomes a layer of the image by being moved.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sampan_runtime::{Create, Rootfs, Stdio};
use serde::{Deserialize, Serialize};
use step::{StepError, step};

use crate::container::{Config, create::new_id, limits::Limits};
use crate::paths::{make_private, remove_tree};
use crate::process::Identity;
use crate::shim::resources::Prepared;
use crate::store::{Durability, read_json, write_json};
use crate::{Engine, Error, network};

/// What a step runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, as `NAME=value`.
    pub env: Vec<String>,
    /// The working directory.
    pub working_dir: PathBuf,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// The network mode; the engine's default where none is said.
    pub network: Option<String>,
}

/// What a step left.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ran {
    /// The command's exit status.
    pub exit_code: u8,
    /// The layer: what the command changed. It is the caller's to move away; the rest of its folder goes with [`Ran::remove`].
    pub upper: PathBuf,
    folder: PathBuf,
}

impl Ran {
    /// Removes what the step needed.
    ///
    /// # Errors
    /// The step that failed.
    pub fn remove(self) -> Result<(), Error> {
        remove_tree(&self.folder)
    }
}

impl Engine {
    /// Runs a command on the layers (lowest first) and waits for its end.
    ///
    /// # Errors
    /// Where it cannot be started; a command that fails is no error here.
    pub fn run_build_step(&self, layers: Vec<PathBuf>, command: &Command) -> Result<Ran, Error> {
        let config = config(command)?;
        let folder = self.build_folder(&config.id)?;
        let outcome = self.run_in(&config, &folder, layers);
        let released = self.release_step(&config);
        match outcome {
            Ok(exit_code) => {
                released?;
                Ok(Ran { exit_code, upper: folder.join("upper"), folder })
            }
            Err(error) => {
                // The first error is the one to tell; the next build sweeps what is left.
                let _ = remove_tree(&folder);
                Err(error)
            }
        }
    }

    fn run_in(&self, config: &Config, folder: &Path, layers: Vec<PathBuf>) -> Result<u8, Error> {
        let prepared = Prepared::on_layers(self, config, folder, layers)?;
        let created = sampan_runtime::create(Create {
            id: &config.id,
            spec: &prepared.spec,
            bundle: &prepared.bundle,
            rootfs: Rootfs::Overlay(prepared.overlay),
            stdio: stdio()?,
            network: prepared.network.for_init(),
            init: false,
            options: sampan_runtime::Options::default(),
        })?;
        let link = match prepared.network.attach(config, created.pid(), folder) {
            Ok(link) => link,
            Err(error) => {
                let _ = created.discard();
                return Err(error);
            }
        };
        let mut started = created.start()?;
        let ended = started.wait();
        started.remove()?;
        link.helper.map_or(Ok(()), |helper| helper.stop())?;
        Ok(ended?.exit_code())
    }

    fn release_step(&self, config: &Config) -> Result<(), Error> {
        let outcomes =
            [crate::shim::resources::remove_cgroup(config), network::detach(config), network::sweep(config)];
        outcomes.into_iter().collect()
    }

    /// A folder for one step; those of builds that were killed are swept on the way.
    fn build_folder(&self, id: &str) -> Result<PathBuf, Error> {
        let all = self.paths.data.join("build");
        make_private(&all)?;
        for entry in
            fs::read_dir(&all).map_err(|source| Error::Store { path: all.clone(), source })?.flatten()
        {
            let owner = read_json::<Identity>(&entry.path().join("owner.json")).ok().flatten();
            // Without the mark it may be a step that begins just now.
            let stale = || crate::container::list::is_stale(&entry.path());
            if owner.map_or_else(stale, |owner| !owner.is_alive()) {
                remove_tree(&entry.path())?;
            }
        }
        let folder = all.join(id);
        step("mkdir", format_args!("{}", folder.display()), "for the layer that this step writes")
            .run(|| fs::create_dir(&folder))?;
        write_json(&folder.join("owner.json"), &Identity::own(), Durability::Cache)?;
        Ok(folder)
    }
}

fn config(command: &Command) -> Result<Config, Error> {
    let random = new_id()?;
    // The process at its end is how others know whether what bears this name is still somebody's.
    let id = format!("build-{}-{}", random.get(..8).unwrap_or_default(), std::process::id());
    let network = command.network.clone().unwrap_or_else(|| network::default_mode().to_owned());
    network::Mode::parse(&network)?;
    Ok(Config {
        name: id.clone(),
        created: Timestamp::now(),
        image: String::new(),
        image_id: String::new(),
        args: command.args.clone(),
        env: command.env.clone(),
        working_dir: command.working_dir.clone(),
        user: command.user.clone(),
        hostname: "build".to_owned(),
        terminal: false,
        open_stdin: false,
        auto_remove: true,
        init: false,
        mounts: Vec::new(),
        network,
        ports: Vec::new(),
        memory: None,
        cpus: None,
        pids_limit: None,
        limits: Limits::default(),
        stop_signal: "SIGTERM".to_owned(),
        labels: BTreeMap::new(),
        id,
    })
}

fn stdio() -> Result<Stdio, Error> {
    let copy = |fd: std::os::fd::BorrowedFd<'_>| {
        fd.try_clone_to_owned().map_err(|error| StepError::new("dup", "a standard stream", error))
    };
    let null = fs::File::open("/dev/null").map_err(|error| StepError::new("open", "/dev/null", error))?;
    Ok(Stdio::Fds(null.into(), copy(rustix::stdio::stdout())?, copy(rustix::stdio::stderr())?))
}
