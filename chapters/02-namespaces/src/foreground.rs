//! Stand before a container: pass on signals and keys, and hand back its status.
//!
//! The shell that started the runtime process knows it alone: it gets the signals, it has the terminal, its exit status is
//! looked at. So it waits for four things at once: the end of the container (its pidfd becomes readable), a signal (a signalfd), a key,
//! and output. There is no thread and no handler, so nothing runs at an unexpected moment.
//!
//! Without a terminal of its own the container has the runtime process's standard descriptors, and nothing is copied.
//!
//! See poll(2), signalfd(2), pidfd_open(2), pty(7).

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::pidfd_send_signal;
use step::StepError;

use crate::terminal::{self, RawMode};
use crate::{Created, Error, ExitStatus, Running};

/// Those that mean the container when they are sent to the runtime process.
const FORWARDED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Lets the container run its command, and waits for its end. Until then each signal that reaches this process goes to the init
/// process; where the container has a terminal, standard input and output are joined to it.
///
/// # Errors
/// As [`Created::proceed`] and [`attend`].
// ANCHOR: attend
pub fn run(created: Created) -> Result<ExitStatus, Error> {
    // Before the command runs: a signal in between would end this process, and the container with it.
    let signals = signals()?;
    stand(created.proceed()?, &signals)
}

fn stand(mut running: Running, signals: &SignalFd) -> Result<ExitStatus, Error> {
    let master = running.terminal.take();
    let raw = if master.is_some() { RawMode::enter()? } else { None };
    let mut relay =
        master.map(Relay::new).transpose().map_err(|error| StepError::new("fcntl", "O_NONBLOCK", error))?;
    loop {
        let ready = wait(&running, signals, relay.as_ref())?;
        while let Ok(Some(signal)) = signals.read_signal() {
            pass_on(&running, relay.as_ref(), &signal);
        }
        if let Some(relay) = &mut relay {
            relay
                .turn(ready.keys, ready.output)
                .map_err(|error| StepError::new("write", "terminal", error))?;
        }
        if ready.ended {
            break;
        }
    }
    if let Some(relay) = &mut relay {
        // What the last process wrote is still in the terminal.
        relay.turn(false, true).map_err(|error| StepError::new("write", "terminal", error))?;
    }
    drop(raw);
    running.wait()
}
// ANCHOR_END: attend

/// What [`run`] does, for a container that runs its command already.
///
/// # Errors
/// The step that failed; the user's terminal is as it was before, also then.
pub fn attend(running: Running) -> Result<ExitStatus, Error> {
    stand(running, &signals()?)
}

fn signals() -> Result<SignalFd, StepError> {
    let set: SigSet = FORWARDED.into_iter().collect();
    set.thread_block().map_err(|errno| StepError::new("sigprocmask", "SIG_BLOCK", errno))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&set, flags).map_err(|errno| StepError::new("signalfd", "", errno))
}

fn pass_on(running: &Running, relay: Option<&Relay>, signal: &nix::sys::signalfd::siginfo) {
    let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
    match relay {
        Some(relay) if number == Signal::SIGWINCH as i32 => {
            if let Some(size) = terminal::size() {
                // A window that cannot be resized is no reason to end the container.
                let _ = terminal::resize(&relay.master, size);
            }
        }
        // Ctrl-C, or a resize, in the terminal that the container shares with this process: the kernel has told all there.
        None if signal.ssi_code == libc::SI_KERNEL => {}
        _ => {
            if let Some(signal) = rustix::process::Signal::from_named_raw(number) {
                // It may have ended in this moment.
                let _ = pidfd_send_signal(running.pidfd(), signal);
            }
        }
    }
}

/// What there is to do.
struct Ready {
    ended: bool,
    keys: bool,
    output: bool,
}

fn wait(running: &Running, signals: &SignalFd, relay: Option<&Relay>) -> Result<Ready, StepError> {
    let stdin = io::stdin();
    let mut polled = vec![
        PollFd::from_borrowed_fd(running.pidfd(), PollFlags::IN),
        PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
    ];
    if let Some(relay) = relay {
        let mut master = PollFlags::empty();
        master.set(PollFlags::IN, relay.is_open);
        master.set(PollFlags::OUT, !relay.typed.is_empty());
        // Once all slave sides are closed the master is "hung up" all the time, and poll would return at once.
        polled.push(PollFd::from_borrowed_fd(
            if relay.is_open { relay.master.as_fd() } else { signals.as_fd() },
            master,
        ));
        if relay.wants_keys() {
            polled.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
    }
    match poll(&mut polled, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(StepError::new("poll", "", errno)),
    }
    let is_ready = |place: usize| polled.get(place).is_some_and(|polled| !polled.revents().is_empty());
    Ok(Ready { ended: is_ready(0), output: is_ready(2), keys: is_ready(3) })
}

/// Keys on their way in, output on its way out.
struct Relay {
    master: OwnedFd,
    /// What was typed and is not yet taken: nobody inside may be reading.
    typed: Vec<u8>,
    /// Standard input has not ended.
    has_input: bool,
    /// What came last was no end of a line.
    in_line: bool,
    /// Somebody inside has the terminal open.
    is_open: bool,
}

/// More is not taken from standard input until somebody inside reads.
const ENOUGH: usize = 4096;
/// Ctrl-D: how a terminal says that input has ended.
const END_OF_INPUT: u8 = 4;

impl Relay {
    fn new(master: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        Ok(Self { master, typed: Vec::new(), has_input: true, in_line: false, is_open: true })
    }

    fn wants_keys(&self) -> bool {
        self.has_input && self.is_open && self.typed.len() < ENOUGH
    }

    fn turn(&mut self, keys: bool, output: bool) -> io::Result<()> {
        if keys && self.wants_keys() {
            let mut piece = [0; ENOUGH];
            // Not by std, which reads ahead: poll would not tell of what lies in its buffer.
            match rustix::io::read(rustix::stdio::stdin(), &mut piece)? {
                0 => {
                    self.has_input = false;
                    // The first one only ends a line that was begun.
                    self.typed.extend(if self.in_line { &[END_OF_INPUT; 2][..] } else { &[END_OF_INPUT] });
                }
                length => {
                    self.typed.extend(&piece[..length]);
                    self.in_line = piece[length - 1] != b'\n';
                }
            }
        }
        if output {
            self.copy_out()?;
        }
        while !self.typed.is_empty() {
            match rustix::io::write(&self.master, &self.typed) {
                Ok(written) => drop(self.typed.drain(..written)),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => self.typed.clear(),
            }
        }
        Ok(())
    }

    /// All that is there to be read.
    fn copy_out(&mut self) -> io::Result<()> {
        let mut piece = [0; 1 << 14];
        let mut out = io::stdout().lock();
        loop {
            match read(self.master.as_fd(), &mut piece) {
                Ok(0) | Err(Errno::EIO) => {
                    self.is_open = false;
                    return Ok(());
                }
                Ok(length) => {
                    out.write_all(&piece[..length])?;
                    out.flush()?;
                }
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn read(from: BorrowedFd<'_>, piece: &mut [u8]) -> Result<usize, Errno> {
    nix::unistd::read(from, piece)
}
