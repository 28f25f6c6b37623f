//! `sampan`: the container engine's command. A thin shell over `sampan-engine`; one command a file.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the doc comments of arguments are the help, where brackets mean what is optional"
)]

#[macro_use]
mod out;

mod commands;
mod format;
mod ids;
mod progress;
mod relay;
mod template;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use sampan_engine::{Engine, Error};

use commands::Command;

/// A container engine, plank by plank
#[derive(Parser)]
#[command(
    name = "sampan",
    version,
    after_help = "Example, after `cargo kit setup`:\n  sampan import target/kit/busybox.tar busybox:latest\n  sampan run --rm busybox echo hello"
)]
struct Args {
    /// Where images, containers and volumes are kept [default: /var/lib/sampan, or $XDG_DATA_HOME/sampan]
    #[arg(long, global = true, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Where running containers have their sockets [default: /run/sampan, or $XDG_RUNTIME_DIR/sampan]
    #[arg(long, global = true, value_name = "FOLDER")]
    run_root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(told) => {
            // Help and the version are no errors; what cannot be understood has Docker's status for it.
            let _ = told.print();
            return if told.use_stderr() { ExitCode::from(125) } else { ExitCode::SUCCESS };
        }
    };
    let runs = matches!(args.command, Command::Run(_));
    end(run(args), runs)
}

/// The status to end with, when all is told.
fn end(outcome: anyhow::Result<ExitCode>, runs: bool) -> ExitCode {
    match outcome {
        Ok(ExitCode::SUCCESS) if out::failed() => ExitCode::FAILURE,
        Ok(code) => code,
        Err(error) => fail(&error, runs),
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let absolute =
        |path: PathBuf| std::path::absolute(&path).with_context(|| format!("cannot use {}", path.display()));
    let data = args.root.map(absolute).transpose()?;
    let run = args.run_root.map(absolute).transpose()?;
    args.command.run(&Engine::open(data, run)?)
}

/// Prints an error once, with a hint where the book has one, and gives its exit status: Docker's 125 where `run` came to run no
/// container, so that it is told from the container's own, and 1 for every other command.
fn fail(error: &anyhow::Error, runs: bool) -> ExitCode {
    // Rust starts with SIGPIPE ignored: whoever reads has seen enough (`| head`).
    if error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    {
        return ExitCode::SUCCESS;
    }
    let known = error.downcast_ref::<Error>();
    match known {
        _ if error.is::<ids::Told>() => {}
        // The shim has put the report together where it happened.
        Some(Error::Start { message, .. }) => eprint!("{message}"),
        _ => eprint!("{}", step::report(error.as_ref(), &sampan_engine::hints())),
    }
    match known.map_or(125, Error::exit_code) {
        125 if !runs => ExitCode::FAILURE,
        code => ExitCode::from(code),
    }
}
