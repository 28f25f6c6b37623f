//! The container: chapter 2's namespaces around chapter 1's command, inside this chapter's cgroup.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::OwnedFd;

use cgroups::{Cgroup, Entrance};
use namespaces::{Error, ExitStatus, Maps, StageError, foreground, plan, reaper, spawn, terminal};

use crate::Result;
use crate::args::Run;

/// Runs the command to its end.
pub(crate) fn run(args: &Run, cgroup: Option<&Cgroup>) -> Result<u8> {
    let entrance = cgroup.map(Cgroup::entrance).transpose()?;
    let directory = || cgroup.map_or(Ok(None), Cgroup::directory);
    let status = match contain(args, &Maps::for_this_user(), directory()?, entrance.as_ref()) {
        Err(error) if plan::cannot_map(&error) => {
            eprintln!(
                "this file system cannot show its files under other ids: root inside is the host's root, without its power"
            );
            contain(args, &Maps::identity(), directory()?, entrance.as_ref())
        }
        other => other,
    };
    Ok(status?.code())
}

// ANCHOR: contain
fn contain(
    args: &Run,
    maps: &Maps,
    directory: Option<OwnedFd>,
    entrance: Option<&Entrance>,
) -> std::result::Result<ExitStatus, Error> {
    let (mut config, inside) = plan::container(&args.rootfs(), &args.share, args.hostname.as_deref(), maps)?;
    config.into_cgroup = directory;
    let created = spawn(&config, |end| {
        // Before the cgroup namespace, whose root is the cgroup in which the process is when it makes one.
        entrance.map_or(Ok(()), Entrance::enter).map_err(StageError::at("cgroup"))?;
        inside.enter()?;
        let terminal = args.tty.then(|| end.open_terminal(terminal::size())).transpose()?;
        end.ready()?;
        end.wait_to_proceed()?;
        if args.no_init {
            return execute(&args.command, terminal);
        }
        reaper::run(end, || execute(&args.command, terminal))
    })?;
    foreground::run(created)
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
