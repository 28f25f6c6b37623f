//! `01-chroot`: run a command with another root directory.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use chroot::{Command, Error, HINTS, Unpack, user};
use clap::Parser;
use nix::unistd::geteuid;

/// Run a command with another root directory
///
/// The process sees the tree under ROOTFS as "/". Everything else, processes, host name, network, is still the host's.
#[derive(Parser)]
#[command(version, after_help = "Example, after `cargo kit setup`:\n  01-chroot target/kit/rootfs /bin/ls /")]
struct Args {
    /// Unpack this tar archive into ROOTFS first; ROOTFS must be empty or not there
    #[arg(long, value_name = "ARCHIVE")]
    tar: Option<PathBuf>,
    /// Tell each step and why it is made, on standard error
    #[arg(long)]
    explain: bool,
    /// The folder that becomes the root directory
    rootfs: PathBuf,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "/bin/sh")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.explain
        && let Err(error) = step::explain()
    {
        eprintln!("warning: --explain is silent: {error}");
    }
    let Err(error) = run(&args);
    eprint!("{}", step::report(&error, &[HINTS]));
    ExitCode::from(error.exit_code())
}

// ANCHOR: main
fn run(args: &Args) -> Result<Infallible, Error> {
    if let Some(tar) = &args.tar {
        chroot::unpack(tar, &args.rootfs, &Unpack::default())?;
    }
    if !geteuid().is_root() {
        eprintln!("not root: chroot is called in a user namespace of its own (chapter 2 explains it)");
        user::become_root()?;
    }
    chroot::enter(&args.rootfs)?;
    Command::new(&args.command).exec()
}
// ANCHOR_END: main
