//! `cargo kit`: look after the machine, the root file system and the tests of this kit.
//!
//! One subcommand a file; each has its own help. In the order in which a learner meets them: [`tour`], [`doctor`], [`setup`],
//! [`mod@test`], [`vm`], [`mod@bench`], [`book`], [`leaks`], [`clean`].

mod bench;
mod book;
mod clean;
mod doctor;
mod host;
mod leaks;
mod mountinfo;
mod netlink;
mod place;
mod setup;
mod test;
mod tour;
mod trial;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Look after the machine, the root file system and the tests of this kit
#[derive(Parser)]
#[command(name = "cargo kit", bin_name = "cargo kit", version, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Doctor(doctor::Args),
    Setup(setup::Args),
    Tour(tour::Args),
    Test(test::Args),
    Vm(vm::Args),
    Bench(bench::Args),
    Book(book::Args),
    Leaks(leaks::Args),
    Clean(clean::Args),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Doctor(args) => doctor::run(&args),
        Command::Setup(args) => setup::run(&args),
        Command::Tour(args) => tour::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Book(args) => book::run(&args),
        Command::Leaks(args) => leaks::run(&args),
        Command::Clean(args) => clean::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprint!("{}", step::report(error.as_ref(), &[]));
        ExitCode::from(125)
    })
}
