//! `sampan-runtime`: an OCI runtime in runc's form.

mod commands;
mod state;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use commands::{create, delete, exec, kill, run, spec, start};
use sampan_runtime::{HINTS, own_exe};

/// Run containers from OCI bundles
///
/// A bundle is a directory with a config.json and a root file system. `spec` writes a config.json to begin with.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  mkdir bundle && cp -a target/kit/rootfs bundle/rootfs && cd bundle\n  sampan-runtime spec && sampan-runtime run first"
)]
struct Args {
    /// Tell each step and why it is made, on standard error
    #[arg(long, global = true)]
    explain: bool,
    /// Where the state of containers is kept
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create a container; it waits for `start`
    Create(create::Args),
    /// Let a created container run its command
    Start(start::Args),
    /// Create and start a container
    Run(run::Args),
    /// Run one more command in a running container
    Exec(exec::Args),
    /// Tell the state of a container, as JSON
    State(commands::Id),
    /// Send a signal to a container's first process
    Kill(kill::Args),
    /// Remove what a stopped container has left
    Delete(delete::Args),
    /// Write a config.json with the defaults
    Spec(spec::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    match dispatch(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let tables = [HINTS, namespaces::HINTS, cgroups::HINTS, unionfs::HINTS, chroot::HINTS];
            eprint!("{}", step::report(error.as_ref(), &tables));
            let known = error.downcast_ref::<sampan_runtime::Error>().map(sampan_runtime::Error::exit_code);
            ExitCode::from(known.unwrap_or(1))
        }
    }
}

fn dispatch(args: Args) -> anyhow::Result<u8> {
    if matches!(args.command, Command::Create(_) | Command::Run(_) | Command::Exec(_)) {
        own_exe::protect()?;
    }
    if args.explain {
        step::explain()?;
    }
    let store = state::Store::new(args.root);
    match args.command {
        Command::Create(args) => create::create(&store, &args),
        Command::Start(args) => start::start(&store, &args),
        Command::Run(args) => run::run(&store, &args),
        Command::Exec(args) => exec::exec(&store, &args),
        Command::State(id) => commands::print_state(&store, &id),
        Command::Kill(args) => kill::kill(&store, &args),
        Command::Delete(args) => delete::delete(&store, &args),
        Command::Spec(args) => spec::spec(&args),
    }
}
