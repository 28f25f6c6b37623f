//! The container: what the chapters so far have made, and a network.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::OwnedFd;

use cgroups::{Cgroup, Entrance};
use namespaces::{Maps, StageError, foreground, plan, reaper, spawn, terminal};

use crate::Result;
use crate::args::Args;
use crate::files::Files;
use crate::mode::Network;
use crate::stack::{self, Stack};

/// Runs the command to its end.
pub(crate) fn run(args: &Args, cgroup: Option<&Cgroup>, network: &Network, files: &Files) -> Result<u8> {
    match contain(args, &Maps::for_this_user(), cgroup, network, files) {
        Err(error) if error.downcast_ref().is_some_and(plan::cannot_map) => {
            eprintln!("note: {}", plan::CANNOT_MAP);
            contain(args, &Maps::identity(), cgroup, network, files)
        }
        other => other,
    }
}

// ANCHOR: contain
fn contain(
    args: &Args,
    maps: &Maps,
    cgroup: Option<&Cgroup>,
    network: &Network,
    files: &Files,
) -> Result<u8> {
    let entrance = cgroup.map(Cgroup::entrance).transpose()?;
    let (mut config, mut inside, stack) = stack::plan(args, maps, network, files)?;
    config.into_cgroup = cgroup.map_or(Ok(None), Cgroup::directory)?;
    network.join(&mut config)?;
    inside.mounts.extend(files.mounts());
    let created = spawn(&config, |end| {
        entrance.as_ref().map_or(Ok(()), Entrance::enter).map_err(StageError::at("cgroup"))?;
        stack.as_ref().map_or(Ok(()), Stack::mount)?;
        inside.enter()?;
        let terminal = args.tty.then(|| end.open_terminal(terminal::size())).transpose()?;
        end.ready()?;
        // The parent's side of the network is made while the mounts were: only now is it needed.
        end.wait_to_proceed()?;
        network.configure().map_err(StageError::at("network"))?;
        if args.no_init {
            return execute(&args.command, terminal);
        }
        reaper::run(end, || execute(&args.command, terminal))
    })?;
    match network.attach(created.pid(), files.path()) {
        Ok(()) => Ok(foreground::run(created)?.code()),
        Err(error) => {
            created.abort()?;
            Err(error)
        }
    }
}
// ANCHOR_END: contain

fn execute(command: &[OsString], terminal: Option<OwnedFd>) -> std::result::Result<Infallible, StageError> {
    if let Some(terminal) = terminal {
        terminal::control(terminal)?;
    }
    let mut command = chroot::Command::new(command);
    command.env.push("container=sampan".into());
    command.exec().map_err(|error| StageError::new("exec", &error, error.exit_code()))
}
