//! `sampan-runtime`: an OCI runtime in runc's form.

mod commands;
mod early;
mod log;
mod state;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use commands::{
    Global, checkpoint, create, delete, events, exec, features, kill, list, pause, ps, resume, run, spec,
    start, state as show, update,
};
use sampan_runtime::{HINTS, own_exe};

/// Run containers from OCI bundles
///
/// A bundle is a directory with a config.json and a root file system. `spec` writes a config.json to begin with.
#[derive(Parser)]
#[command(
    version = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0"),
    disable_version_flag = true,
    after_help = "Example:\n  mkdir bundle && cp -a target/kit/rootfs bundle/rootfs && cd bundle\n  sampan-runtime spec && sampan-runtime run first"
)]
struct Args {
    /// Tell each step and why it is made, on standard error
    #[arg(long, global = true)]
    explain: bool,
    /// The same, as runc calls it
    #[arg(long, hide = true)]
    debug: bool,
    /// Where the state of containers is kept
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    /// Write errors and warnings into this file too
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How they are written there
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: log::Format,
    /// linux.cgroupsPath is slice:prefix:name, and systemd makes the cgroup
    #[arg(long)]
    systemd_cgroup: bool,
    /// Whether a container goes without a cgroup where this user may make none
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    rootless: Rootless,
    /// Accepted for runc's sake: there is no checkpoint
    #[arg(long, value_name = "PROGRAM", hide = true)]
    criu: Option<PathBuf>,
    /// Print the version
    #[arg(short, long, action = ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    command: Command,
}

/// `--rootless`
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Rootless {
    /// Never without
    False,
    /// Without one, if need be
    True,
    /// As true
    #[default]
    Auto,
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
    Exec(Box<exec::Args>),
    /// Tell the state of a container, as JSON
    State(show::Args),
    /// List containers
    List(list::Args),
    /// List the processes in a container
    Ps(ps::Args),
    /// Stop all processes in a container for a while
    Pause(pause::Args),
    /// Let the processes of a paused container run on
    Resume(resume::Args),
    /// Change a container's limits
    Update(Box<update::Args>),
    /// Tell what a container uses, and when it runs out of memory, as JSON
    Events(events::Args),
    /// Send a signal to a container's first process
    Kill(kill::Args),
    /// Remove what a stopped container has left
    Delete(delete::Args),
    /// Write a config.json with the defaults
    Spec(spec::Args),
    /// Tell what this runtime understands, as JSON
    Features(features::Args),
    /// Not supported
    #[command(hide = true)]
    Checkpoint(checkpoint::Args),
    /// Not supported
    #[command(hide = true)]
    Restore(checkpoint::Args),
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return misused(&error),
    };
    let log = match log::Log::open(args.log.as_deref(), args.log_format) {
        Ok(log) => log,
        Err(error) => return fail(&log::Log::default(), &error, 1),
    };
    // As runc has it: what exec's command ended with could be 1 as well.
    let failed = if matches!(args.command, Command::Exec(_)) { 255 } else { 1 };
    match dispatch(args, &log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&log, &error, failed),
    }
}

/// As runc has it: 1, and a line in the log, which is all that an engine looks at.
fn misused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let text = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let log = log::Log::of(std::env::args_os().skip(1)).unwrap_or_default();
    if !log.write(log::Level::Error, &text) {
        let _ = error.print();
    }
    ExitCode::FAILURE
}

fn fail(log: &log::Log, error: &anyhow::Error, status: u8) -> ExitCode {
    let known = error.downcast_ref::<sampan_runtime::Error>().map(sampan_runtime::Error::exit_code);
    let text = log::one_line(error, known);
    if log.write(log::Level::Error, &text) {
        return ExitCode::from(status);
    }
    // An engine that gives no log reads this, looks for words in it, and shows the line in which it finds them.
    let tables = [HINTS, namespaces::HINTS, cgroups::HINTS, unionfs::HINTS, chroot::HINTS];
    let hint = step::report(error.as_ref(), &tables)
        .lines()
        .find(|line| line.starts_with("hint: "))
        .map(str::to_owned);
    eprintln!("error: {text}");
    hint.into_iter().for_each(|hint| eprintln!("{hint}"));
    ExitCode::from(status)
}

fn dispatch(args: Args, log: &log::Log) -> anyhow::Result<u8> {
    if matches!(args.command, Command::Create(_) | Command::Run(_) | Command::Exec(_)) {
        own_exe::protect()?;
    }
    if args.explain || args.debug && args.log.is_none() {
        step::explain()?;
    }
    let global =
        Global { systemd_cgroup: args.systemd_cgroup, needs_cgroup: args.rootless == Rootless::False };
    let store = state::Store::new(args.root)?;
    match args.command {
        Command::Create(args) => create::create(&store, log, global, &args),
        Command::Start(args) => start::start(&store, &args),
        Command::Run(args) => run::run(&store, log, global, &args),
        Command::Exec(args) => exec::exec(&store, log, &args),
        Command::State(args) => show::state(&store, &args),
        Command::List(args) => list::list(&store, &args),
        Command::Ps(args) => ps::ps(&store, &args),
        Command::Pause(args) => pause::pause(&store, &args),
        Command::Resume(args) => resume::resume(&store, &args),
        Command::Update(args) => update::update(&store, &args),
        Command::Events(args) => events::events(&store, &args),
        Command::Kill(args) => kill::kill(&store, &args),
        Command::Delete(args) => delete::delete(&store, log, &args),
        Command::Spec(args) => spec::spec(&args),
        Command::Features(_) => features::features(),
        Command::Checkpoint(_) => checkpoint::refuse("checkpoint"),
        Command::Restore(_) => checkpoint::refuse("restore"),
    }
}
