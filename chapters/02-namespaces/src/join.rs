//! Enter the namespaces of a running process with setns(2).
//!
//! What the kernel requires: 1. capabilities over each namespace, in the user namespace that it belongs to: so the user namespace is
//! entered first, or all at once; 2. one's own user namespace cannot be entered again (EINVAL); 3. with a pidfd one call
//! enters several at once or none (Linux 5.8): nobody is ever seen half inside; 4. a pid namespace is entered by one's children.
//!
//! See setns(2), pidfd_open(2), nsenter(1).

use std::convert::Infallible;

use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use step::StepError;

use crate::table::{Table, inode};
use crate::{Config, Created, Error, InitEnd, Join, Kind, StageError};

impl Join {
    /// All namespaces in which process `pid` is and this process is not.
    ///
    /// # Errors
    /// [`Error::NoProcess`], [`Error::NotContained`], or the step that failed.
    pub fn process(pid: Pid) -> Result<Self, Error> {
        let id = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Error::NoProcess(pid.as_raw()))?;
        let fd = match pidfd_open(id, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => {
                return Err(Error::NoProcess(pid.as_raw()));
            }
            Err(errno) => return Err(StepError::new("pidfd_open", pid, errno).into()),
        };
        inode(&pid.to_string(), Kind::Pid)
            .map_err(|error| StepError::new("readlink", format_args!("/proc/{pid}/ns/pid"), error))?;
        let kinds: Vec<_> =
            Table::beside(pid).rows.into_iter().filter(|row| row.1 != row.2).map(|row| row.0).collect();
        if kinds.is_empty() { Err(Error::NotContained(pid.as_raw())) } else { Ok(Self { kinds, fd }) }
    }
}

/// Makes a process in the namespaces of process `pid` and runs `init` in it, as [`crate::spawn()`] does. `config` says what else
/// is special about it.
///
/// # Errors
/// As for [`Join::process`] and [`crate::spawn()`].
// ANCHOR: join
pub fn join(
    pid: Pid,
    mut config: Config,
    init: impl FnOnce(&mut InitEnd) -> Result<Infallible, StageError>,
) -> Result<Created, Error> {
    config.join.push(Join::process(pid)?);
    crate::spawn(&config, init)
}
// ANCHOR_END: join
