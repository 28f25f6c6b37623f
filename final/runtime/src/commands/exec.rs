//! `exec`: one more process in a running container, with the attributes of its first one.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use oci_spec::runtime::{Capability, LinuxCapabilities, Process};
use sampan_runtime::{Exec, ExecOptions, Started, Stdio, config};

use super::handover::{
    check_console, console_size, descriptors, send_pidfd, send_terminal, window, write_pid,
};
use super::{foreground, kill};
use crate::log::Log;
use crate::state::{Status, Store};

/// `exec [--tty] [--detach] [--user UID] [--cwd DIR] [--env NAME=VALUE] ID COMMAND...`, or `exec --process FILE ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "Example:\n  sampan-runtime exec --tty first sh\n  sampan-runtime exec --user 1000:1000 --env A=b first env"
)]
pub(crate) struct Args {
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// Come back when the command runs
    #[arg(short, long)]
    detach: bool,
    /// Write the process's id into this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send the terminal's master side to this UNIX socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Send a descriptor of the process to this UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// The whole process, as `process` in config.json has it, from this file
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    process: Option<PathBuf>,
    /// The working directory, in place of the container's
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// A variable beside the container's
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The user and group, by number
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// One more group
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// One more capability
    #[arg(short, long, value_name = "CAP_NAME")]
    cap: Vec<String>,
    /// No program that it runs gives it more rights than it has
    #[arg(long)]
    no_new_privs: bool,
    /// Its AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Its SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// So many descriptors from 3 on are the command's too
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u16,
    /// In this cgroup below the container's, which is there; of one hierarchy of version 1 where its controller is named
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup: Vec<String>,
    /// Also where the container is paused: it then begins when that is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// The container's id
    id: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required_unless_present = "process")]
    command: Vec<String>,
}

pub(crate) fn exec(store: &Store, log: &Log, args: &Args) -> anyhow::Result<u8> {
    let record = store.read(&args.id)?;
    match store.status(&record)? {
        Status::Running | Status::Created => {}
        Status::Paused if args.ignore_paused => {}
        Status::Paused => bail!("cannot exec in a paused container (use --ignore-paused to override)"),
        Status::Creating => bail!("container {} is still being created", args.id),
        Status::Stopped => bail!("cannot exec in a stopped container: container {} is not running", args.id),
    }
    let spec = store.spec(&args.id)?;
    let mut process = process(log, args, spec.process().as_ref())?;
    let terminal = process.terminal().unwrap_or(false);
    check_console(terminal, args.detach, args.console_socket.as_ref())?;
    let preserve_fds = descriptors(args.preserve_fds, &mut process)?;
    let size = if args.detach { console_size(Some(&process)) } else { window(Some(&process)) };
    let stdio = if terminal { Stdio::Terminal(size) } else { Stdio::Inherit };
    let options = ExecOptions {
        detach: args.detach,
        preserve_fds,
        cgroup: args.cgroup.clone(),
        bundle: record.bundle.clone(),
    };
    if !args.detach {
        foreground::block(terminal)?;
    }
    let init = record.pidfd().with_context(|| format!("container {} is not running", args.id))?;
    let mut started =
        sampan_runtime::exec(Exec { id: &args.id, init, spec: &spec, process: &process, stdio, options })?;
    if let Err(error) = tell(args, &mut started) {
        // As it is with a container: whoever is not told of it has none.
        let _ = kill::deliver(started.pidfd(), started.pid(), libc::SIGKILL);
        let _ = started.wait();
        return Err(error);
    }
    if args.detach { Ok(0) } else { Ok(foreground::attend(&mut started, terminal)?.exit_code()) }
}

/// What the caller wants to have of it.
fn tell(args: &Args, started: &mut Started) -> anyhow::Result<()> {
    if let Some(socket) = &args.console_socket
        && let Some(terminal) = started.terminal()
    {
        send_terminal(&terminal, socket)?;
    }
    if let Some(socket) = &args.pidfd_socket {
        send_pidfd(started.pidfd(), socket)?;
    }
    if let Some(path) = &args.pid_file {
        write_pid(path, started.pid())?;
    }
    Ok(())
}

