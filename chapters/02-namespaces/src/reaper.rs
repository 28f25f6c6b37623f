//! The init process: forward signals, reap orphans, end as the command ends.
//!
//! Pid 1 is special. 1. The kernel gives it no default action: a signal for which it has no handler is dropped, so a program that
//! relies on SIGTERM to end it cannot be stopped when it is pid 1. 2. Each process whose parent dies becomes its child, and stays a
//! zombie until it is waited for: most programs never do. 3. When it ends, the kernel kills all others. So an init process
//! stands in for the command, which becomes pid 2 with the usual rules.
//!
//! Order: block the signals -> fork the command -> let go of all that is the host's -> read signals from a signalfd one by one.
//!
//! This process never calls exec: it is the runtime process's program still, with its memory. What of that could be seen by
//! those inside is taken away: descriptors, environment, arguments; and where it can be, the right to look at all.
//!
//! See pid_namespaces(7), signalfd(2), waitpid(2), proc_pid_environ(5).

use std::convert::Infallible;
use std::fs;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid, getppid};
use rustix::pipe::PipeFlags;
use rustix::process::DumpableBehavior;
use step::{StepError, step};

use crate::syscalls::{close_from, exit_now, fork, overwrite};
use crate::{ExitStatus, InitEnd, StageError};

/// By this entry of pid 1's environment a container of ours is known from outside.
const MARK: &[u8] = b"container=sampan";

/// Starts the command in a child, stays as pid 1, and exits with the command's status (128+n for signal n).
///
/// # Errors
/// In this process, where the child cannot be made; in the child, what `command` returned.
// ANCHOR: run
pub fn run(
    end: &mut InitEnd,
    command: impl FnOnce() -> Result<Infallible, StageError>,
) -> Result<Infallible, StageError> {
    let signals = handled();
    signals.thread_block().map_err(|errno| StepError::new("sigprocmask", "SIG_BLOCK", errno))?;
    // Closed with all other descriptors, when nothing of the host's is left in pid 1: then the command may look.
    let (gate, held) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| StepError::new("pipe2", "", errno))?;
    let init = getpid();
    let forked = step(
        "fork",
        format_args!(""),
        "the command is pid 2, with the usual rules for signals; this process stays pid 1",
    )
    .run_last(fork)?;
    match forked {
        ForkResult::Child => {
            drop(held);
            rustix::io::retry_on_intr(|| rustix::io::read(&gate, &mut [0]))
                .map_err(|errno| StepError::new("read", "", errno))?;
            signals.thread_unblock().map_err(|errno| StepError::new("sigprocmask", "SIG_UNBLOCK", errno))?;
            // Without a pid namespace of its own the command would outlive this process.
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
                .map_err(|errno| StepError::new("prctl", "PR_SET_PDEATHSIG", errno))?;
            if getppid() != init {
                return Err(StepError::new("prctl", "PR_SET_PDEATHSIG", Errno::ESRCH).into());
            }
            command()
        }
        ForkResult::Parent { child } => match let_go(end, &signals) {
            Ok(source) => serve(&source, child),
            Err(error) => Err(error.into()),
        },
    }
}
// ANCHOR_END: run

/// All but those that a fault of this process raises, and those that stop it: it is stopped with its terminal's other processes.
fn handled() -> SigSet {
    let mut signals = SigSet::all();
    for own in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGABRT,
        Signal::SIGTRAP,
        Signal::SIGSYS,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ] {
        signals.remove(own);
    }
    signals
}

/// Takes away what is the host's in this process.
fn let_go(end: &InitEnd, signals: &SigSet) -> Result<SignalFd, StepError> {
    // Where the container shares the host's pid namespace this process is not pid 1: orphans come to it all the same.
    if getpid().as_raw() != 1 {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| StepError::new("prctl", "PR_SET_CHILD_SUBREAPER", errno))?;
    }
    if end.host_is_root() {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|errno| StepError::new("prctl", "PR_SET_DUMPABLE", errno))?;
    }
    if let Ok(null) = fs::File::options().read(true).write(true).open("/dev/null") {
        // Whoever waits for the end of the command's output must not wait for this process.
        let null = null.as_fd();
        let _ = rustix::stdio::dup2_stdin(null);
        let _ = rustix::stdio::dup2_stdout(null);
        let _ = rustix::stdio::dup2_stderr(null);
    }
    dress();
    close_from(3).map_err(|errno| StepError::new("close_range", "3 ~0", errno))?;
    SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC)
        .map_err(|errno| StepError::new("signalfd", "", errno))
}

// ANCHOR: serve
fn serve(source: &SignalFd, command: Pid) -> ! {
    loop {
        match source.read_signal() {
            Ok(Some(signal)) if is(&signal, Signal::SIGCHLD) => {
                if let Some(status) = reap(command) {
                    exit_now(status.code());
                }
            }
            Ok(Some(signal)) => forward(&signal, command),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(_) => exit_now(125),
        }
    }
}

/// Waits for all children that have ended, its own and those that became its own: one SIGCHLD may stand for many.
fn reap(command: Pid) -> Option<ExitStatus> {
    loop {
        let (ended, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                (pid, ExitStatus::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX)))
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::Signaled(signal as i32)),
            Err(Errno::EINTR) => continue,
            _ => return None,
        };
        if ended == command {
            return Some(status);
        }
    }
}
// ANCHOR_END: serve

/// Passes a signal on to the command; but not one that the kernel sent to all processes of a terminal (Ctrl-C), for the command
/// has had it.
fn forward(signal: &siginfo, command: Pid) {
    let from_terminal = signal.ssi_code == libc::SI_KERNEL;
    let number = i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
    if let Some(signal) = number.filter(|_| !from_terminal) {
        // The command may have ended in this moment: its SIGCHLD is the next to be read.
        let _ = kill(command, signal);
    }
}

fn is(info: &siginfo, signal: Signal) -> bool {
    info.ssi_signo == (signal as i32).cast_unsigned()
}

/// Replaces the host's environment and arguments, which anybody inside could read in `/proc/1`, by a mark and a name.
fn dress() {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let Some([args, args_end, env, env_end]) = memory(&stat) else { return };
    // SAFETY: the kernel says in stat(5) where it has put arguments and environment of this process: on its stack, which is
    // mapped and writable. This process is about to do nothing but `serve`, which reads neither.
    #[allow(unsafe_code)]
    unsafe {
        overwrite(args, args_end, b"sampan-init");
        overwrite(env, env_end, MARK);
    }
    let _ = rustix::thread::set_name(c"sampan-init");
}

/// `arg_start`, `arg_end`, `env_start`, `env_end`: fields 48 to 51 of `/proc/PID/stat`, counted after the name, which may hold
/// anything.
fn memory(stat: &str) -> Option<[usize; 4]> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<usize> =
        rest.split(' ').skip(45).take(4).map_while(|field| field.trim().parse().ok()).collect();
    let [args, args_end, env, env_end] = fields.try_into().ok()?;
    (args != 0 && args <= args_end && args_end <= env && env <= env_end)
        .then_some([args, args_end, env, env_end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_where_the_environment_is() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let [_, _, env, env_end] = memory(&stat).unwrap();
        assert_eq!(env_end - env, fs::read("/proc/self/environ").unwrap().len());
        assert_eq!(memory("1 (a) b) S 0"), None);
    }

    #[test]
    fn faults_and_stops_stay_what_they_are() {
        assert!(handled().contains(Signal::SIGTERM) && handled().contains(Signal::SIGCHLD));
        assert!(!handled().contains(Signal::SIGSEGV) && !handled().contains(Signal::SIGTSTP));
    }
}
