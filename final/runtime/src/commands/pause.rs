//! `pause`: every process in the container stands still, by its cgroup's freezer, and notices nothing.

use anyhow::{Context, bail};

use super::Id;
use crate::state::{Status, Store};

/// `pause ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime pause first && sampan-runtime state first | jq .status")]
pub(crate) struct Args {
    #[command(flatten)]
    container: Id,
}

pub(crate) fn pause(store: &Store, Args { container: Id { id } }: &Args) -> anyhow::Result<u8> {
    let record = store.read(id)?;
    match store.status(&record)? {
        Status::Running | Status::Created => {}
        status => bail!("container not running or created: {}", status.name()),
    }
    frozen(store, id)?.freeze()?;
    Ok(0)
}

/// The cgroup by which a container is paused.
pub(super) fn frozen(store: &Store, id: &str) -> anyhow::Result<cgroups::Cgroup> {
    store
        .cgroup(id)?
        .with_context(|| format!("container {id} has no cgroup to be frozen: this user may make none here"))
}
