//! `resume`: a paused container runs on from where it was.

use anyhow::bail;

use super::Id;
use super::pause::frozen;
use crate::state::{Status, Store};

/// `resume ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime resume first")]
pub(crate) struct Args {
    #[command(flatten)]
    container: Id,
}

pub(crate) fn resume(store: &Store, Args { container: Id { id } }: &Args) -> anyhow::Result<u8> {
    let record = store.read(id)?;
    let cgroup = frozen(store, id)?;
    if store.status(&record)? != Status::Paused {
        bail!("container not paused");
    }
    cgroup.thaw()?;
    Ok(0)
}
