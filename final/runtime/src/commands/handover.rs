//! What of a container goes to its caller: the pid in a file, the terminal over a socket; and what comes from the caller:
//! descriptors.
//!
//! See unix(7), `SCM_RIGHTS`; sd_listen_fds(3); rename(2).

use std::ffi::OsString;
use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use oci_spec::runtime::{Process, Spec};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sampan_runtime::WindowSize;
use step::step;

/// Writes a pid into a file that is there whole or not at all: whoever waits for it must not read half of it.
pub(super) fn write_pid(path: &Path, pid: i32) -> anyhow::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().with_context(|| format!("{path:?} is no file for a pid"))?);
    let new = path.with_file_name(name);
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {path:?}"))
}

/// Refuses a terminal that nobody would take, and a socket that nothing would be sent to, before anything is made.
pub(super) fn check_console(terminal: bool, detached: bool, socket: Option<&PathBuf>) -> anyhow::Result<()> {
    match socket {
        None if terminal && detached => {
            bail!(
                "cannot allocate a terminal for a detached process without --console-socket: somebody must take it"
            )
        }
        Some(_) if !terminal || !detached => {
            bail!("--console-socket is for a detached process with a terminal (process.terminal, or --tty)")
        }
        Some(socket) => {
            let about = fs::metadata(socket).with_context(|| format!("no console socket {socket:?}"))?;
            if !about.file_type().is_socket() {
                bail!("the console socket {socket:?} is no socket");
            }
            Ok(())
        }
        None => Ok(()),
    }
}

/// One message with the descriptor, as runc sends it.
pub(super) fn send_terminal(terminal: &OwnedFd, socket: &Path) -> anyhow::Result<()> {
    send(terminal.as_fd(), b"terminal", socket)
        .with_context(|| format!("cannot send the terminal to {socket:?}"))
}

/// One message with a descriptor that stands for the process (`--pidfd-socket`).
pub(super) fn send_pidfd(pidfd: BorrowedFd<'_>, socket: &Path) -> anyhow::Result<()> {
    send(pidfd, b"pidfd", socket).with_context(|| format!("cannot send the pidfd to {socket:?}"))
}

fn send(fd: BorrowedFd<'_>, text: &[u8], socket: &Path) -> anyhow::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let fds = [fd];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        bail!("no room for a descriptor in the message");
    }
    step("sendmsg", format_args!("{} SCM_RIGHTS", socket.display()), "a descriptor for whoever asked for it")
        .run(|| sendmsg(&stream, &[IoSlice::new(text)], &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// How many descriptors from 3 on are the program's: those of socket activation, and then `--preserve-fds`. The program is told of
/// the former as this one was (`LISTEN_FDS`); it will be pid 1.
pub(super) fn descriptors(asked: u16, process: &mut Process) -> anyhow::Result<u16> {
    let listening = listening(
        std::env::var("LISTEN_PID").ok().as_deref(),
        std::env::var("LISTEN_FDS").ok().as_deref(),
        std::process::id(),
    );
    let all = listening.saturating_add(asked);
    for fd in 3..3 + u32::from(all) {
        if fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_err() {
            bail!("--preserve-fds {asked}: descriptor {fd} is not open");
        }
    }
    if listening > 0 {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend([format!("LISTEN_FDS={listening}"), "LISTEN_PID=1".to_owned()]);
        process.set_env(Some(env));
    }
    Ok(all)
}

/// Variables that were meant for another process say nothing. See sd_listen_fds(3).
fn listening(pid: Option<&str>, fds: Option<&str>, own: u32) -> u16 {
    let meant = pid.is_some_and(|pid| pid.parse() == Ok(own));
    fds.filter(|_| meant).and_then(|fds| fds.parse().ok()).unwrap_or(0)
}

pub(super) fn wants_terminal(spec: &Spec) -> bool {
    spec.process().as_ref().and_then(Process::terminal).unwrap_or(false)
}

/// `process.consoleSize`.
pub(super) fn console_size(process: Option<&Process>) -> WindowSize {
    let number = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    process.and_then(Process::console_size).map_or_else(WindowSize::default, |size| WindowSize {
        rows: number(size.height()),
        columns: number(size.width()),
    })
}

/// The user's window, where nothing else is said.
pub(super) fn window(process: Option<&Process>) -> WindowSize {
    let asked = console_size(process);
    match namespaces::terminal::size() {
        Some(window) if asked == WindowSize::default() => {
            WindowSize { rows: window.ws_row, columns: window.ws_col }
        }
        _ => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_another_process_are_not_ours() {
        assert_eq!(listening(Some("7"), Some("2"), 7), 2);
        assert_eq!(listening(Some("8"), Some("2"), 7), 0);
        assert_eq!(listening(None, Some("2"), 7), 0);
        assert_eq!(listening(Some("7"), Some("many"), 7), 0);
    }

    #[test]
    fn a_terminal_and_its_socket_go_together() {
        let socket = PathBuf::from("/nowhere");
        check_console(true, true, None).unwrap_err();
        check_console(false, true, Some(&socket)).unwrap_err();
        check_console(true, false, Some(&socket)).unwrap_err();
        check_console(true, true, Some(&socket)).unwrap_err();
        check_console(true, false, None).unwrap();
        check_console(false, true, None).unwrap();
    }
}
