//! `wait`: until a container has ended, and with which status.
//!
//! Its shim is asked: whoever watches ([`Frame::Watch`]) gets the status when all of the container is gone and written down,
//! also of one that removes itself. Where nobody answers, the shim is at its end or was killed, and `state.json` says which.

use std::time::{Duration, Instant};

use super::{Container, Status};
use crate::attach::{Frame, Inbox, send};
use crate::{Engine, Error};

/// Between two looks at a shim that does not answer any more: it is busy with its last few milliseconds.
const MOMENT: Duration = Duration::from_millis(2);

impl Engine {
    /// Waits for the end, at most for `limit`. Its exit status; none where the time ran out.
    ///
    /// # Errors
    /// Where the state cannot be read. A container that had removed itself (`--rm`) before it could be asked gives the status
    /// 0, for its own is not known any more, and one whose shim was killed gives 137.
    pub fn wait(&self, container: &Container, limit: Option<Duration>) -> Result<Option<i32>, Error> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let killed = 137;
        loop {
            let Some(now) = Container::read(&container.folder)? else { return Ok(Some(0)) };
            if now.state.status != Status::Running {
                return Ok(Some(now.state.exit_code.unwrap_or(0)));
            }
            if !now.state.shim.is_some_and(|shim| shim.is_alive()) {
                let now = self.repair(now)?;
                return Ok(Some(now.and_then(|now| now.state.exit_code).unwrap_or(killed)));
            }
            if let Some(code) = self.watch(&now.config.id, deadline) {
                return Ok(Some(code));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            std::thread::sleep(MOMENT);
        }
    }

    /// The exit status from the shim; none where it does not answer, or not in time.
    fn watch(&self, id: &str, deadline: Option<Instant>) -> Option<i32> {
        let socket = crate::shim::connect(&self.paths.run_of(id)).ok()?;
        send(&socket, &Frame::Watch).ok()?;
        let mut inbox = Inbox::default();
        loop {
            match inbox.take().ok()? {
                Some(Frame::Exited(code)) => return Some(code),
                Some(_) => continue,
                None => {}
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return None;
            }
            // At its end fill() returns as if nothing had come, and the time is looked at again.
            socket.set_read_timeout(left).ok()?;
            if !inbox.fill(&socket).ok()? {
                return None;
            }
        }
    }
}
