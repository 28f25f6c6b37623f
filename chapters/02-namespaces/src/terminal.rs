//! A terminal of the container's own.

use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::Winsize;
use step::StepError;

/// Both sides of a new terminal.
#[derive(Debug)]
pub struct Pair {
    /// The side that is outside: what is written here is what a key gives.
    pub master: OwnedFd,
    /// The side that is the program's terminal.
    pub slave: OwnedFd,
}

impl Pair {
    /// Makes a terminal in the devpts that is mounted at `/dev/pts`.
    ///
    /// # Errors
    /// The step that failed.
    pub fn open() -> Result<Self, StepError> {
        unimplemented!()
    }
}

/// Makes `slave` the controlling terminal of a new session, and the standard descriptors of this process.
///
/// # Errors
/// The step that failed.
pub fn control(slave: OwnedFd) -> Result<(), StepError> {
    let _ = slave;
    unimplemented!()
}

/// Sets the size of the window; the kernel sends SIGWINCH to whoever is in the foreground there.
///
/// # Errors
/// The step that failed.
pub fn resize(terminal: impl AsFd, size: Winsize) -> Result<(), StepError> {
    let _ = (terminal, size);
    unimplemented!()
}
