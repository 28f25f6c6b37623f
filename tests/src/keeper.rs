//! The runner's parent: ends what the tests have started, where the runner cannot.
//!
//! A container of a test is made to outlive the command that started it. If the runner ended by Ctrl-C, or by `kill`, nobody would
//! end that container, and it would stay, with its cgroups, which the next run takes for leaked. So the program that Cargo starts
//! runs itself once more as the runner; it is a *subreaper* (prctl(2)) too, and becomes the parent of all that the runner leaves.
//!
//! Signals that end a program are passed on to the runner, which they end. SIGKILL cannot be: `cargo kit clean` is for that.

use std::collections::BTreeSet;
use std::io;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{ask, cgroups};

/// Set for the runner.
pub(crate) const KEPT: &str = "KIT_KEPT";
const PAUSE: Duration = Duration::from_millis(5);

fn endings() -> SigSet {
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM].into_iter().collect()
}

/// Runs this program again, and is left with nothing when it ends.
pub(crate) fn keep() -> io::Result<ExitCode> {
    prctl::set_child_subreaper(true)?;
    endings().thread_block()?;
    let signals = SignalFd::with_flags(&endings(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut command = Command::new(std::env::current_exe()?);
    let runner = command.args(std::env::args_os().skip(1)).env(KEPT, "").spawn()?;
    let runner = Pid::from_raw(runner.id().cast_signed());
    let code = loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == runner => break code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == runner => break 128 + signal as i32,
            Ok(WaitStatus::StillAlive) => match signals.read_signal()? {
                // Where a terminal has sent it, the runner has it twice.
                Some(one) => drop(Signal::try_from(one.ssi_signo.cast_signed()).map(|one| kill(runner, one))),
                None => sleep(PAUSE),
            },
            _ => {}
        }
    };
    end_all();
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// What the runner begins with.
pub(crate) fn begin() -> nix::Result<()> {
    prctl::set_child_subreaper(true)?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    endings().thread_unblock()
}

/// Kills all that is left, and removes its cgroups. Whoever loses its parent comes here, and so in the end all do.
fn end_all() {
    let mut folders = BTreeSet::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => break,
            Ok(WaitStatus::StillAlive) | Err(_) => {
                let me = std::process::id().cast_signed();
                for pid in ask::descendants(me) {
                    folders.extend(cgroups::of_process(pid));
                }
                for pid in ask::children(me) {
                    cgroups::thaw(pid);
                    // It may have ended by itself just now.
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                sleep(PAUSE);
            }
            Ok(_) => {}
        }
    }
    for folder in folders {
        cgroups::remove(&folder);
    }
}
