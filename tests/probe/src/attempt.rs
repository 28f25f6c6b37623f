//! Attempts at files and at the kernel's more dangerous calls.

use std::fs;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::WaitStatus;
use serde_json::json;

use crate::Answer;
use crate::child::in_child;
use crate::report;

pub(crate) fn reach(path: &str) -> Answer {
    let found = fs::symlink_metadata(path);
    Answer {
        done: Some(found.is_ok()),
        json: json!({ "path": path, "reached": found.is_ok(), "error": found.err().map(|error| name(&error)) }),
    }
}

/// The line that [`change`] appends.
const MARK: &str = "# changed by the probe";

pub(crate) fn change(path: &str) -> Answer {
    let write = || -> io::Result<bool> {
        let mut file = fs::OpenOptions::new().append(true).open(path)?;
        writeln!(file, "{MARK}")?;
        Ok(fs::read_to_string(path)?.contains(MARK))
    };
    let (changed, error) = match write() {
        Ok(changed) => (changed, None),
        Err(error) => (false, Some(name(&error))),
    };
    Answer { done: Some(changed), json: json!({ "path": path, "changed": changed, "error": error }) }
}

pub(crate) fn identity(path: &str) -> Answer {
    let identity = report::identity(path);
    Answer { done: Some(identity.is_some()), json: json!({ "path": path, "identity": identity }) }
}

/// Makes a call that a container's program has no business with, in a child, so that nothing is changed where it succeeds.
pub(crate) fn syscall(call: &str) -> Answer {
    let attempt: fn() -> nix::Result<()> = match call {
        // One more user namespace: the door to most of the kernel's newer code. Docker's filter refuses it.
        "unshare" => || unshare(CloneFlags::CLONE_NEWUSER),
        // A target that is not there is only found missing by whoever may mount at all.
        "mount" => || mount(Some("none"), "/nowhere/at/all", Some("tmpfs"), MsFlags::empty(), None::<&str>),
        _ => return Answer { json: json!({ "error": format!("no such call here: {call}") }), done: None },
    };
    let ended = in_child(|| attempt().err().map_or(0, |errno| errno as i32));
    let (refused, error) = match ended {
        Ok(WaitStatus::Exited(_, 0)) => (false, None),
        Ok(WaitStatus::Exited(_, number)) => {
            let errno = Errno::from_raw(number);
            (matches!(errno, Errno::EPERM | Errno::EACCES | Errno::ENOSYS), Some(format!("{errno:?}")))
        }
        // A filter may also kill.
        Ok(status) => (true, Some(format!("{status:?}"))),
        Err(errno) => {
            return Answer { json: json!({ "call": call, "error": format!("{errno:?}") }), done: None };
        }
    };
    Answer { done: Some(!refused), json: json!({ "call": call, "refused": refused, "error": error }) }
}

/// `ENOENT`, as the manual has it.
pub(crate) fn name(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", Errno::from_raw(number)),
        None => error.to_string(),
    }
}

/// Sends each text as a message of sd_notify(3), and a descriptor with it.
pub(crate) fn notify(texts: &[&str]) -> Answer {
    let send = || -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(std::env::var_os("NOTIFY_SOCKET").unwrap_or_default())?;
        let fds = [socket.as_raw_fd()];
        for text in texts {
            let text = text.replace("\\n", "\n");
            let rights = [ControlMessage::ScmRights(&fds)];
            sendmsg::<()>(
                socket.as_raw_fd(),
                &[IoSlice::new(text.as_bytes())],
                &rights,
                MsgFlags::empty(),
                None,
            )?;
        }
        Ok(())
    };
    let sent = send();
    let json = json!({ "sent": sent.is_ok(), "error": sent.as_ref().err().map(name) });
    Answer { done: Some(sent.is_ok()), json }
}
