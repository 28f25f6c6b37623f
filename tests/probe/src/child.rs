//! Whatever may be killed, or would change this process, is done in a child, so that the parent can tell of it.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Runs `work` in a child and waits for its end; the child's exit status is what `work` returns.
pub(crate) fn in_child(work: impl FnOnce() -> i32) -> nix::Result<WaitStatus> {
    let pid = start(work)?;
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            outcome => return outcome,
        }
    }
}

/// Starts a child that dies with this process.
pub(crate) fn start(work: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: the probe never starts a thread, so the child finds no lock held by a thread that it does not have.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let _ = set_pdeathsig(Signal::SIGKILL);
            std::process::exit(work())
        }
    }
}
