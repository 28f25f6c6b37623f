//! Two hogs: run it *inside* (`02-namespaces target/kit/rootfs /kit/02-escape`).
//!
//! Namespaces hide the machine; they do not divide it. Whoever cannot see the host's processes can still leave them no memory and
//! no room in the table of processes. So: 1. a fork bomb makes one process after another; 2. a memory hog takes page after
//! page and writes to each, for memory that nobody has touched is only promised.
//!
//! Both are bounded, so that they hurt nobody where nothing stops them: 200 processes and 256 MiB, for a moment.
//!
//! Prints RISK where one of them got all that it wanted, and SAFE where a limit stopped both (chapter 3: `--pids 64 --memory 64m`).

use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pause};

/// More than a limit for one program would allow, and far fewer than a machine has room for.
const PROCESSES: usize = 200;
const MEBIBYTES: usize = 256;

fn main() -> ExitCode {
    let (processes, memory) = match (fork_bomb(), memory_hog()) {
        (Ok(processes), Ok(memory)) => (processes, memory),
        (Err(error), _) | (_, Err(error)) => {
            println!("ERROR: the attack could not be tried: {error}");
            return ExitCode::from(2);
        }
    };
    let told = |stopped: bool, what: String| println!("{}: {what}", if stopped { "SAFE" } else { "RISK" });
    told(processes < PROCESSES, format!("a fork bomb made {processes} of {PROCESSES} processes"));
    told(
        memory < MEBIBYTES,
        match memory {
            MEBIBYTES => format!("a memory hog took {MEBIBYTES} MiB"),
            _ => format!("a memory hog was stopped before it had {MEBIBYTES} MiB"),
        },
    );
    ExitCode::from(u8::from(processes == PROCESSES || memory == MEBIBYTES))
}

/// How many processes could be made. They only wait, and all are ended before this returns.
// ANCHOR: fork_bomb
#[allow(unsafe_code)]
fn fork_bomb() -> Result<usize, Errno> {
    let mut made = Vec::new();
    while made.len() < PROCESSES {
        // SAFETY: this program has one thread, so the child has all that it needs, and it only waits.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => made.push(child),
            Ok(ForkResult::Child) => loop {
                pause();
            },
            // EAGAIN: a limit on processes was reached.
            Err(_) => break,
        }
    }
    for &child in &made {
        end(child)?;
    }
    Ok(made.len())
}
// ANCHOR_END: fork_bomb

/// How many mebibytes a child could take before it had all or was killed: 0 stands for "not all".
// ANCHOR: memory_hog
#[allow(unsafe_code)]
fn memory_hog() -> Result<usize, Errno> {
    // SAFETY: as above; the child may allocate, for no other thread holds the allocator's lock.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let mut taken: Vec<Vec<u8>> = Vec::new();
            for _ in 0..MEBIBYTES {
                // Ones: zeros would be one page of the kernel's, mapped many times.
                taken.push(vec![1; 1 << 20]);
            }
            std::process::exit(i32::from(taken.len() != MEBIBYTES))
        }
        // A limit kills it: SIGKILL, by the kernel's out-of-memory killer.
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(MEBIBYTES),
            _ => Ok(0),
        },
    }
}
// ANCHOR_END: memory_hog

fn end(child: Pid) -> Result<(), Errno> {
    kill(child, Signal::SIGKILL)?;
    waitpid(child, None).map(drop)
}
