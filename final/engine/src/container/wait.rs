//! `wait`: until a container has ended, and with which status.
//!
//! A shim ends when all of its container is gone and written down, so waiting for the container is waiting for the shim's
//! process descriptor; no polling. See pidfd_open(2).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Container, Status};
use crate::{Engine, Error};

impl Engine {
    /// Waits for the end, at most for `limit`. Its exit status; none where the time ran out.
    ///
    /// # Errors
    /// Where the state cannot be read. A container that removed itself at its end (`--rm`) gives the status 0, for it is not
    /// known any more.
    pub fn wait(&self, container: &Container, limit: Option<Duration>) -> Result<Option<i32>, Error> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            let Some(now) = Container::read(&container.folder)? else { return Ok(Some(0)) };
            let shim =
                now.state.shim.filter(|_| now.state.status == Status::Running).and_then(|shim| shim.pidfd());
            let Some(shim) = shim else {
                let now = self.repair(now)?;
                return Ok(Some(now.state.exit_code.unwrap_or(0)));
            };
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let timeout = match left {
                None => PollTimeout::NONE,
                // A millisecond more, so that the last one does not spin.
                Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
            };
            match poll(&mut [PollFd::new(shim.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(step::StepError::new("poll", "the shim", errno).into()),
            }
        }
    }
}
