//! `kill`: a signal for the container's first process, or for all.
//!
//! Where the container has a pid namespace of its own the kernel ends all with the first. Where it shares one, `--all` reaches those
//! who are in its cgroup, also when the first has ended.

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use step::step;

use crate::state::{Record, Status, Store};

/// `kill [--all] ID [SIGNAL]`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime kill first TERM\n  sampan-runtime kill --all first 9")]
pub(crate) struct Args {
    /// To all processes in the container
    #[arg(short, long)]
    all: bool,
    /// The container's id
    id: String,
    /// A name or a number: TERM, SIGKILL, 9
    #[arg(default_value = "TERM")]
    signal: String,
}

pub(crate) fn kill(store: &Store, args: &Args) -> anyhow::Result<u8> {
    let signal = parse(&args.signal)?;
    let record = store.read(&args.id)?;
    if args.all {
        return kill_all(store, &record, signal).map(|()| 0);
    }
    match store.status(&record)? {
        Status::Creating => bail!("container {} is still being created", args.id),
        Status::Stopped => bail!(STOPPED),
        Status::Created | Status::Running | Status::Paused => {}
    }
    if !send(&record, signal)? {
        bail!(STOPPED);
    }
    Ok(0)
}

/// containerd knows an ended container by these words.
const STOPPED: &str = "container not running";

fn kill_all(store: &Store, record: &Record, signal: Signal) -> anyhow::Result<()> {
    match store.cgroup(&record.id)? {
        Some(cgroup) => Ok(cgroup.signal(signal)?),
        // Without a cgroup there is the pid namespace, if it is the container's own.
        None => {
            let all = super::ps::members(store, record)?;
            if all.is_empty() {
                bail!(STOPPED);
            }
            for pid in all {
                step("kill", format_args!("{pid} {signal}"), "one of all the processes of the container")
                    .run(|| match nix::sys::signal::kill(pid, signal) {
                        Err(nix::errno::Errno::ESRCH) => Ok(()),
                        other => other,
                    })?;
            }
            Ok(())
        }
    }
}

/// Sends it by a descriptor; whether the process was there. Between looking and sending the number cannot become another's.
pub(crate) fn send(record: &Record, signal: Signal) -> anyhow::Result<bool> {
    let Some(pid) = Pid::from_raw(record.pid) else { return Ok(false) };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(false) };
    if !record.lives() {
        return Ok(false);
    }
    let number = rustix::process::Signal::from_named_raw(signal as i32).context("no such signal")?;
    step(
        "pidfd_send_signal",
        format_args!("{} {signal}", record.pid),
        "to this process and to no later one of its number",
    )
    .run(|| pidfd_send_signal(&pidfd, number))?;
    Ok(true)
}

fn parse(text: &str) -> anyhow::Result<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).with_context(|| format!("there is no signal {number}"));
    }
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse().with_context(|| format!("there is no signal {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_name_or_a_number() {
        for text in ["9", "KILL", "sigkill", "SIGKILL"] {
            assert_eq!(parse(text).unwrap(), Signal::SIGKILL);
        }
        parse("NO").unwrap_err();
        parse("0").unwrap_err();
    }
}
