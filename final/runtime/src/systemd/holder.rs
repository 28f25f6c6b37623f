//! A process that does nothing: a scope is made around it, and it holds the scope until the container is in.

use std::io;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, pause};
use step::{StepError, step};

/// The process; it is killed when this is dropped, and by the kernel when this process ends.
#[derive(Debug)]
pub(crate) struct Holder(Pid);

impl Holder {
    #[allow(unsafe_code)]
    pub(super) fn new() -> Result<Self, StepError> {
        let parent = getpid();
        // SAFETY: this process has one thread, as `create` asks of its caller, so that no lock can be held by another one that is
        // not in the child; and the child makes system calls only, allocates nothing and never returns.
        let forked = step(
            "fork",
            format_args!(""),
            "systemd makes a scope around a process, and this one only waits in it",
        )
        .run(|| unsafe { fork() })?;
        match forked {
            ForkResult::Parent { child } => Ok(Self(child)),
            ForkResult::Child => {
                let _ = prctl::set_pdeathsig(Signal::SIGKILL);
                // Who died before that was heard of by nobody.
                while getppid() == parent {
                    pause();
                }
                exit_now()
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.as_raw().unsigned_abs()
    }
}

/// Without what exit(3) would do once more: the buffers are the parent's.
#[allow(unsafe_code)]
fn exit_now() -> ! {
    // SAFETY: _exit(2) comes not back, and touches no memory.
    unsafe { libc::_exit(0) }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Nothing can go wrong: it is a child of ours that has not been waited for.
        let _ = step("kill", format_args!("{} SIGKILL", self.0), "the container holds the scope itself now")
            .run(|| {
                kill(self.0, Signal::SIGKILL).and_then(|()| waitpid(self.0, None)).map_err(io::Error::from)
            });
    }
}
