//! `start`: let a created container run its command.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use sampan_runtime::hooks::{self, State};
use step::step;

use super::kill;
use super::notify::{self, Relay};
use crate::state::{FIFO, Record, Status, Store};

/// `start ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime start first")]
pub(crate) struct Args {
    /// The container's id
    id: String,
}

/// One byte, which nobody reads where the init process is gone.
const WAKE: &str = "0";

impl Args {
    pub(crate) fn of(id: &str) -> Self {
        Self { id: id.to_owned() }
    }
}

pub(crate) fn start(store: &Store, Args { id }: &Args) -> anyhow::Result<u8> {
    let record = store.read(id)?;
    match store.status(&record)? {
        Status::Created => {}
        Status::Creating => bail!("cannot start container {id}: it is still being created"),
        Status::Running => bail!("cannot start an already running container: {id}"),
        Status::Paused => bail!("cannot start container {id} while it is paused"),
        Status::Stopped => {
            bail!("cannot start a container that has stopped: delete {id} and create it again")
        }
    }
    let folder = store.folder(id)?;
    let path = folder.join(FIFO);
    let host = notify::host(&folder)?;
    // Without a reader there is nobody to start: then this fails (ENXIO) and does not wait.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = rustix::fs::open(&path, flags, Mode::empty())
        .with_context(|| format!("container {id} does not wait to be started"))?;
    let mut fifo = File::from(fifo);
    step(
        "unlink",
        format_args!("{}", path.display()),
        "from here on the container is running, and cannot be started twice",
    )
    .run(|| fs::remove_file(&path))?;
    // Of two commands only the one that has come this far takes the container's socket.
    let relay = host.map(|host| listen(&folder, host, &record)).transpose()?;
    step("write", format_args!("{}", path.display()), "the init process wakes up, and becomes the program")
        .run(|| fifo.write_all(WAKE.as_bytes()))?;
    // Its end is closed by exec, or by an error, which lies in the FIFO then.
    let mut polled = [PollFd::new(&fifo, PollFlags::empty())];
    rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
    let mut error = String::new();
    let again = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    let read = rustix::fs::open(&again, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    // Without /proc there is nothing to be learned.
    if let Ok(read) = read {
        let _ = File::from(read).read_to_string(&mut error);
    }
    match error.as_str() {
        "" => {}
        WAKE => bail!("container {id} has ended before it was started"),
        error => bail!("{error}"),
    }
    let status = started(store, &record)?;
    if let Some((relay, container)) = relay {
        relay.wait(container.as_fd(), record.pid.cast_unsigned())?;
    }
    Ok(status)
}

/// Where it fails the container is ended, as nobody can start it any more.
fn listen(folder: &Path, host: UnixDatagram, record: &Record) -> anyhow::Result<(Relay, OwnedFd)> {
    let container =
        record.pidfd().with_context(|| format!("container {} has ended before it was started", record.id))?;
    match Relay::listen(folder, host) {
        Ok(relay) => Ok((relay, container)),
        Err(error) => {
            kill::send(record, libc::SIGKILL)?;
            Err(error)
        }
    }
}

/// poststart. Where it fails the container is ended.
pub(super) fn started(store: &Store, record: &Record) -> anyhow::Result<u8> {
    let spec = store.spec(&record.id)?;
    let state = State::new(&record.id, &spec, &record.bundle);
    match hooks::poststart(&spec, &state, record.pid) {
        Ok(()) => Ok(0),
        Err(error) => {
            kill::send(record, libc::SIGKILL)?;
            Err(error.into())
        }
    }
}
