//! The container: what the chapters so far have made, and a network.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::OwnedFd;

use cgroups::{Cgroup, Entrance};
use namespaces::{Maps, Rootfs, StageError, foreground, plan, reaper, spawn, terminal};

use crate::Result;
use crate::args::Args;
use crate::files::Files;
use crate::mode::Network;

/// Runs the command to its end.
pub(crate) fn run(args: &Args, cgroup: Option<&Cgroup>, network: &Network, files: &Files) -> Result<u8> {
    // An overlay takes its layers' owners as they are.
    let maps = if files.overlay().is_some() { Maps::identity() } else { Maps::for_this_user() };
    match contain(args, &maps, cgroup, network, files) {
        Err(error) if error.downcast_ref().is_some_and(plan::cannot_map) => {
            eprintln!(
                "this file system cannot show its files under other ids: root inside is the host's root, without its power"
            );
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
    let (mut config, mut inside) =
        plan::container(&args.rootfs, network.shared(), args.hostname.as_deref(), maps)?;
    config.into_cgroup = cgroup.map_or(Ok(None), Cgroup::directory)?;
    network.join(&mut config)?;
    inside.mounts.extend(files.mounts());
    let overlay = files.overlay();
    let created = spawn(&config, |end| {
        entrance.as_ref().map_or(Ok(()), Entrance::enter).map_err(StageError::at("cgroup"))?;
        if let Some((overlay, merged)) = &overlay {
            namespaces::inside::private()?;
            overlay.mount(merged).map_err(|error| StageError::new("overlay", &error, error.exit_code()))?;
            inside.rootfs = Rootfs::Mounted(merged.clone());
        }
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
