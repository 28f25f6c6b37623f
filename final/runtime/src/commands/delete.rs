//! `delete`: the cgroup and the state of a container that has stopped.

use std::path::Path;

use anyhow::bail;
use cgroups::{Cgroup, Hierarchies};
use nix::sys::signal::Signal;

use super::kill::send;
use crate::state::{Status, Store};

/// `delete [--force] ID`
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Kill it first
    #[arg(short, long)]
    force: bool,
    /// The container's id
    id: String,
}

pub(crate) fn delete(store: &Store, Args { force, id }: &Args) -> anyhow::Result<u8> {
    match store.read(id) {
        Ok(record) => {
            if *force {
                send(&record, Signal::SIGKILL)?;
                wait_until_stopped(store, &record)?;
            } else if store.status(&record)? == Status::Running {
                bail!("container {id} is running: stop it first, or use --force");
            } else {
                // A created one has run nothing yet.
                send(&record, Signal::SIGKILL)?;
            }
        }
        // A create that was killed in the middle has left a directory without a record.
        Err(_) if *force && store.folder(id)?.is_dir() => {}
        Err(_) if *force => return Ok(0),
        Err(error) => return Err(error),
    }
    remove_cgroup(store, id)?;
    store.remove(id)?;
    Ok(0)
}

fn wait_until_stopped(store: &Store, record: &crate::state::Record) -> anyhow::Result<()> {
    for _ in 0..1000 {
        if store.status(record)? == Status::Stopped {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    bail!("container {} does not die", record.id)
}

fn remove_cgroup(store: &Store, id: &str) -> anyhow::Result<()> {
    let Ok(hierarchies) = Hierarchies::find(Path::new("/proc/self")) else { return Ok(()) };
    let path = store.spec(id).ok().and_then(|spec| spec.linux().as_ref()?.cgroups_path().clone());
    let opened = match &path {
        Some(path) => Cgroup::open_at(&hierarchies, path.strip_prefix("/").unwrap_or(path)),
        None => Cgroup::open(&hierarchies, id),
    };
    match opened {
        Ok(cgroup) => Ok(cgroup.remove()?),
        Err(_) => Ok(()),
    }
}
