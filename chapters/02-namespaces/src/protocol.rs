//! What the runtime process and the init process say to each other.
//!
//! Between clone3 and execve two processes work on one container, and each waits for something that the other alone can do.
//! They talk over a socketpair, one message a datagram:
//!
//! ```text
//! runtime process                         init process
//!       |---------------- clone3 -------------->|
//!  uid_map, gid_map                          (waits)
//!       |----------- ToInit::IdsMapped -------->|   only with a user namespace of its own
//!  network, cgroup v1                        mounts, pivot_root, host name
//!       |<------ FromInit::Terminal + fd -------|   only with a terminal
//!       |<---------- FromInit::Ready -----------|   only where the runtime process waits for it
//!       |------------ ToInit::Proceed --------->|
//!       |                                    execve
//!       |<------------ end of file -------------|   the descriptor is close-on-exec: no message is needed
//!       |<-------- FromInit::Failed ------------|   or this, at any time before
//! ```
//!
//! The end of file works the other way too: where the runtime process dies, the init process reads it and exits.
//!
//! See socketpair(2), unix(7): `SOCK_SEQPACKET` keeps messages apart, and `SCM_RIGHTS` carries a descriptor.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::os::fd::OwnedFd;

use step::StepError;

/// What the runtime process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToInit {
    /// The id maps are written: you may become root inside.
    IdsMapped,
    /// All that you need from outside is done: run the command.
    Proceed,
}

/// What the init process says.
#[derive(Debug)]
pub(crate) enum FromInit {
    /// The process that joined the namespaces has this pid, as the runtime process sees it.
    Joined(i32),
    /// The master side of the container's terminal.
    Terminal(OwnedFd),
    /// All is set up; I wait for [`ToInit::Proceed`].
    Ready,
    /// I failed, and exit.
    Failed(StageError),
}

/// An error of the init process, whole: it happened in another process, and reads as if it had happened in this one.
#[derive(Debug)]
pub struct StageError {
    stage: Cow<'static, str>,
    told: Told,
    exit_code: u8,
}

/// An error as text, with its causes; a [`StepError`] among them stays one, so that its hint is found.
#[derive(Debug)]
pub(crate) struct Told {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StageError {
    /// Carries any error, with all its causes, and the exit status that it means (see [`step::report()`]'s callers: 125
    /// for a failure of ours, 126 and 127 for a command that cannot be run or is not there).
    pub fn new(stage: &'static str, error: &(dyn Error + 'static), exit_code: u8) -> Self {
        let _ = (stage, error, exit_code);
        unimplemented!()
    }

    /// In which part of its work the init process was: `"mounts"`, `"pivot_root"`.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// The exit status that the error means.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl From<StepError> for StageError {
    fn from(error: StepError) -> Self {
        let _ = error;
        unimplemented!()
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.text)
    }
}

impl Error for StageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.told.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
