//! `exec`: one more process in a running container, with the attributes of its first one.

use std::path::PathBuf;

use anyhow::{Context, bail};
use sampan_runtime::{Exec, Stdio};

use super::foreground;
use super::run::terminal_size;
use crate::state::{Status, Store};

/// `exec [--tty] [--cwd DIR] [--env NAME=VALUE] ID COMMAND...`
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// The working directory, in place of the container's
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// A variable beside the container's
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The container's id
    id: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

pub(crate) fn exec(store: &Store, args: &Args) -> anyhow::Result<u8> {
    let record = store.read(&args.id)?;
    if store.status(&record)? != Status::Running {
        bail!("container {} is not running", args.id);
    }
    let spec = store.spec(&args.id)?;
    let mut process = spec.process().clone().context("config.json has no process")?;
    process.set_args(Some(args.command.clone()));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    let stdio = if args.tty { Stdio::Terminal(terminal_size(&spec)) } else { Stdio::Inherit };
    foreground::block()?;
    let mut started =
        sampan_runtime::exec(Exec { id: &args.id, pid: record.pid, spec: &spec, process: &process, stdio })?;
    Ok(foreground::attend(&mut started, args.tty)?.exit_code())
}