/// What the flags say of it, on top of the container's first process; or the file's.
fn process(log: &Log, args: &Args, first: Option<&Process>) -> anyhow::Result<Process> {
    if let Some(path) = &args.process {
        let text = fs::read(path).with_context(|| format!("cannot read {path:?}"))?;
        let (mut process, warnings) =
            config::parse_process(&text).with_context(|| format!("{path:?} is no process"))?;
        warnings.iter().for_each(|warning| log.warn(warning));
        first.into_iter().for_each(|first| confine(&mut process, first));
        return Ok(process);
    }
    let mut process = first.cloned().context("config.json has no process")?;
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    let mut user = process.user().clone();
    if let Some(text) = &args.user {
        let (uid, gid) = ids(text)?;
        user.set_uid(uid);
        gid.into_iter().for_each(|gid| {
            user.set_gid(gid);
        });
    }
    if !args.additional_gids.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&args.additional_gids);
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
    if !args.cap.is_empty() {
        let sets = process.capabilities().clone().unwrap_or_default();
        process.set_capabilities(Some(with(sets, &args.cap)?));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if args.apparmor.is_some() {
        process.set_apparmor_profile(args.apparmor.clone());
    }
    if args.process_label.is_some() {
        process.set_selinux_label(args.process_label.clone());
    }
    Ok(process)
}

/// What confines a process and is not said of this one is as it is for the first, as runc has it. `noNewPrivileges` is always said.
fn confine(process: &mut Process, first: &Process) {
    let named = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
    if process.capabilities().is_none() {
        process.set_capabilities(first.capabilities().clone());
    }
    if !named(process.apparmor_profile()) {
        process.set_apparmor_profile(first.apparmor_profile().clone());
    }
    if !named(process.selinux_label()) {
        process.set_selinux_label(first.selinux_label().clone());
    }
    if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
        process.set_rlimits(first.rlimits().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(first.oom_score_adj());
    }
}

/// `UID` or `UID:GID`.
fn ids(text: &str) -> anyhow::Result<(u32, Option<u32>)> {
    let number = |text: &str| text.parse().with_context(|| format!("--user {text:?}: a number is needed"));
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

/// Adds capabilities to the sets in which a program has them; not to the inheritable one (CVE-2022-29162).
fn with(mut sets: LinuxCapabilities, names: &[String]) -> anyhow::Result<LinuxCapabilities> {
    let mut added = Vec::new();
    for name in names {
        let upper = name.to_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let capability: Capability = plain.parse().ok().with_context(|| format!("no capability {name:?}"))?;
        added.push(capability);
    }
    let join = |old: &Option<std::collections::HashSet<Capability>>| {
        let mut set = old.clone().unwrap_or_default();
        set.extend(added.iter().copied());
        Some(set)
    };
    let (bounding, effective, permitted) =
        (join(sets.bounding()), join(sets.effective()), join(sets.permitted()));
    sets.set_bounding(bounding);
    sets.set_effective(effective);
    sets.set_permitted(permitted);
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_with_a_group_or_without() {
        assert_eq!(ids("7").unwrap(), (7, None));
        assert_eq!(ids("7:8").unwrap(), (7, Some(8)));
        ids("root").unwrap_err();
        ids("7:").unwrap_err();
    }

    #[test]
    fn a_capability_is_added_and_not_inherited() {
        let sets =
            with(LinuxCapabilities::default(), &["cap_sys_admin".to_owned(), "KILL".to_owned()]).unwrap();
        let has = |set: &Option<std::collections::HashSet<Capability>>| {
            set.as_ref().is_some_and(|set| set.contains(&Capability::SysAdmin))
        };
        assert!(has(sets.bounding()) && has(sets.effective()) && has(sets.permitted()));
        assert!(!has(sets.inheritable()));
        with(LinuxCapabilities::default(), &["NO_SUCH".to_owned()]).unwrap_err();
    }
}
