//! Start one more process in a running container.
//!
//! It joins what the container's first process is in: namespaces and cgroup; and what it may do is limited in the same way, with
//! the same filter. Chapter 2 sees to the namespaces, and marks the process before it enters so that nobody inside may look into
//! it: until exec it is the host's program with the host's memory.
//!
//! Order: oom_score_adj and processors, for a moment this process's own -> cgroup -> processors -> namespaces -> standard
//! descriptors -> the same restrictions as the first process -> exec.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use ::namespaces::{Config, join};
use oci_spec::runtime::{ContainerState, LinuxNamespaceType, Process, Spec};

use crate::program::{About, Around, Program};
use crate::scheduler::Affinity;
use crate::stdio::{Here, Prepared};
use crate::{Error, Started, Stdio, cgroups, process};

/// One more process for a container that runs.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The container's id, as it was given to [`crate::create()`].
    pub id: &'a str,
    /// A descriptor that stands for the container's init process.
    pub init: OwnedFd,
    /// The container's own configuration: its seccomp filter and its cgroup are the process's too.
    pub spec: &'a Spec,
    /// The process: what to run, as whom, with which capabilities.
    pub process: &'a Process,
    /// What it reads from and writes to.
    pub stdio: Stdio,
    /// What runc's command line says beside that.
    pub options: ExecOptions,
}

/// What is asked for beside the process, as runc's flags have it.
#[derive(Debug, Default)]
pub struct ExecOptions {
    /// It outlives this process (`--detach`).
    pub detach: bool,
    /// How many descriptors from 3 on are the program's too (`--preserve-fds`).
    pub preserve_fds: u16,
    /// Cgroups below the container's (`--cgroup`), which are there: `PATH`, or `CONTROLLER:PATH` for one hierarchy.
    pub cgroup: Vec<String>,
    /// The bundle's directory, for the agent of a filter that notifies.
    pub bundle: PathBuf,
}

/// Starts it; comes back when the program runs (execve succeeded). The calling process must have one thread, and the new process
/// dies with it.
///
/// # Errors
/// What it met on the way, with Docker's exit status.
pub fn exec(exec: Exec<'_>) -> Result<Started, Error> {
    let linux = exec.spec.linux().as_ref().ok_or_else(|| Error::config("linux", "it is missing"))?;
    let namespaces = linux.namespaces().iter().flatten();
    if !namespaces.into_iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Mount) {
        return Err(Error::config(
            "linux.namespaces",
            "a container without a mount namespace cannot be entered: the process would have the host's root",
        ));
    }
    let ExecOptions { detach, preserve_fds, cgroup: below, bundle } = exec.options;
    let about = About { id: exec.id, status: ContainerState::Running, bundle: &bundle, spec: exec.spec };
    let around = Around { about, die_with_parent: !detach, keep_keyring: false, preserve_fds };
    let mut program = Program::new(exec.process, linux, &around)?;
    let stdio = Prepared::new(exec.stdio);
    cgroups::come_near(exec.id, linux)?;
    let cgroup = cgroups::open_for_exec(exec.id, linux, &below, exec.init.as_fd())?;
    let entrance = cgroup.as_ref().map(::cgroups::Cgroup::entrance).transpose()?;
    let into_cgroup = cgroup.as_ref().map(::cgroups::Cgroup::directory).transpose()?.flatten();
    let config = Config { into_cgroup, die_with_parent: !detach, ..Config::default() };
    // Inherited: inside, marked against the container's eyes, the process could not write it in a user namespace.
    let own = process::oom_score_adj(program.oom_score_adj)?;
    let processors = program.affinity.begin()?;
    let created = join(exec.init, config, |end| {
        let stage = ::namespaces::StageError::at("exec");
        if let Some(entrance) = &entrance {
            entrance.enter().map_err(&stage)?;
        }
        program.affinity.settle().map_err(&stage)?;
        process::usual_umask();
        program.keyring().map_err(&stage)?;
        // A terminal is bound at /dev/console for the first process alone.
        stdio.apply(end, Here { user: program.uid(), own_dev: false, has_devices: true })?;
        program.restrict()?;
        end.wait_to_proceed()?;
        program.exec()
    });
    Affinity::restore(processors)?;
    process::oom_score_adj(own)?;
    Started::new(created?.proceed()?, None)
}
