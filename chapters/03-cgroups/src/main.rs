//! `03-cgroups`: run a command in a container that may use so much and no more.

mod args;
mod container;

use std::error::Error;
use std::path::Path;
use std::process::{self, ExitCode};

use args::{Arguments, Verb};
use cgroups::{Cgroup, Hierarchies, cgroup};
use clap::Parser;
use nix::unistd::Pid;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args = Arguments::parse();
    if args.run.explain
        && let Err(error) = step::explain()
    {
        eprintln!("warning: --explain is silent: {error}");
    }
    match if args.verb.is_some() { look(&args) } else { run(&args) } {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprint!("{}", step::report(&*error, &[cgroups::HINTS, namespaces::HINTS, chroot::HINTS]));
            ExitCode::from(error.downcast_ref().map_or(125, namespaces::Error::exit_code))
        }
    }
}

// ANCHOR: main
fn run(args: &Arguments) -> Result<u8> {
    let limits = args.limits.limits();
    let name = format!("03-cgroups-{}", process::id());
    let cgroup = Hierarchies::find(Path::new("/proc/self"))
        .and_then(|hierarchies| Cgroup::create(&hierarchies, &name, &limits));
    let cgroup = match cgroup {
        Ok(cgroup) => Some(cgroup),
        Err(error) if limits.is_empty() => {
            eprintln!("without a cgroup of its own, for no limit was asked for: {error}");
            None
        }
        Err(error) => return Err(error.into()),
    };
    let outcome = container::run(&args.run, cgroup.as_ref());
    if let Some(cgroup) = cgroup {
        if let Some(verdict) = cgroup.stats().verdict() {
            eprintln!("limits: {verdict}");
        }
        cgroup.remove()?;
    }
    outcome
}
// ANCHOR_END: main

fn look(args: &Arguments) -> Result<u8> {
    let open = |container: &str| -> Result<Cgroup> {
        let hierarchies = Hierarchies::find(Path::new("/proc/self"))?;
        let Ok(pid) = container.parse() else { return Ok(Cgroup::open(&hierarchies, container)?) };
        if let Ok(cgroup) = Cgroup::open(&hierarchies, &format!("03-cgroups-{pid}")) {
            return Ok(cgroup);
        }
        let name = cgroup::name_of(Path::new("/proc"), Pid::from_raw(pid))?;
        Ok(Cgroup::open(&hierarchies, &name)?)
    };
    match &args.verb {
        Some(Verb::Stats { container }) => print!("{}", open(container)?.stats()),
        Some(Verb::Update { container, limits }) => open(container)?.update(&limits.limits())?,
        Some(Verb::Freeze { container }) => open(container)?.freeze()?,
        Some(Verb::Thaw { container }) => open(container)?.thaw()?,
        None => {}
    }
    Ok(0)
}
