//! sd_notify(3) through the container's wall: who started the runtime is told when the container is ready, and nothing else.
//!
//! A service of `Type=notify` finds a socket's name in `NOTIFY_SOCKET`, and says there that it is ready. The host's socket is not
//! for a container: what comes over it is believed, also `MAINPID=` of any process, or descriptors to keep. So
//!
//! 1. the container has a socket of its own. It lies in the container's state directory, and only the folder around it is shown
//!    inside, read-only, at `/run/notify`: there `create` needs no socket yet, and `start` makes it;
//! 2. of all that comes over it the line `READY=1` counts, once. It is not passed on: the host is told in words of ours;
//! 3. descriptors that come along are refused: a recv(2) that has no room for them makes the kernel close them;
//! 4. a message that is longer than systemd's longest is none, as for systemd itself;
//! 5. nothing waits for a container that has ended, nor does one that is ready wait at a socket that nobody reads: it is closed;
//! 6. systemd asks the kernel for the sender's cgroup when it reads a message. A sender that goes then waits until it was read: it
//!    sends one end of a pipe after it (`BARRIER=1`), and systemd closes that end.
//!
//! Whoever leaves the container behind (`start`, `run --detach`) waits until it is ready, and names its first process as the
//! service's (`MAINPID=`); in the foreground a thread waits, and the service's process is this one. So does runc. An engine that
//! shows the container a folder at `/run/notify` itself, as Podman does since version 4, has a relay of its own: nothing is done then.
//!
//! See sd_notify(3), systemd.service(5) (`Type=`, `NotifyAccess=`), unix(7).

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use oci_spec::runtime::{MountBuilder, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use step::step;

const VARIABLE: &str = "NOTIFY_SOCKET";
/// In the container's state directory.
const FOLDER: &str = "notify";
const SOCKET: &str = "notify.sock";
/// Where the container finds the folder.
const INSIDE: &str = "/run/notify";
/// Requirement 4, in bytes.
const LONGEST: usize = 4096;
/// How long the host may take to read.
const PATIENCE: Duration = Duration::from_secs(30);

/// The host's socket, as the variable names it; none where it is not set.
fn asked() -> anyhow::Result<Option<SocketAddr>> {
    let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else { return Ok(None) };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(&name),
        _ => bail!("{VARIABLE} is {name:?}: a path, or @ and the name of an abstract socket, is known here"),
    };
    Ok(Some(address.with_context(|| format!("{VARIABLE} is {name:?}, which names no socket"))?))
}

/// Gives the container a place for its socket and tells it of that, where somebody wants to be told. To be called before the
/// folder is made.
pub(super) fn show(folder: &Path, spec: &mut Spec) -> anyhow::Result<bool> {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    if asked()?.is_none() || mounts.iter().any(|mount| mount.destination() == Path::new(INSIDE)) {
        return Ok(false);
    }
    let options = ["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned);
    let mount = MountBuilder::default().destination(INSIDE).typ("bind").source(folder.join(FOLDER));
    mounts.push(mount.options(options).build()?);
    spec.set_mounts(Some(mounts));
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(format!("{VARIABLE}={INSIDE}/{SOCKET}"));
        process.set_env(Some(env));
    }
    Ok(true)
}

/// Makes what [`show`] shows.
pub(super) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let folder = folder.join(FOLDER);
    step("mkdir", format_args!("{}", folder.display()), "the container's own place to say that it is ready")
        .run(|| {
            fs::create_dir(&folder).and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o755)))
        })?;
    Ok(())
}

/// The host's socket, connected; none where nobody wants to be told, or the container was made without a place for its own.
pub(super) fn host(folder: &Path) -> anyhow::Result<Option<UnixDatagram>> {
    let Some(address) = asked()? else { return Ok(None) };
    if !folder.join(FOLDER).is_dir() {
        return Ok(None);
    }
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    step(
        "connect",
        format_args!("{VARIABLE}"),
        "whoever started this wants to be told when the container is ready",
    )
    .run(|| socket.connect_addr(&address))?;
    Ok(Some(socket))
}

/// Listens for a container, and tells the host.
#[derive(Debug)]
pub(super) struct Relay {
    inside: UnixDatagram,
    host: UnixDatagram,
}

impl Relay {
    /// Makes the container's socket.
    pub(super) fn listen(folder: &Path, host: UnixDatagram) -> anyhow::Result<Self> {
        let folder = File::open(folder.join(FOLDER))?;
        // An address is shorter than a path may be.
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        let inside = step(
            "bind",
            format_args!("{FOLDER}/{SOCKET}"),
            "any user in the container may say that it is ready",
        )
        .run(|| {
            let inside = UnixDatagram::bind(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(0o777))?;
            inside.set_nonblocking(true)?;
            Ok::<_, io::Error>(inside)
        })?;
        Ok(Self { inside, host })
    }

    /// Waits until the container is ready, or has ended (requirement 5), and tells of the former.
    pub(super) fn wait(self, container: BorrowedFd<'_>, main: u32) -> anyhow::Result<()> {
        if self.attend(container, main)? {
            barrier(&self.host)?;
        }
        Ok(())
    }

    /// The same in a thread, for one that stays in front of the container.
    pub(super) fn spawn(self, container: BorrowedFd<'_>) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
        let container = container.try_clone_to_owned()?;
        let attend = move || self.attend(container.as_fd(), std::process::id()).map(drop);
        Ok(thread::Builder::new().name(FOLDER.to_owned()).spawn(attend)?)
    }

    fn attend(&self, container: BorrowedFd<'_>, main: u32) -> anyhow::Result<bool> {
        loop {
            let mut polled = [
                PollFd::new(&self.inside, PollFlags::IN),
                PollFd::from_borrowed_fd(container, PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
            // Its last word comes before its end.
            let ended = !polled[1].revents().is_empty();
            if self.is_ready()? {
                let text = format!("MAINPID={main}\nREADY=1");
                step(
                    "send",
                    format_args!("{VARIABLE}"),
                    "the container is ready, and this is the process to look at",
                )
                .run(|| self.host.send(text.as_bytes()))?;
                return Ok(true);
            }
            if ended {
                return Ok(false);
            }
        }
    }

    /// Reads what has come.
    fn is_ready(&self) -> io::Result<bool> {
        let mut message = [0; LONGEST + 1];
        loop {
            match self.inside.recv(&mut message) {
                Ok(length) if length <= LONGEST && says_ready(&message[..length]) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

/// Requirement 6. Who does not read in time, or knows no barrier, is not waited for any longer.
fn barrier(host: &UnixDatagram) -> anyhow::Result<()> {
    let (ours, theirs) = io::pipe()?;
    let fds = [theirs.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        bail!("no room for a descriptor in the message");
    }
    step("sendmsg", format_args!("{VARIABLE} BARRIER=1"), "it is closed when the message before was read")
        .run(|| sendmsg(host, &[IoSlice::new(b"BARRIER=1")], &mut ancillary, SendFlags::NOSIGNAL))?;
    drop(theirs);
    let limit = Timespec::try_from(PATIENCE)?;
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&limit)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_it() {
        for yes in ["READY=1", "READY=1\n", "STATUS=up\nREADY=1\nMAINPID=1"] {
            assert!(says_ready(yes.as_bytes()), "{yes:?}");
        }
        for no in ["", "READY=0", "READY=11", " READY=1", "NOTREADY=1", "STATUS=READY=1", "READY=1\0"] {
            assert!(!says_ready(no.as_bytes()), "{no:?}");
        }
    }
}
