//! `kill`: a signal for the container's first process.

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use step::step;

use crate::state::{Record, Store, start_time};

/// `kill ID [SIGNAL]`
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// The container's id
    id: String,
    /// A name or a number: TERM, SIGKILL, 9
    #[arg(default_value = "TERM")]
    signal: String,
}

pub(crate) fn kill(store: &Store, args: &Args) -> anyhow::Result<u8> {
    let record = store.read(&args.id)?;
    if !send(&record, parse(&args.signal)?)? {
        bail!("container {} is not running", args.id);
    }
    Ok(0)
}

/// Sends it by a descriptor; whether the process was there. Between looking and sending the number cannot become another's.
pub(crate) fn send(record: &Record, signal: Signal) -> anyhow::Result<bool> {
    let Some(pid) = Pid::from_raw(record.pid) else { return Ok(false) };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(false) };
    if start_time(record.pid) != Some(record.start_time) {
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
