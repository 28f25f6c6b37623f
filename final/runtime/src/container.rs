//! A container that was created, and a process that runs in it: what the caller holds.
//!
//! Undo is explicit, [`Container::discard`] and [`Started::remove`], for it can fail, and a dropped value could not say so.

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ::cgroups::Cgroup;
use ::namespaces::{Created, ExitStatus, Running};
use step::{StepError, step};

use crate::Error;
use crate::hooks::Planned;

/// A container that has been created: its namespaces are there, its init process waits. Where it is dropped the init process
/// notices and ends; [`Container::discard`] also waits for that and removes the cgroup.
#[derive(Debug)]
pub struct Container {
    pub(crate) created: Created,
    pub(crate) cgroup: Option<Cgroup>,
    /// Written to when the init process's network link is there.
    pub(crate) gate: Option<OwnedFd>,
    pub(crate) wants_terminal: bool,
    /// Those that the init process waits for before it swaps its root.
    pub(crate) hooks: Option<Arc<Planned>>,
}

impl Container {
    /// The init process, as the host numbers it.
    pub fn pid(&self) -> i32 {
        self.created.pid().as_raw()
    }

    /// A descriptor that stands for the init process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.created.pidfd()
    }

    /// The container's cgroup; none where the user may not make one and the configuration needs none.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Takes the terminal's master end; waits until the init process has made it. None without [`Stdio::Terminal`](crate::Stdio::Terminal).
    ///
    /// # Errors
    /// What the init process met before it.
    pub fn terminal(&mut self) -> Result<Option<OwnedFd>, Error> {
        if !std::mem::take(&mut self.wants_terminal) {
            return Ok(None);
        }
        if let Some(terminal) = self.created.take_terminal() {
            return Ok(Some(terminal));
        }
        self.run_hooks()?;
        self.created.wait_ready()?;
        Ok(self.created.take_terminal())
    }

    /// Lets the container's program run; comes back when it does (execve succeeded).
    ///
    /// # Errors
    /// What the init process met. The container and its cgroup are gone then.
    pub fn start(mut self) -> Result<Started, Error> {
        if let Err(error) = self.run_hooks() {
            // The first error is the one to tell.
            let _ = self.cgroup.map(Cgroup::remove);
            return Err(error);
        }
        if let Some(gate) = &self.gate {
            step(
                "write",
                format_args!("eventfd"),
                "the network link is there: the init process may configure it",
            )
            .run(|| rustix::io::write(gate, &1u64.to_ne_bytes()))?;
        }
        match self.created.proceed() {
            Ok(running) => Started::new(running, self.cgroup),
            Err(error) => {
                // The first error is the one to tell.
                let _ = self.cgroup.map(Cgroup::remove);
                Err(error.into())
            }
        }
    }

    /// Waits until the init process has set up everything that it can before the start.
    ///
    /// # Errors
    /// What it met. The container and its cgroup are gone then.
    pub fn ready(&mut self) -> Result<(), Error> {
        let ready = self.run_hooks().and_then(|()| Ok(self.created.wait_ready()?));
        if ready.is_err() {
            // The first error is the one to tell.
            let _ = self.cgroup.take().map(Cgroup::remove);
        }
        ready
    }

    /// prestart and createRuntime, while the init process waits before it swaps its root. Where one fails, the process is killed.
    fn run_hooks(&mut self) -> Result<(), Error> {
        let Some(hooks) = self.hooks.take() else { return Ok(()) };
        self.created.wait_ready()?;
        if let Err(error) = hooks.in_runtime(self.pid()) {
            self.created.kill()?;
            return Err(error);
        }
        Ok(self.created.release()?)
    }

    /// Leaves the init process at its FIFO ([`Options::fifo`](crate::Options::fifo)): from here on the container outlives this
    /// process. After [`Container::ready`].
    ///
    /// # Errors
    /// The step that failed. The container and its cgroup are gone then.
    pub fn detach(self) -> Result<(), Error> {
        match self.created.release() {
            Ok(()) => Ok(()),
            Err(error) => {
                // The first error is the one to tell.
                let _ = self.cgroup.map(Cgroup::remove);
                Err(error.into())
            }
        }
    }

    /// Undoes it: kills the init process and removes the cgroup.
    ///
    /// # Errors
    /// The step that failed.
    pub fn discard(self) -> Result<(), Error> {
        let aborted = self.created.abort();
        if let Some(cgroup) = self.cgroup {
            cgroup.remove()?;
        }
        Ok(aborted?)
    }
}

/// A process that runs in a container.
#[derive(Debug)]
pub struct Started {
    pid: i32,
    pidfd: OwnedFd,
    running: Option<Running>,
    ended: Ended,
    cgroup: Option<Cgroup>,
    terminal: Option<OwnedFd>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exited(u8),
    /// A signal of this number killed it.
    Signaled(i32),
}

impl Ended {
    /// As a shell and Docker put it: the status, or 128 and the signal's number.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(255),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Exited(status) => Self::Exited(status),
            ExitStatus::Signaled(signal) => Self::Signaled(signal),
        }
    }
}

impl Started {
    pub(crate) fn new(mut running: Running, cgroup: Option<Cgroup>) -> Result<Self, Error> {
        let pid = running.pid().as_raw();
        let pidfd =
            running.pidfd().try_clone_to_owned().map_err(|error| StepError::new("dup", "pidfd", error))?;
        let terminal = running.terminal.take();
        Ok(Self { pid, pidfd, running: Some(running), ended: Ended::Exited(0), cgroup, terminal })
    }

    /// The process, as the host numbers it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor that stands for it, and that is readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The container's cgroup; none for a process started with [`exec()`](crate::exec()).
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Takes the terminal's master end, for [`Stdio::Terminal`](crate::Stdio::Terminal); none once it was taken.
    pub fn terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Waits for its end and reaps it; after that, says again how it ended.
    ///
    /// # Errors
    /// The step that failed.
    pub fn wait(&mut self) -> Result<Ended, Error> {
        if let Some(running) = self.running.take() {
            self.ended = running.wait()?.into();
        }
        Ok(self.ended)
    }

    /// The same in the foreground: passes on signals, and joins this process's terminal to the container's where it has one.
    ///
    /// # Errors
    /// The step that failed.
    pub fn attend(&mut self) -> Result<Ended, Error> {
        if let Some(mut running) = self.running.take() {
            running.terminal = self.terminal.take();
            self.ended = ::namespaces::attend(running)?.into();
        }
        Ok(self.ended)
    }

    /// Kills what is left in the container's cgroup and removes it. Does nothing for a process started with `exec`.
    ///
    /// # Errors
    /// The step that failed.
    pub fn remove(self) -> Result<(), Error> {
        match self.cgroup {
            Some(cgroup) => Ok(cgroup.remove()?),
            None => Ok(()),
        }
    }
}
