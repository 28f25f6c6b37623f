//! Who a process is: a number that the kernel gives out again, and the instant at which it was started.
//!
//! See proc_pid_stat(5), field 22; pidfd_open(2).

use std::fs;

use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use step::step;

use crate::Error;

/// A process, so that a later one of the same number is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id on the host.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub start_time: u64,
}

impl Identity {
    /// The process `pid`; none where there is none.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything, also brackets and blanks: the fields are counted from its end.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let start_time = fields.get(19)?.parse().ok()?;
        (fields.first() != Some(&"Z")).then_some(Self { pid, start_time })
    }

    /// This process.
    pub fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// A descriptor that stands for this process and no later one; none where it has ended.
    pub fn pidfd(&self) -> Option<std::os::fd::OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Asked after the descriptor is held: it cannot change its process any more.
        self.is_alive().then_some(fd)
    }

    /// Sends it a signal; whether it was there to get it.
    ///
    /// # Errors
    /// The step, where the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<bool, Error> {
        let Some(fd) = self.pidfd() else { return Ok(false) };
        let Some(number) = rustix::process::Signal::from_named_raw(signal as i32) else { return Ok(false) };
        step(
            "pidfd_send_signal",
            format_args!("{} {signal}", self.pid),
            "by descriptor: the number may be another's by now",
        )
        .run(|| pidfd_send_signal(&fd, number))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_not_another_of_its_number() {
        let own = Identity::own().unwrap();
        assert!(own.is_alive() && own.pidfd().is_some());
        let earlier = Identity { start_time: own.start_time - 1, ..own };
        assert!(!earlier.is_alive() && earlier.pidfd().is_none());
    }
}
