//! Enter the namespaces of a running process with setns(2).

use std::convert::Infallible;

use nix::unistd::Pid;

use crate::{Config, Created, Error, InitEnd, Join, StageError};

impl Join {
    /// All namespaces in which process `pid` is and this process is not.
    ///
    /// # Errors
    /// [`Error::NoProcess`], or the step that failed.
    pub fn process(pid: Pid) -> Result<Self, Error> {
        let _ = pid;
        unimplemented!()
    }
}

/// Makes a process in the namespaces of process `pid` and runs `init` in it, as [`crate::spawn`] does. `config` says what else
/// is special about it.
///
/// # Errors
/// As for [`Join::process`] and [`crate::spawn`].
pub fn join(
    pid: Pid,
    mut config: Config,
    init: impl FnOnce(&mut InitEnd) -> Result<Infallible, StageError>,
) -> Result<Created, Error> {
    config.join.push(Join::process(pid)?);
    crate::spawn(&config, init)
}
