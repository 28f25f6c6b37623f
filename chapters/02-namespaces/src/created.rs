//! What the runtime process holds of a container's process: before its command runs, while it runs, and how it ended.
//!
//! A pid names a process only until somebody has waited for it; then the kernel may give the number to another. A pidfd names the
//! process itself. So signals and waits go through the pidfd.
//!
//! See pidfd_open(2), waitid(2), pidfd_send_signal(2).

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::Pid;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use step::{StepError, step};

use crate::protocol::{FromInit, RuntimeSocket, ToInit};
use crate::{Error, StageError};

/// A process that stands before its exec. Where it is dropped, the process notices and ends; [`Created::abort`] also waits.
#[derive(Debug)]
pub struct Created {
    running: Running,
    socket: RuntimeSocket,
}

impl Created {
    pub(crate) fn new(running: Running, socket: RuntimeSocket) -> Self {
        Self { running, socket }
    }

    /// Its pid, as this process sees it.
    pub fn pid(&self) -> Pid {
        self.running.pid()
    }

    /// A descriptor that names the process also after its pid is given to another.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.running.pidfd()
    }

    /// The master side of the terminal, after [`Created::wait_ready`].
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.running.terminal.take()
    }

    /// Waits until the process has called [`crate::InitEnd::ready`].
    ///
    /// # Errors
    /// [`Error::Init`] where it failed: drop it then, it is reaped already.
    pub fn wait_ready(&mut self) -> Result<(), Error> {
        loop {
            match self.receive()? {
                Some(FromInit::Ready) => return Ok(()),
                Some(FromInit::Terminal(master)) => self.running.terminal = Some(master),
                Some(FromInit::Failed(error)) => return Err(self.running.reap_failed(error)),
                Some(FromInit::Joined(_)) => {}
                None => return Err(Error::InitEnded(self.running.reap()?)),
            }
        }
    }

    /// Lets it run its command, and returns when it does.
    ///
    /// # Errors
    /// [`Error::Init`] where it failed; it is reaped then.
    pub fn proceed(mut self) -> Result<Running, Error> {
        match self.send(ToInit::Proceed) {
            // It failed before it came to listen: what it said is still to be read.
            Err(Error::Step(error)) if error.errno() == Some(nix::errno::Errno::EPIPE) => {}
            other => other?,
        }
        loop {
            match self.receive()? {
                Some(FromInit::Terminal(master)) => self.running.terminal = Some(master),
                Some(FromInit::Failed(error)) => return Err(self.running.reap_failed(error)),
                Some(FromInit::Ready | FromInit::Joined(_)) => {}
                // The descriptor was closed: by exec, or by the end of the process, whose status then tells how.
                None => return Ok(self.running),
            }
        }
    }

    /// Beyond this chapter: lets it go on from where it waits ([`crate::InitEnd::wait_to_proceed`]) and comes back at once. It may
    /// wait there more than once.
    ///
    /// # Errors
    /// [`Error::Init`] where it had failed by then; it is reaped then.
    pub fn release(&self) -> Result<(), Error> {
        match self.send(ToInit::Proceed) {
            Err(Error::Step(error)) if error.errno() == Some(nix::errno::Errno::EPIPE) => {}
            other => return other,
        }
        // It has ended before it came to listen: what it said is still to be read.
        loop {
            match self.receive()? {
                Some(FromInit::Failed(error)) => return Err(self.running.reap_failed(error)),
                Some(_) => {}
                None => return Err(Error::InitEnded(self.running.reap()?)),
            }
        }
    }

    /// Kills and reaps it.
    ///
    /// # Errors
    /// The step that failed.
    pub fn abort(self) -> Result<(), StepError> {
        self.kill()
    }

    /// Beyond this chapter: the same for whoever keeps it for its error.
    ///
    /// # Errors
    /// The step that failed.
    pub fn kill(&self) -> Result<(), StepError> {
        self.running.kill()?;
        match self.running.reap() {
            // Reaped already, with an error of its own.
            Err(error) if error.errno() == Some(nix::errno::Errno::ECHILD) => Ok(()),
            other => other.map(drop),
        }
    }

    pub(crate) fn send(&self, message: ToInit) -> Result<(), Error> {
        Ok(self
            .socket
            .send(message)
            .map_err(|errno| StepError::new("sendmsg", format_args!("{message:?}"), errno))?)
    }

    fn receive(&self) -> Result<Option<FromInit>, StepError> {
        let received = match self.socket.receive() {
            // It ended with a message of ours unread. The kernel tells that once and first; what it said before is still there.
            Err(nix::errno::Errno::ECONNRESET) => self.socket.receive(),
            other => other,
        };
        received.map_err(|errno| StepError::new("recvmsg", "", errno))
    }
}

/// A process that runs its command.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    /// The master side of the container's terminal, where it has one.
    pub terminal: Option<OwnedFd>,
}

impl Running {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd, terminal: None }
    }

    /// Its pid, as this process sees it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor that names the process also after its pid is given to another.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills it; with pid 1 all in its pid namespace end.
    ///
    /// # Errors
    /// The step that failed; not where it has ended already.
    pub fn kill(&self) -> Result<(), StepError> {
        step(
            "pidfd_send_signal",
            format_args!("{} SIGKILL", self.pid),
            "pid 1 takes all of its pid namespace with it",
        )
        .run(|| match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => other,
        })
    }

    /// Waits for its end and reaps it.
    ///
    /// # Errors
    /// The step that failed.
    pub fn wait(self) -> Result<ExitStatus, Error> {
        Ok(self.reap()?)
    }

    fn reap(&self) -> Result<ExitStatus, StepError> {
        let failed = |errno| StepError::new("waitid", self.pid, errno);
        let status = loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
                Ok(Some(status)) => break status,
                Ok(None) => return Err(failed(rustix::io::Errno::CHILD)),
            }
        };
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ok(ExitStatus::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
            (None, signal) => Ok(ExitStatus::Signaled(signal.unwrap_or_default())),
        }
    }

    /// The error, when the process that told it has ended.
    fn reap_failed(&self, error: StageError) -> Error {
        // Its own child may have failed to exec, in which case it waits for nothing else; killing it is as good.
        match self.kill().and_then(|()| self.reap()) {
            Ok(_) => error.into(),
            Err(step) => step.into(),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By exit(2), with this status.
    Exited(u8),
    /// By this signal.
    Signaled(i32),
}

impl ExitStatus {
    /// The status as shells and Docker give it: 128 and the signal's number for a process that was killed.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => {
                u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128))
            }
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}
