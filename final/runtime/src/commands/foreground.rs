//! Stay in front of a container: its signals come here, and its status goes on.
//!
//! With a terminal of its own the container is attended as chapter 2 does it. Without, it is in a session of its own all the same,
//! so the signals of the user's terminal (Ctrl-C) come to this process alone, and are passed on like any other.
//!
//! See signalfd(2), poll(2), setsid(2).

use std::os::fd::AsFd;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sampan_runtime::{Ended, Started, idle};

use super::kill::deliver;

/// Those that mean the container when they are sent to this process, as for runc also the real-time ones, which have no names; not
/// those that are about this process itself, nor those by which a shell stops and continues its jobs.
fn signals(terminal: bool) -> SigSet {
    if terminal {
        // Chapter 2 attends the container then, and these are its own.
        let list = [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
        ];
        return list.into_iter().collect();
    }
    let mut set = SigSet::all();
    let own = [
        Signal::SIGCHLD,
        Signal::SIGURG,
        Signal::SIGWINCH,
        Signal::SIGPIPE,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGTRAP,
        Signal::SIGSYS,
    ];
    own.into_iter().for_each(|signal| set.remove(signal));
    set
}

/// From here on they wait for the container, which may tell somebody that it is ready before it is attended. The init process
/// begins with none blocked.
pub(crate) fn block(terminal: bool) -> anyhow::Result<()> {
    Ok(signals(terminal).thread_block()?)
}

/// Waits for the container's end.
pub(crate) fn attend(started: &mut Started, terminal: bool) -> anyhow::Result<Ended> {
    if terminal {
        return Ok(started.attend()?);
    }
    let source = SignalFd::with_flags(&signals(false), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut timeout = Some(Timespec::try_from(idle::MOMENT)?);
    loop {
        let mut polled = [
            PollFd::from_borrowed_fd(started.pidfd(), PollFlags::IN),
            PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN),
        ];
        match poll(&mut polled, timeout.as_ref()) {
            Ok(0) => {
                idle::give_back();
                timeout = None;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if !polled[0].revents().is_empty() {
            return Ok(started.wait()?);
        }
        while let Ok(Some(signal)) = source.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            // It may have ended in this moment.
            let _ = deliver(started.pidfd(), started.pid(), number);
        }
    }
}
