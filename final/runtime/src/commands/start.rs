//! `start`: let a created container run its command.

use std::fs::{self, File};
use std::io::Write as _;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use step::step;

use crate::state::{FIFO, Status, Store};

/// `start ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime start first")]
pub(crate) struct Args {
    /// The container's id
    id: String,
}

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
        Status::Running | Status::Paused => bail!("cannot start an already running container: {id}"),
        Status::Stopped => {
            bail!("cannot start a container that has stopped: delete {id} and create it again")
        }
    }
    let path = store.folder(id)?.join(FIFO);
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
    step("write", format_args!("{}", path.display()), "the init process wakes up, and becomes the program")
        .run(|| fifo.write_all(b"0"))?;
    // Its end is closed by exec. That is soon, or it never comes.
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    let mut polled = [PollFd::new(&fifo, PollFlags::empty())];
    poll(&mut polled, Some(&limit))?;
    Ok(0)
}
