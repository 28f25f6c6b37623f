//! Start one more process in a running container.

use oci_spec::runtime::{Process, Spec};

use crate::{Error, Started, Stdio};

/// One more process for a container that runs.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The container's id, as it was given to [`crate::create()`].
    pub id: &'a str,
    /// The container's init process, as the host numbers it.
    pub pid: i32,
    /// The container's own configuration: its seccomp filter and its cgroup are the process's too.
    pub spec: &'a Spec,
    /// The process: what to run, as whom, with which capabilities.
    pub process: &'a Process,
    /// What it reads from and writes to.
    pub stdio: Stdio,
}

/// Starts it; comes back when the program runs (execve succeeded). It dies with the calling process.
///
/// # Errors
/// What it met on the way, with Docker's exit status.
pub fn exec(exec: Exec<'_>) -> Result<Started, Error> {
    let _ = exec;
    unimplemented!()
}
