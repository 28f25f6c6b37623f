//! `kill`: a signal for the container's first process, or for all.
//!
//! Where the container has a pid namespace of its own the kernel ends all with the first. Where it shares one, `--all` reaches those
//! who are in its cgroup, also when the first has ended.
//!
//! A signal is a number here, for the real-time ones have no names of their own: systemd in a container is stopped by 37
//! (SIGRTMIN+3), and Docker and Podman ask for it so. 0 only asks whether the process is there.
//!
//! See signal(7), pidfd_send_signal(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use step::step;

use crate::state::{Record, Status, Store, pidfd};

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
    let status = store.status(&record)?;
    match status {
        Status::Creating => bail!("container {} is still being created", args.id),
        Status::Stopped => bail!(STOPPED),
        Status::Created | Status::Running | Status::Paused => {}
    }
    if !send(&record, signal)? {
        bail!(STOPPED);
    }
    if status == Status::Paused
        && signal == libc::SIGKILL
        && let Some(cgroup) = store.cgroup(&record.id)?
    {
        // In version 1 who stands still does not die. It may be gone by now.
        let _ = cgroup.thaw();
    }
    Ok(0)
}

/// containerd knows an ended container by these words.
const STOPPED: &str = "container not running";

fn kill_all(store: &Store, record: &Record, signal: i32) -> anyhow::Result<()> {
    match store.cgroup(&record.id)? {
        Some(cgroup) => Ok(cgroup.signal(signal)?),
        // Without a cgroup there is the pid namespace, if it is the container's own.
        None => {
            let all = super::ps::members(store, record)?;
            let opened: Vec<_> =
                all.into_iter().filter_map(|pid| Some((pid, pidfd(pid.as_raw())?))).collect();
            // Looked at again: who is a member now has had his number since before it was opened.
            let still = super::ps::members(store, record)?;
            for (pid, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
                deliver(pidfd.as_fd(), pid.as_raw(), signal)?;
            }
            Ok(())
        }
    }
}

/// Sends it by a descriptor; whether the process was there. Between looking and sending the number cannot become another's.
pub(crate) fn send(record: &Record, signal: i32) -> anyhow::Result<bool> {
    match record.pidfd() {
        Some(pidfd) => deliver(pidfd.as_fd(), record.pid, signal).map(|()| true),
        None => Ok(false),
    }
}

/// Sends it to the process of a descriptor, if that is still there.
pub(crate) fn deliver(pidfd: BorrowedFd<'_>, pid: i32, signal: i32) -> anyhow::Result<()> {
    Ok(step(
        "pidfd_send_signal",
        format_args!("{pid} {signal}"),
        "to this process and to no later one of its number",
    )
    .run(|| match pidfd_send_signal(pidfd, signal) {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    })?)
}

#[allow(unsafe_code)]
fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let (info, flags) = (std::ptr::null::<libc::siginfo_t>(), 0);
    // SAFETY: a null `info` is what kill(2) would fill in; the rest are numbers, and the descriptor is open.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, flags) };
    Errno::result(sent).map(drop)
}

fn parse(text: &str) -> anyhow::Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        if !(0..=libc::SIGRTMAX()).contains(&number) {
            bail!("there is no signal {number}");
        }
        return Ok(number);
    }
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse::<Signal>().map(|signal| signal as i32).with_context(|| format!("there is no signal {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_name_or_a_number() {
        for text in ["9", "KILL", "sigkill", "SIGKILL"] {
            assert_eq!(parse(text).unwrap(), libc::SIGKILL);
        }
        assert_eq!((parse("0").unwrap(), parse("37").unwrap(), parse("64").unwrap()), (0, 37, 64));
        for text in ["NO", "65", "-9"] {
            parse(text).unwrap_err();
        }
    }
}
