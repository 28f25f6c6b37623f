//! `02-namespaces`: run a command in namespaces of its own, or enter those of another.

mod args;

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use chroot::Command;
use clap::Parser;
use namespaces::{Config, Error, ExitStatus, HINTS, Maps, StageError, Table};
use namespaces::{foreground, join, plan, reaper, spawn, terminal};
use nix::unistd::Pid;

use crate::args::{Args, Verb};

fn main() -> ExitCode {
    let args = Args::parse();
    if args.explain
        && let Err(error) = step::explain()
    {
        eprintln!("warning: --explain is silent: {error}");
    }
    let outcome = match &args.verb {
        Some(Verb::Join { tty, pid, command }) => run_inside(Pid::from_raw(*pid), *tty, command),
        None => run(&args, &Maps::for_this_user()),
    };
    ExitCode::from(outcome.map(ExitStatus::code).unwrap_or_else(|error| {
        eprint!("{}", step::report(&error, &[HINTS, chroot::HINTS]));
        error.exit_code()
    }))
}

// ANCHOR: main
fn run(args: &Args, maps: &Maps) -> Result<ExitStatus, Error> {
    let rootfs = args.rootfs.clone().unwrap_or_default();
    let (config, inside) = plan::container(&rootfs, &args.share, args.hostname.as_deref(), maps)?;
    let created = spawn(&config, |end| {
        inside.enter()?;
        let terminal = args.tty.then(|| end.open_terminal(terminal::size())).transpose()?;
        end.ready()?;
        end.wait_to_proceed()?;
        if args.no_init {
            return execute(&args.command, terminal);
        }
        reaper::run(end, || execute(&args.command, terminal))
    });
    let mut created = match created {
        Err(error) if plan::cannot_map(&error) => {
            eprintln!("note: {}", plan::CANNOT_MAP);
            return run(args, &Maps::identity());
        }
        other => other?,
    };
    if args.table {
        created.wait_ready()?;
        eprint!("{}", Table::beside(created.pid()));
    }
    foreground::run(created)
}
// ANCHOR_END: main

fn run_inside(pid: Pid, tty: bool, command: &[OsString]) -> Result<ExitStatus, Error> {
    let config = Config { die_with_parent: true, ..Config::default() };
    let created = join(join::pidfd(pid)?, config, |end| {
        let terminal = tty.then(|| end.open_terminal(terminal::size())).transpose()?;
        execute(command, terminal)
    })?;
    foreground::run(created)
}

fn execute(command: &[OsString], terminal: Option<OwnedFd>) -> Result<Infallible, StageError> {
    if let Some(terminal) = terminal {
        terminal::control(terminal)?;
    }
    let mut command = Command::new(command);
    command.env.push("container=sampan".into());
    command.exec().map_err(|error| StageError::new("exec", &error, error.exit_code()))
}
