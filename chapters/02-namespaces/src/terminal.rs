//! A terminal of the container's own.
//!
//! A pseudoterminal is a pipe with a keyboard at one end. What is written to the *master* side arrives at the *slave* side as if it
//! had been typed: echoed, edited by lines, Ctrl-C made a SIGINT for the processes in the foreground. The slave side is made in
//! the container's devpts, so that `/dev/pts/0` is its name inside; the master side goes to the runtime process, which joins it
//! to the user's own terminal ([`crate::foreground`]). That one is put into raw mode meanwhile: a key must get its meaning once.
//!
//! What the kernel requires for job control: 1. the command leads a session of its own; 2. the slave side is the controlling
//! terminal of that session; 3. the session has no other.
//!
//! See pty(7), termios(3), tty_ioctl(4), setsid(2), credentials(7).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use step::{StepError, step};

/// Both sides of a new terminal.
#[derive(Debug)]
pub struct Pair {
    /// The side that is outside: what is written here is what a key gives.
    pub master: OwnedFd,
    /// The side that is the program's terminal.
    pub slave: OwnedFd,
}

// ANCHOR: pair
impl Pair {
    /// Makes a terminal in the devpts that is mounted at `/dev/pts`.
    ///
    /// # Errors
    /// The step that failed.
    pub fn open() -> Result<Self, StepError> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = step("open", format_args!("/dev/ptmx"), "a new terminal, in the container's own devpts")
            .run(|| openpt(flags))?;
        let slave = step(
            "ioctl",
            format_args!("TIOCGPTPEER"),
            "the other side, from the descriptor itself: a path could lead to another",
        )
        .run(|| unlockpt(&master).and_then(|()| ioctl_tiocgptpeer(&master, flags)))?;
        Ok(Self { master, slave })
    }
}
// ANCHOR_END: pair

/// Makes `slave` the controlling terminal of a new session, and the standard descriptors of this process.
///
/// # Errors
/// The step that failed.
// ANCHOR: control
pub fn control(slave: OwnedFd) -> Result<(), StepError> {
    step("setsid", format_args!(""), "a session of its own: the user's terminal is no longer this process's")
        .run(setsid)?;
    step("ioctl", format_args!("TIOCSCTTY"), "Ctrl-C in this terminal now reaches this session")
        .run(|| ioctl_tiocsctty(&slave))?;
    step("dup2", format_args!("0 1 2"), "standard input, output and error are the terminal").run(|| {
        rustix::stdio::dup2_stdin(&slave)?;
        rustix::stdio::dup2_stdout(&slave)?;
        rustix::stdio::dup2_stderr(&slave)
    })?;
    drop(slave);
    Ok(())
}
// ANCHOR_END: control

/// Sets the size of the window; the kernel sends SIGWINCH to whoever is in the foreground there.
///
/// # Errors
/// The step that failed.
pub fn resize(terminal: impl AsFd, size: Winsize) -> Result<(), StepError> {
    step(
        "ioctl",
        format_args!("TIOCSWINSZ {} {}", size.ws_row, size.ws_col),
        "programs inside draw for the size of the user's window",
    )
    .run(|| tcsetwinsize(&terminal, size))
}

/// The size of the terminal on standard input or output, if one is.
pub fn size() -> Option<Winsize> {
    tcgetwinsize(io::stdin())
        .or_else(|_| tcgetwinsize(io::stdout()))
        .ok()
        .filter(|size| size.ws_row != 0 || size.ws_col != 0)
}

/// The user's terminal in raw mode: no echo, no lines, no signals. It is as it was before when this is dropped.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Puts the terminal on standard input into raw mode; none where it is no terminal.
    ///
    /// # Errors
    /// The step that failed.
    pub fn enter() -> Result<Option<Self>, StepError> {
        let stdin = io::stdin();
        if !isatty(&stdin) {
            return Ok(None);
        }
        let before = tcgetattr(&stdin).map_err(|errno| StepError::new("tcgetattr", "0", errno))?;
        let mut raw = before.clone();
        raw.make_raw();
        step(
            "tcsetattr",
            format_args!("0 raw"),
            "each key goes inside as it is, and gets its meaning from the terminal there",
        )
        .run(|| tcsetattr(&stdin, OptionalActions::Now, &raw))?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Where the terminal has gone away there is none to set right. Drained first: output that was written raw ends raw.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}
