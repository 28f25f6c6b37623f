//! The commands, one a file.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod exec;
pub(crate) mod foreground;
pub(crate) mod kill;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;

use crate::state::Store;

/// The container that a command is about.
#[derive(clap::Args)]
pub(crate) struct Id {
    /// The container's id
    pub(crate) id: String,
}

/// `state`: what the specification wants to know of a container.
pub(crate) fn print_state(store: &Store, Id { id }: &Id) -> anyhow::Result<u8> {
    println!("{}", store.show(&store.read(id)?)?);
    Ok(0)
}
