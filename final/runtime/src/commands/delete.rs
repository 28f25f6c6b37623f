//! `delete`: the cgroup and the state of a container that has stopped; with `--force`, whatever is there, whole or half made.

use std::time::{Duration, Instant};

use anyhow::bail;
use sampan_runtime::hooks::{self, State};

use super::kill::send;
use crate::log::Log;
use crate::state::{Record, Reserved, Status, Store};

/// How long a killed process, or another command, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `delete [--force] ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime delete --force first")]
pub(crate) struct Args {
    /// Kill it first; and no error where there is none
    #[arg(short, long)]
    force: bool,
    /// The container's id
    id: String,
}

pub(crate) fn delete(store: &Store, log: &Log, Args { force, id }: &Args) -> anyhow::Result<u8> {
    if *force {
        if store.folder(id)?.is_dir() {
            let lock = take(store, id)?;
            let record = store.read(id).ok();
            remove(store, id, log, record.as_ref(), lock)?;
        } else {
            // A create that was killed may not have come further than that.
            store.tidy();
        }
        return Ok(0);
    }
    let record = store.read(id)?;
    match store.status(&record)? {
        // A created one has run nothing yet.
        Status::Stopped | Status::Created => {}
        status => bail!(
            "cannot delete container {id} that is not stopped: {}: stop it first, or use --force",
            status.name()
        ),
    }
    let lock = take(store, id)?;
    remove(store, id, log, Some(&record), lock)?;
    Ok(0)
}

/// The lock of a container, also of one that is being created: killed, its create fails and gives the lock back.
fn take(store: &Store, id: &str) -> anyhow::Result<Reserved> {
    let start = Instant::now();
    loop {
        if let Some(lock) = store.lock(id)? {
            return Ok(lock);
        }
        if let Ok(record) = store.read(id) {
            send(&record, libc::SIGKILL)?;
        }
        if start.elapsed() > PATIENCE {
            bail!("another command holds container {id}");
        }
        std::thread::sleep(Duration::from_millis(5));
        if !store.folder(id)?.is_dir() {
            bail!("container {id} does not exist");
        }
    }
}

/// Parts that are gone already are no error.
fn remove(store: &Store, id: &str, log: &Log, record: Option<&Record>, lock: Reserved) -> anyhow::Result<()> {
    if let Some(record) = record {
        send(record, libc::SIGKILL)?;
    }
    // Without a configuration nothing was made.
    if let Ok(spec) = store.spec(id)
        && let Some(linux) = spec.linux()
    {
        sampan_runtime::cgroups::remove(id, linux)?;
    }
    if let Some(record) = record {
        wait_until_stopped(record)?;
    }
    forget(store, log, record, id)?;
    drop(lock);
    Ok(())
}

/// Removes the state, and runs the poststop hooks of a container that was.
pub(super) fn forget(store: &Store, log: &Log, record: Option<&Record>, id: &str) -> anyhow::Result<()> {
    let spec = store.spec(id).ok();
    store.remove(id)?;
    if let (Some(record), Some(spec)) = (record, spec) {
        for error in hooks::poststop(&spec, &State::new(id, &spec, &record.bundle)) {
            log.warn(&error.to_string());
        }
    }
    Ok(())
}

fn wait_until_stopped(record: &Record) -> anyhow::Result<()> {
    let start = Instant::now();
    while record.lives() {
        if start.elapsed() > PATIENCE {
            bail!("container {} does not die", record.id);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
