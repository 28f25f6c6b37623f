//! `start`: hand a container to a shim of its own.
//!
//! The shim is this same program, executed anew: whoever starts containers, a command that ends soon or a server with many
//! threads, never clones itself into one. Its standard input is the socket of its first client, so that no descriptor has to
//! be smuggled past exec; the answer, `Started` or `Failed`, comes back on it. See [`crate::attach`].

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use step::step;

use super::{Container, Status};
use crate::attach::{Frame, Inbox};
use crate::{Engine, Error};

/// A client's end of a container: the socket, and what has arrived on it already.
#[derive(Debug)]
pub struct Attached {
    /// The socket to the shim.
    pub socket: UnixStream,
    /// Frames, and parts of one, that came after the answer.
    pub inbox: Inbox,
    /// What the user should know: a setting of the host that was changed for the container, say.
    pub notice: Option<String>,
}

impl Engine {
    /// Starts a container, and returns when its process runs.
    ///
    /// # Errors
    /// [`Error::State`] for a running one; [`Error::Start`] with the shim's report where it cannot be started.
    pub fn start(&self, container: &Container, explain: bool) -> Result<Attached, Error> {
        if container.state.status == Status::Running {
            return Err(Error::State {
                name: container.config.name.clone(),
                status: container.state.status.to_string(),
                remedy: "it needs no start",
            });
        }
        let (mine, shims) = step(
            "socketpair",
            format_args!("AF_UNIX SOCK_STREAM"),
            "between this command and the container's shim",
        )
        .run(UnixStream::pair)?;
        // From where nobody can write to it: the container's process is a copy of the shim until its exec.
        let exe = sampan_runtime::own_exe::readonly()?;
        let mut shim = Command::new(format!("/proc/self/fd/{}", exe.as_raw_fd()));
        shim.arg0("sampan");
        shim.arg("--root").arg(&self.paths.data).arg("--run-root").arg(&self.paths.run);
        shim.arg("shim").args(explain.then_some("--explain")).arg(&container.config.id);
        shim.stdin(Stdio::from(OwnedFd::from(shims))).stdout(Stdio::null());
        shim.stderr(if explain { Stdio::inherit() } else { Stdio::null() });
        step(
            "execve",
            format_args!("/proc/self/exe shim {}", container.short_id()),
            "a process of its own holds the container, so that this command may end",
        )
        .run(|| shim.spawn())?;
        // It holds the shim's end of the socket: without it, the death of the shim is the socket's end.
        drop(shim);
        let mut attached = Attached { socket: mine, inbox: Inbox::default(), notice: None };
        match attached.receive()? {
            Some(Frame::Started(notice)) => {
                attached.notice = Some(notice).filter(|notice| !notice.is_empty());
                Ok(attached)
            }
            Some(Frame::Failed(exit_code, message)) => Err(Error::Start { message, exit_code }),
            _ => Err(Error::Start {
                message: "error: the shim died before the container ran\n".to_owned(),
                exit_code: 125,
            }),
        }
    }

    /// Connects to a running container.
    ///
    /// # Errors
    /// [`Error::State`] where it does not run.
    pub fn attach(&self, container: &Container) -> Result<Attached, Error> {
        let folder = self.paths.run_of(&container.config.id);
        let socket = crate::shim::connect(&folder).map_err(|_| Error::State {
            name: container.config.name.clone(),
            status: container.state.status.to_string(),
            remedy: "start it first",
        })?;
        let mut attached = Attached { socket, inbox: Inbox::default(), notice: None };
        attached.receive()?;
        Ok(attached)
    }
}

impl Attached {
    /// Waits for the next frame; none when the shim is gone.
    ///
    /// # Errors
    /// Where the socket fails.
    pub fn receive(&mut self) -> Result<Option<Frame>, Error> {
        let failed = |error: std::io::Error| step::StepError::new("read", "the shim's socket", error);
        loop {
            if let Some(frame) = self.inbox.take().map_err(failed)? {
                return Ok(Some(frame));
            }
            if !self.inbox.fill(&self.socket).map_err(failed)? {
                return Ok(None);
            }
        }
    }
}
