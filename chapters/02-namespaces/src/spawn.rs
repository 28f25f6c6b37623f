//! Make a process in new namespaces with clone3(2).

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::Pid;
use step::StepError;

use crate::{Error, IdMap, Kind, StageError};

/// What is special about the new process.
#[derive(Debug, Default)]
pub struct Config {
    /// The namespaces that it gets for itself. The cgroup namespace is not made here, but by [`crate::cgroup_namespace`] when
    /// the process is in its cgroup.
    pub new: Vec<Kind>,
    /// The namespaces of others that it enters.
    pub join: Vec<Join>,
    /// The lines of its `uid_map`, where `new` holds [`Kind::User`].
    pub uid_map: Vec<IdMap>,
    /// The lines of its `gid_map`.
    pub gid_map: Vec<IdMap>,
    /// Detached mounts ([`crate::new_root::detached`]) whose files are to be shown under the container's ids.
    pub mapped_mounts: Vec<OwnedFd>,
    /// A cgroup v2 directory in which the process is born.
    pub into_cgroup: Option<OwnedFd>,
    /// What the clocks of its time namespace are set ahead by.
    pub time_offsets: Vec<TimeOffset>,
    /// The process gets SIGKILL when the thread that calls [`spawn`] ends.
    pub die_with_parent: bool,
}

/// Namespaces of another process, to be entered.
#[derive(Debug)]
pub struct Join {
    /// Which.
    pub kinds: Vec<Kind>,
    /// A pidfd, or, for one kind, an open `/proc/PID/ns/*`.
    pub fd: OwnedFd,
}

/// An offset of a clock in a time namespace. See time_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOffset {
    /// `"monotonic"` or `"boottime"`.
    pub clock: &'static str,
    /// Seconds, also negative ones.
    pub seconds: i64,
    /// Nanoseconds, below 1_000_000_000.
    pub nanoseconds: u32,
}

/// Makes the process and runs `init` in it. `init` begins at once (when the id maps are written, if there are any); where it
/// needs something from outside it calls [`InitEnd::wait_to_proceed`]. It ends with an exec, or with an error that comes back
/// through [`Created::proceed`].
///
/// # Errors
/// The step that failed on this side; no process is left then.
pub fn spawn(
    config: &Config,
    init: impl FnOnce(&mut InitEnd) -> Result<Infallible, StageError>,
) -> Result<Created, Error> {
    let _ = (config, init);
    unimplemented!()
}

/// The init process's end of the conversation.
#[derive(Debug)]
pub struct InitEnd {
    _socket: OwnedFd,
}

impl InitEnd {
    /// Waits until the runtime process calls [`Created::proceed`]. Exits where it is gone.
    ///
    /// # Errors
    /// The step that failed.
    pub fn wait_to_proceed(&mut self) -> Result<(), StageError> {
        unimplemented!()
    }

    /// Tells that all is set up: [`Created::wait_ready`] returns.
    ///
    /// # Errors
    /// The step that failed.
    pub fn ready(&mut self) -> Result<(), StageError> {
        unimplemented!()
    }

    /// Makes a terminal in the container's devpts, sends the master side to the runtime process ([`Running::terminal`]) and
    /// returns the other side, for [`crate::terminal::control`].
    ///
    /// # Errors
    /// The step that failed.
    pub fn open_terminal(&mut self) -> Result<OwnedFd, StageError> {
        unimplemented!()
    }
}

/// A process that stands before its exec.
#[derive(Debug)]
pub struct Created {
    running: Running,
}

impl Created {
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

    /// Waits until the process has called [`InitEnd::ready`].
    ///
    /// # Errors
    /// [`Error::Init`] where it failed.
    pub fn wait_ready(&mut self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Lets it run its command, and returns when it does.
    ///
    /// # Errors
    /// [`Error::Init`] where it failed; it is reaped then.
    pub fn proceed(self) -> Result<Running, Error> {
        unimplemented!()
    }

    /// Kills and reaps it.
    ///
    /// # Errors
    /// The step that failed.
    pub fn abort(self) -> Result<(), StepError> {
        unimplemented!()
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
    /// Its pid, as this process sees it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor that names the process also after its pid is given to another.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for its end and reaps it.
    ///
    /// # Errors
    /// The step that failed.
    pub fn wait(self) -> Result<ExitStatus, Error> {
        unimplemented!()
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
