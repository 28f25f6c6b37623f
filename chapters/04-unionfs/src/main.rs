//! `04-unionfs`: run a command over layers that it cannot change, and see what it changed.

mod args;
mod container;
mod layers;

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use args::{Arguments, Look, Verb};
use cgroups::Cgroup;
use clap::Parser;
use layers::{Layers, as_root_of_the_files};
use unionfs::{Kind, changes, write_diff};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args = Arguments::parse();
    if args.explain
        && let Err(error) = step::explain()
    {
        eprintln!("warning: --explain is silent: {error}");
    }
    let outcome = match &args.verb {
        Some(Verb::Changes(look)) => inspect(look, list),
        Some(Verb::Diff(look)) => inspect(look, pack),
        None => run(&args),
    };
    ExitCode::from(outcome.unwrap_or_else(|error| {
        let hints = [unionfs::HINTS, cgroups::HINTS, namespaces::HINTS, chroot::HINTS];
        eprint!("{}", step::report(&*error, &hints));
        error.downcast_ref().map_or(125, namespaces::Error::exit_code)
    }))
}

// ANCHOR: main
fn run(args: &Arguments) -> Result<u8> {
    let userxattr = !args.run.share.contains(&namespaces::Kind::User);
    let layers = Layers::open(&args.stack.layers, userxattr)?;
    let outcome = layers.upper(args.stack.upper.as_deref()).and_then(|upper| {
        let cgroup = args.run.cgroup()?;
        let outcome = container::run(args, &layers, &upper, cgroup.as_ref());
        cgroup.map_or(Ok(()), Cgroup::remove)?;
        if !upper.temporary && !args.stack.index {
            upper.remove_work()?;
        }
        outcome
    });
    layers.remove()?;
    outcome
}
// ANCHOR_END: main

fn inspect(look: &Look, work: impl FnOnce(&Look, &Layers) -> Result<()>) -> Result<u8> {
    let layers = Layers::open(&look.layers, !look.trusted)?;
    let outcome = as_root_of_the_files(|| work(look, &layers));
    layers.remove()?;
    outcome.map(|()| 0)
}

fn list(look: &Look, layers: &Layers) -> Result<()> {
    let mut out = io::stdout().lock();
    for change in changes(&look.upper, !look.trusted, &layers.lower)? {
        let letter = match change.kind {
            Kind::Added => 'A',
            Kind::Modified => 'C',
            Kind::Deleted => 'D',
        };
        writeln!(out, "{letter} /{}", change.path.display())?;
    }
    Ok(())
}

fn pack(look: &Look, layers: &Layers) -> Result<()> {
    Ok(write_diff(&look.upper, !look.trusted, &layers.lower, io::stdout().lock())?)
}
