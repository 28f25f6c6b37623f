//! Enter the namespaces of a running process with setns(2).
//!
//! What the kernel requires: 1. capabilities over each namespace, in the user namespace that it belongs to: so the user namespace is
//! entered first, or all at once; 2. one's own user namespace cannot be entered again (EINVAL); 3. with a pidfd one call
//! enters several at once or none (Linux 5.8): nobody is ever seen half inside, and a number that is another's by now leads nowhere; 4. a pid namespace is entered by one's children.
//!
//! See setns(2), pidfd_open(2), nsenter(1).

use std::convert::Infallible;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use step::StepError;

use crate::table::{Table, inode};
use crate::{Config, Created, Error, InitEnd, Join, Kind, StageError};

/// Opens process `pid`: from here on it is this process that is meant, and no later one of its number.
///
/// # Errors
/// [`Error::NoProcess`], or the step that failed.
pub fn pidfd(pid: Pid) -> Result<OwnedFd, Error> {
    let id = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Error::NoProcess(pid.as_raw()))?;
    match pidfd_open(id, PidfdFlags::empty()) {
        Ok(fd) => Ok(fd),
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Err(Error::NoProcess(pid.as_raw())),
        Err(errno) => Err(StepError::new("pidfd_open", pid, errno).into()),
    }
}

/// The number by which this process's `/proc` knows the process of a pidfd.
///
/// # Errors
/// The step that failed; ESRCH where the process is gone.
pub fn number(pidfd: BorrowedFd<'_>) -> Result<Pid, StepError> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = fs::read_to_string(&path).map_err(|error| StepError::new("read", &path, error))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    // -1 where it has ended and was waited for.
    let number = number.filter(|number| *number > 0);
    number.map(Pid::from_raw).ok_or_else(|| StepError::new("read", &path, Errno::ESRCH))
}

impl Join {
    /// All namespaces in which the process of this pidfd is and this process is not.
    ///
    /// # Errors
    /// [`Error::NoProcess`], [`Error::NotContained`], or the step that failed.
    pub fn process(fd: OwnedFd) -> Result<Self, Error> {
        let pid = number(fd.as_fd())?;
        inode(&pid.to_string(), Kind::Pid)
            .map_err(|error| StepError::new("readlink", format_args!("/proc/{pid}/ns/pid"), error))?;
        let kinds: Vec<_> =
            Table::beside(pid).rows.into_iter().filter(|row| row.1 != row.2).map(|row| row.0).collect();
        // As long as it has its number, what was looked up by that was its own.
        if number(fd.as_fd()).is_err() {
            return Err(Error::NoProcess(pid.as_raw()));
        }
        if kinds.is_empty() { Err(Error::NotContained(pid.as_raw())) } else { Ok(Self { kinds, fd }) }
    }
}

/// Makes a process in the namespaces of the process that `pidfd` stands for and runs `init` in it, as [`crate::spawn()`] does.
/// `config` says what else is special about it.
///
/// # Errors
/// As for [`Join::process`] and [`crate::spawn()`].
// ANCHOR: join
pub fn join(
    pidfd: OwnedFd,
    mut config: Config,
    init: impl FnOnce(&mut InitEnd) -> Result<Infallible, StageError>,
) -> Result<Created, Error> {
    config.join.push(Join::process(pidfd)?);
    crate::spawn(&config, init)
}
// ANCHOR_END: join

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pidfd_knows_its_number_until_the_process_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let fd = pidfd(pid).unwrap();
        assert_eq!(number(fd.as_fd()).unwrap(), pid);
        child.kill().unwrap();
        child.wait().unwrap();
        // Its number may be another's now: it is not looked up.
        let error = Join::process(fd).unwrap_err();
        assert!(matches!(&error, Error::Step(step) if step.errno() == Some(Errno::ESRCH)), "{error}");
        assert!(matches!(pidfd(Pid::from_raw(0)), Err(Error::NoProcess(0))));
    }
}
