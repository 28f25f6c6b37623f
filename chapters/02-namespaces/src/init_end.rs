//! The init process's end of the conversation, and its first steps.
//!
//! Order: time namespace with its offsets -> wait for the id maps -> become root inside -> ask to be killed with the runtime
//! process -> signals as a program expects them.
//!
//! What the kernel requires: 1. the id 0 inside is taken by setresuid(2): until then the process is nobody there; 2. the
//! request of `PR_SET_PDEATHSIG` is forgotten when the user id changes, so it comes after 1, and the parent may have died
//! before it: the end of file on the socket tells.
//!
//! See user_namespaces(7), time_namespaces(7), prctl(2).

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sched::{setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::process::{DumpableBehavior, Gid, Signal, Uid};
use rustix::termios::Winsize;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use step::{StepError, step};

use crate::protocol::{FromInit, InitSocket, ToInit};
use crate::syscalls::default_signals;
use crate::terminal::Pair;
use crate::{Config, Kind, StageError};

/// The init process's end of the conversation.
#[derive(Debug)]
pub struct InitEnd {
    socket: InitSocket,
    /// Whether the runtime process is root: then it may look into this process also where others may not.
    host_is_root: bool,
}

impl InitEnd {
    pub(crate) fn new(socket: InitSocket, host_is_root: bool) -> Self {
        Self { socket, host_is_root }
    }

    pub(crate) fn host_is_root(&self) -> bool {
        self.host_is_root
    }

    /// What comes before the caller's part.
    pub(crate) fn begin(&mut self, config: &Config) -> Result<(), StageError> {
        let users = config.new.contains(&Kind::User);
        if config.new.contains(&Kind::Time) && !config.time_offsets.is_empty() {
            set_clocks(config).map_err(StageError::at("time"))?;
        }
        if users {
            self.expect(ToInit::IdsMapped)?;
        }
        if config.same_work {
            // The user's own id is the one that the map calls 0.
            return if config.die_with_parent { self.die_with_parent() } else { Ok(()) };
        }
        if users || config.join.iter().any(|join| join.kinds.contains(&Kind::User)) {
            become_root().map_err(StageError::at("users"))?;
        }
        if config.die_with_parent {
            self.die_with_parent()?;
        }
        if !config.join.is_empty() && !hides_before(config) {
            hide()?;
        }
        default_signals().map_err(|errno| StepError::new("signal", "SIG_DFL", errno))?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .map_err(|errno| StepError::new("sigprocmask", "SIG_SETMASK", errno))?;
        Ok(())
    }

    /// Requirement 2.
    fn die_with_parent(&self) -> Result<(), StageError> {
        step(
            "prctl",
            format_args!("PR_SET_PDEATHSIG SIGKILL"),
            "where the runtime process is killed, this process and its pid namespace go with it",
        )
        .run(|| rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
        if self.socket.is_alive() { Ok(()) } else { Err(gone()) }
    }

    /// Waits until the runtime process calls [`crate::Created::proceed`].
    ///
    /// # Errors
    /// The step that failed, also where the runtime process is gone.
    pub fn wait_to_proceed(&mut self) -> Result<(), StageError> {
        self.expect(ToInit::Proceed)
    }

    fn expect(&mut self, message: ToInit) -> Result<(), StageError> {
        match self.socket.receive() {
            Ok(Some(said)) if said == message => Ok(()),
            Ok(Some(_)) => Err(StepError::new("recv", format_args!("{message:?}"), Errno::EPROTO).into()),
            Ok(None) => Err(gone()),
            Err(errno) => Err(StepError::new("recv", format_args!("{message:?}"), errno).into()),
        }
    }

    /// Tells that all is set up: [`crate::Created::wait_ready`] returns.
    ///
    /// # Errors
    /// The step that failed.
    pub fn ready(&mut self) -> Result<(), StageError> {
        self.send(&FromInit::Ready)
    }

    /// Makes a terminal in the devpts that is mounted at `/dev/pts`, sends the master side to the runtime process, which finds
    /// it in [`crate::Running::terminal`], and returns the other side, for [`crate::terminal::control`].
    ///
    /// # Errors
    /// The step that failed.
    pub fn open_terminal(&mut self, size: Option<Winsize>) -> Result<OwnedFd, StageError> {
        let Pair { master, slave } = Pair::open()?;
        if let Some(size) = size {
            crate::terminal::resize(&master, size)?;
        }
        self.send(&FromInit::Terminal(master))?;
        Ok(slave)
    }

    /// Tells the error and returns the status to exit with.
    pub(crate) fn fail(&self, error: StageError) -> u8 {
        let status = error.exit_code();
        // Where nobody hears it the status must do.
        let _ = self.socket.send(&FromInit::Failed(error));
        status
    }

    fn send(&self, message: &FromInit) -> Result<(), StageError> {
        Ok(self.socket.send(message).map_err(|errno| StepError::new("sendmsg", "", errno))?)
    }
}

fn gone() -> StageError {
    StepError::new("recv", "the runtime process is gone", Errno::ECONNRESET).into()
}

/// Whether a process that joins hides before it is where others could look into it, and its child is hidden from birth on. A time
/// namespace's offsets can be written only by who is not hidden.
pub(crate) fn hides_before(config: &Config) -> bool {
    config.time_offsets.is_empty()
}

/// Takes this process out of the reach of those inside.
pub(crate) fn hide() -> Result<(), StepError> {
    step(
        "prctl",
        format_args!("PR_SET_DUMPABLE 0"),
        "until the exec this is the host's program: those inside may not look into it by /proc",
    )
    .run(|| rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))
}

/// Requirement 1. Where groups may not be dropped (`setgroups` is denied to a map that an ordinary user wrote), the ones that
/// are left are nobody's inside.
// ANCHOR: become_root
fn become_root() -> Result<(), StepError> {
    match set_thread_groups(&[]) {
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(StepError::new("setgroups", "0", errno)),
    }
    let (user, group) = (Uid::ROOT, Gid::ROOT);
    step("setresgid", format_args!("0 0 0"), "the group that the map calls 0")
        .run(|| set_thread_res_gid(group, group, group))?;
    step(
        "setresuid",
        format_args!("0 0 0"),
        "until now this process was nobody inside: become the id that the map calls 0",
    )
    .run(|| set_thread_res_uid(user, user, user))
}
// ANCHOR_END: become_root

fn set_clocks(config: &Config) -> Result<(), StepError> {
    step(
        "unshare",
        format_args!("CLONE_NEWTIME"),
        "clone3 would put this process into it at once, and the clocks could not be set any more",
    )
    .run(|| unshare(Kind::Time.flag()))?;
    let lines = config.time_offsets.iter();
    let lines: String =
        lines.map(|offset| format!("{} {} {}\n", offset.clock, offset.seconds, offset.nanoseconds)).collect();
    step("write", format_args!("/proc/self/timens_offsets {lines:?}"), "what the clocks are set ahead by")
        .run(|| std::fs::write("/proc/self/timens_offsets", &lines))?;
    let made = File::open("/proc/self/ns/time_for_children")
        .map_err(|error| StepError::new("open", "/proc/self/ns/time_for_children", error))?;
    step(
        "setns",
        format_args!("CLONE_NEWTIME"),
        "made for children: before Linux 6.3 exec would not bring this process in",
    )
    .run(|| setns(&made, Kind::Time.flag()))
}
