//! `cargo kit bench`: what a container or an image costs, measured beside what else is installed here.
//!
//! Numbers of one machine say nothing on another, and of a busy machine nothing at all. So what is compared runs in turn, one of
//! each, round after round: what disturbs one disturbs all. And what it is compared with is the *floor*, a program of the plain
//! system calls (tests/floor.c), below which nobody gets.
//!
//! In reading order: [`start`], [`contestant`], [`bundle`], [`place`], [`measure`], [`memory`], [`result`], [`chart`]; then [`image`], which
//! has modules of its own.

mod bundle;
mod chart;
mod contestant;
mod image;
mod measure;
mod memory;
mod place;
mod result;
mod start;

use std::process::ExitCode;

use anyhow::Result;

/// Measure what containers and images cost, beside other programs that are installed
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Start(start::Args),
    Image(image::Args),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Start(args) => start::run(args),
        What::Image(args) => image::run(args),
    }
}
