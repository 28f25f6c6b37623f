//! What is done to a process so that it becomes the container's program: the same for the first one and for [`crate::exec()`].
//!
//! All that can be computed is computed by the runtime process; the init process only makes the calls, in this order:
//!
//! ```text
//! turn, memory, labels -> limits -> working directory -> [filter] -> bounding set -> groups, user -> other capabilities -> no_new_privs
//!        -> ask again to die with the parent -> (wait) -> [filter] -> exec
//! ```
//!
//! A filter with a listener is loaded before the wait in any case: its agent is to have it when the container is created.
//! The filter stands twice: without `no_new_privs` it needs a capability that is about to go, with it it can be the last thing of
//! all, and need not allow what init does before (see [`crate::seccomp`]).

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ::namespaces::StageError;
use chroot::Command;
use nix::errno::Errno;
use oci_spec::runtime::{
    ContainerState, Linux, LinuxPersonalityDomain, PosixRlimit, Process, Spec, State, User,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use step::{StepError, step};

use crate::capabilities::Sets;
use crate::labels::Labels;
use crate::memory_policy::MemoryPolicy;
use crate::scheduler::{Affinity, Turn};
use crate::seccomp::listener::Listener;
use crate::seccomp::{self, Filter};
use crate::{Error, environment, process};

/// A program with all that is special about its process.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    cwd: PathBuf,
    makes_cwd: bool,
    user: User,
    capabilities: Sets,
    turn: Turn,
    personality: Option<LinuxPersonalityDomain>,
    memory_policy: Option<MemoryPolicy>,
    labels: Labels,
    rlimits: Vec<PosixRlimit>,
    no_new_privileges: bool,
    filter: Option<Filter>,
    listener: Option<Listener>,
    /// For a process of exec.
    pub(crate) affinity: Affinity,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) die_with_parent: bool,
    keep_keyring: bool,
}

/// What is said of a program beside the configuration.
#[derive(Debug)]
pub(crate) struct Around<'a> {
    /// The container, for the agent of a filter's listener.
    pub(crate) about: About<'a>,
    pub(crate) die_with_parent: bool,
    pub(crate) keep_keyring: bool,
    /// How many descriptors from 3 on are the program's too.
    pub(crate) preserve_fds: u16,
}

/// What the specification calls its state, but for the pid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) id: &'a str,
    pub(crate) status: ContainerState,
    pub(crate) bundle: &'a Path,
    pub(crate) spec: &'a Spec,
}

impl About<'_> {
    fn state(&self) -> State {
        let mut state = State::default();
        state
            .set_version(self.spec.version().clone())
            .set_id(self.id.to_owned())
            .set_status(self.status)
            .set_bundle(self.bundle.to_owned())
            .set_annotations(self.spec.annotations().clone());
        state
    }
}

impl Program {
    /// Reads the configuration and compiles the filter.
    ///
    /// # Errors
    /// [`Error::Config`] for what cannot be.
    pub(crate) fn new(process: &Process, linux: &Linux, around: &Around<'_>) -> Result<Self, Error> {
        process::check(process)?;
        let filter = linux.seccomp().as_ref().map(seccomp::compile).transpose()?;
        let notified = linux.seccomp().as_ref().filter(|_| filter.as_ref().is_some_and(Filter::notifies));
        let listener =
            notified.map(|seccomp| Listener::connect(seccomp, around.about.state())).transpose()?;
        Ok(Self {
            command: Command {
                args: process.args().iter().flatten().map(OsString::from).collect(),
                env: environment::each_once(process.env().as_deref().unwrap_or_default()),
                kept: around.preserve_fds,
            },
            cwd: process.cwd().clone(),
            makes_cwd: around.about.status == ContainerState::Creating,
            user: process.user().clone(),
            capabilities: Sets::new(process.capabilities().as_ref()),
            turn: Turn::new(process)?,
            personality: linux.personality().as_ref().map(|personality| personality.domain()),
            memory_policy: linux.memory_policy().as_ref().map(MemoryPolicy::new).transpose()?,
            labels: Labels::new(process)?,
            rlimits: process.rlimits().clone().unwrap_or_default(),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            filter,
            listener,
            affinity: Affinity::new(process.exec_cpu_affinity().as_ref())?,
            oom_score_adj: process.oom_score_adj(),
            die_with_parent: around.die_with_parent,
            keep_keyring: around.keep_keyring,
        })
    }

