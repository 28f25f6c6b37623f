//! `cargo kit book`: build the book, and show it.
//!
//! The builder holds mdBook and is a package of its own, so that only who wants the book waits for it to compile.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::place;

/// Build the book into target/book; `serve` shows it on 127.0.0.1
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo kit book serve 3000")]
pub(crate) struct Args {
    /// `serve [PORT]`
    #[arg(trailing_var_arg = true, value_name = "ACTION")]
    action: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut cargo = place::cargo();
    cargo.args(["run", "--quiet", "--package", "book-builder", "--"]).args(&args.action);
    let status = cargo.status().context("run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
