//! `checkpoint` and `restore`, which runc has CRIU do: known, so that whoever calls them is told, and not supported.

use anyhow::bail;

/// Whatever runc takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _all: Vec<String>,
}

pub(crate) fn refuse(command: &str) -> anyhow::Result<u8> {
    bail!(
        "{command} is not supported: this runtime does not work with CRIU; pause and resume keep a container in memory"
    )
}
