//! `state`: what the specification wants to know of a container, and what runc adds.

use super::Id;
use crate::state::Store;

/// `state ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime state first | jq .status")]
pub(crate) struct Args {
    #[command(flatten)]
    container: Id,
}

pub(crate) fn state(store: &Store, args: &Args) -> anyhow::Result<u8> {
    let record = store.read(&args.container.id)?;
    println!("{}", serde_json::to_string_pretty(&store.show(&record)?)?);
    Ok(0)
}