    /// Whose process it becomes.
    pub(crate) fn uid(&self) -> u32 {
        self.user.uid()
    }

    /// A session keyring of its own, unless the caller's is wanted.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn keyring(&self) -> Result<(), StepError> {
        if self.keep_keyring {
            return Ok(());
        }
        self.labels.of_keys(false)?;
        process::keyring()?;
        self.labels.of_keys(true)
    }

    // ANCHOR: restrict
    /// Everything but the exec, and but a filter that comes last.
    ///
    /// # Errors
    /// The step that failed, with its stage.
    pub(crate) fn restrict(&mut self) -> Result<(), StageError> {
        environment::add_home(&mut self.command.env, self.user.uid());
        self.turn.apply().map_err(StageError::at("scheduler"))?;
        if let Some(domain) = self.personality {
            process::personality(domain).map_err(StageError::at("personality"))?;
        }
        if let Some(policy) = &self.memory_policy {
            policy.apply().map_err(StageError::at("memory policy"))?;
        }
        self.labels.apply().map_err(StageError::at("labels"))?;
        process::rlimits(&self.rlimits).map_err(StageError::at("rlimits"))?;
        process::working_directory(&self.cwd, self.makes_cwd).map_err(StageError::at("cwd"))?;
        if !self.no_new_privileges {
            self.load_filter().map_err(StageError::at("seccomp"))?;
        }
        self.capabilities.drop_bounding().map_err(StageError::at("capabilities"))?;
        process::user(&self.user).map_err(StageError::at("user"))?;
        self.capabilities.apply().map_err(StageError::at("capabilities"))?;
        if self.no_new_privileges {
            process::no_new_privileges().map_err(StageError::at("no_new_privs"))?;
        }
        if self.die_with_parent {
            die_with_parent().map_err(StageError::at("parent"))?;
        }
        if self.listener.is_some() {
            // Whoever made the container is told by then that its agent has the listener.
            self.load_filter().map_err(StageError::at("seccomp"))?;
        }
        Ok(())
    }
    // ANCHOR_END: restrict

    /// Once.
    fn load_filter(&mut self) -> Result<(), StepError> {
        let Some(filter) = self.filter.take() else { return Ok(()) };
        match (filter.install()?, self.listener.take()) {
            (Some(fd), Some(listener)) => listener.send(&fd),
            _ => Ok(()),
        }
    }

    /// Says early that there is no such program, or none that may be run: whoever starts a detached container later cannot be told
    /// any more.
    ///
    /// # Errors
    /// The one that exec would meet, where no file is there at all, or none that anybody may execute.
    pub(crate) fn look_up(&self) -> Result<(), StageError> {
        let Some(name) = self.command.args.first() else { return Ok(()) };
        let path = self.command.env.iter().find_map(|entry| entry.to_str()?.strip_prefix("PATH="));
        let folders = path.unwrap_or(chroot::command::PATH).split(':');
        let files = match name.as_encoded_bytes().contains(&b'/') {
            true => vec![PathBuf::from(name)],
            false => folders.map(|folder| Path::new(folder).join(name)).collect(),
        };
        let mut refused = None;
        for file in files {
            match std::fs::metadata(&file) {
                Ok(about) if about.is_file() && about.permissions().mode() & 0o111 != 0 => return Ok(()),
                Ok(_) => refused = refused.or(Some(file)),
                Err(_) => {}
            }
        }
        let error = match refused {
            Some(file) => StepError::new("execve", file.display(), Errno::EACCES).into(),
            None => chroot::Error::NoCommand(name.clone()),
        };
        Err(StageError::new("exec", &error, error.exit_code()))
    }

    /// Becomes the program.
    ///
    /// # Errors
    /// What failed, with Docker's exit status for it.
    pub(crate) fn exec(&mut self) -> Result<Infallible, StageError> {
        self.load_filter().map_err(StageError::at("seccomp"))?;
        self.command.exec().map_err(|error| StageError::new("exec", &error, error.exit_code()))
    }
}

/// Chapter 2 has asked for it before; the kernel forgets it when a process changes its user.
fn die_with_parent() -> Result<(), StepError> {
    step(
        "prctl",
        format_args!("PR_SET_PDEATHSIG SIGKILL"),
        "the change of the user made the kernel forget it: a killed parent leaves nobody",
    )
    .run(|| set_parent_process_death_signal(Some(Signal::KILL)))
}
