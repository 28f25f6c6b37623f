//! `05-network`: run a command in a container with a network of its own.

mod args;
mod container;
mod files;
mod mode;
mod stack;

use std::error::Error;
use std::path::Path;
use std::process::{self, ExitCode};

use args::Args;
use cgroups::{Cgroup, Hierarchies};
use clap::Parser;
use files::Files;
use mode::Network;
use nix::unistd::geteuid;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.explain
        && let Err(error) = step::explain()
    {
        eprintln!("warning: --explain is silent: {error}");
    }
    match run(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let hints = [network::HINTS, unionfs::HINTS, cgroups::HINTS, namespaces::HINTS, chroot::HINTS];
            eprint!("{}", step::report(&*error, &hints));
            ExitCode::from(error.downcast_ref().map_or(125, namespaces::Error::exit_code))
        }
    }
}

// ANCHOR: main
fn run(args: &Args) -> Result<u8> {
    args.check()?;
    let network = Network::prepare(args)?;
    let outcome = Files::make(args, &network).and_then(|files| {
        let cgroup = make_cgroup(args)?;
        let outcome = container::run(args, cgroup.as_ref(), &network, &files);
        if let Some(cgroup) = cgroup {
            if let Some(verdict) = cgroup.stats().verdict() {
                eprintln!("limits: {verdict}");
            }
            cgroup.remove()?;
        }
        files.remove()?;
        outcome
    });
    network.remove()?;
    outcome
}
// ANCHOR_END: main

fn make_cgroup(args: &Args) -> Result<Option<Cgroup>> {
    let limits = args.limits();
    let name = format!("05-network-{}", process::id());
    let made = Hierarchies::find(Path::new("/proc/self"))
        .and_then(|hierarchies| Cgroup::create(&hierarchies, &name, &limits));
    match made {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(error) if limits.is_empty() && !geteuid().is_root() => {
            eprintln!("without a cgroup of its own, for no limit was asked for: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
