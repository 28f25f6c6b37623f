//! Stay in front of a container: its signals come here, and its status goes on.
//!
//! With a terminal of its own the container is attended as chapter 2 does it. Without, it is in a session of its own all the same,
//! so the signals of the user's terminal (Ctrl-C) come to this process alone, and are passed on like any other.
//!
//! See signalfd(2), poll(2), setsid(2).

use std::os::fd::AsFd;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::pidfd_send_signal;
use sampan_runtime::{Ended, Started};

/// Those that mean the container when they are sent to this process.
fn signals() -> SigSet {
    let list =
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];
    list.into_iter().collect()
}

/// From here on they wait for the container, which may tell somebody that it is ready before it is attended. The init process
/// begins with none blocked.
pub(crate) fn block() -> anyhow::Result<()> {
    Ok(signals().thread_block()?)
}

/// Waits for the container's end.
pub(crate) fn attend(started: &mut Started, terminal: bool) -> anyhow::Result<Ended> {
    if terminal {
        return Ok(started.attend()?);
    }
    let source = SignalFd::with_flags(&signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    loop {
        let mut polled = [
            PollFd::from_borrowed_fd(started.pidfd(), PollFlags::IN),
            PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if !polled[0].revents().is_empty() {
            return Ok(started.wait()?);
        }
        while let Ok(Some(signal)) = source.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            if let Some(signal) = rustix::process::Signal::from_named_raw(number) {
                // It may have ended in this moment.
                let _ = pidfd_send_signal(started.pidfd(), signal);
            }
        }
    }
}
