//! `linux.seccomp.listenerPath`: somebody outside who decides on system calls.
//!
//! A call that the filter answers with `SCMP_ACT_NOTIFY` waits in the kernel. Whoever holds the filter's *listener*, a descriptor, reads
//! which call it is, and says what it returns; or does for the container what it may not do itself, such as a mount. The agent that
//! is asked listens at a UNIX socket and gets the descriptor in a message, with the state of the container as JSON.
//!
//! Order: the runtime process connects, where the path still leads somewhere -> the init process loads the filter, which makes the
//! listener -> it sends the message and closes both. From then on any call may wait for the agent, but `sendmsg` must not.
//!
//! The message tells the process's id as the runtime process sees it. The init process reads it in the host's `/proc`, opened
//! before the clone: its own pid namespace calls it 1.
//!
//! See seccomp_unotify(2), unix(7); runtime-spec: config-linux.md, "The Container Process State".

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use oci_spec::runtime::{ContainerProcessState, LinuxSeccomp, SECCOMP_FD_NAME, State};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use step::{StepError, step};

use crate::{Error, labels};

/// Somebody who is connected and waits for the listener.
#[derive(Debug)]
pub(crate) struct Listener {
    agent: UnixStream,
    proc: OwnedFd,
    message: ContainerProcessState,
}

impl Listener {
    /// Connects to the agent.
    ///
    /// # Errors
    /// [`Error::Config`] where no path is given, or the step.
    pub(crate) fn connect(seccomp: &LinuxSeccomp, state: State) -> Result<Self, Error> {
        let path = seccomp.listener_path().as_deref().filter(|path| *path != Path::new(""));
        let path = path.ok_or_else(|| {
            Error::config(
                "linux.seccomp.listenerPath",
                "SCMP_ACT_NOTIFY needs a socket with an agent behind it",
            )
        })?;
        let agent =
            step("connect", format_args!("{}", path.display()), "the agent that decides on system calls")
                .run(|| UnixStream::connect(path))?;
        let mut message = ContainerProcessState::default();
        message
            .set_version(state.version().clone())
            .set_fds(vec![SECCOMP_FD_NAME.to_owned()])
            .set_metadata(seccomp.listener_metadata().clone())
            .set_state(state);
        Ok(Self { agent, proc: labels::host_proc()?, message })
    }

    /// Hands the filter's listener over. In the init process.
    pub(crate) fn send(mut self, listener: &OwnedFd) -> Result<(), StepError> {
        let pid = rustix::fs::readlinkat(&self.proc, "self", Vec::new())
            .map_err(|errno| StepError::new("readlink", "/proc/self", errno))?;
        let pid = pid.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or_default();
        self.message.set_pid(pid).state_mut().set_pid(Some(pid));
        let text = serde_json::to_vec(&self.message)
            .map_err(|error| StepError::new("sendmsg", error, Errno::EINVAL))?;
        step(
            "sendmsg",
            format_args!("{SECCOMP_FD_NAME} SCM_RIGHTS"),
            "whoever holds it answers for the kernel",
        )
        .run(|| self.send_all(&text, listener))
    }

    fn send_all(&self, text: &[u8], listener: &OwnedFd) -> Result<(), Errno> {
        let fds = [listener.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let mut rest = text;
        if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Errno::ENOBUFS);
        }
        while !rest.is_empty() {
            let sent = sendmsg(&self.agent, &[IoSlice::new(rest)], &mut ancillary, SendFlags::NOSIGNAL)
                .map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
            rest = &rest[sent..];
            // Once, with the first byte.
            ancillary.clear();
        }
        Ok(())
    }
}
