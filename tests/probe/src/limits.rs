//! Attempts at memory, processes, processor and disk: what stops them is the cgroup, if anything.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::pause;
use serde_json::json;

use crate::Answer;
use crate::attempt::name;
use crate::child::{in_child, start};

const MEBIBYTE: usize = 1 << 20;
const PAGE: usize = 4096;
/// No attempt harms a machine whose container has no limit.
const MOST_CHILDREN: u64 = 4096;
const REFUSED: i32 = 3;

/// Allocates memory and writes to each page, which is what a cgroup counts.
pub(crate) fn allocate(bytes: u64) -> Answer {
    let outcome = in_child(|| if fill(bytes) { 0 } else { REFUSED });
    let (outcome, signal) = match outcome {
        Ok(WaitStatus::Exited(_, 0)) => ("allocated", None),
        Ok(WaitStatus::Signaled(_, signal, _)) => ("killed", Some(signal.as_str())),
        Ok(_) => ("refused", None),
        Err(errno) => {
            return Answer { json: json!({ "bytes": bytes, "error": format!("{errno:?}") }), done: None };
        }
    };
    Answer {
        done: Some(outcome == "allocated"),
        json: json!({ "bytes": bytes, "outcome": outcome, "signal": signal }),
    }
}

fn fill(bytes: u64) -> bool {
    let Ok(mut left) = usize::try_from(bytes) else { return false };
    let mut held: Vec<Vec<u8>> = Vec::new();
    while left > 0 {
        let size = left.min(MEBIBYTE);
        let mut block = Vec::new();
        if block.try_reserve_exact(size).is_err() {
            return false;
        }
        block.resize(size, 1);
        held.push(black_box(block));
        left -= size;
    }
    true
}

/// Starts processes that wait, until there are `count` or the kernel refuses one; then ends them all.
pub(crate) fn spawn(count: u64) -> Answer {
    let mut children = Vec::new();
    let mut error = None;
    while children.len() as u64 != count.min(MOST_CHILDREN) {
        match start(|| {
            pause();
            0
        }) {
            Ok(pid) => children.push(pid),
            Err(errno) => {
                error = Some(format!("{errno:?}"));
                break;
            }
        }
    }
    for &pid in &children {
        let _ = kill(pid, Signal::SIGKILL);
    }
    for &pid in &children {
        let _ = waitpid(pid, None);
    }
    Answer {
        done: Some(error.is_none()),
        json: json!({ "asked": count, "spawned": children.len(), "error": error }),
    }
}

/// Keeps one thread busy for a time, and tells how much of it the thread ran.
pub(crate) fn burn(milliseconds: u64) -> Answer {
    let cpu = || clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default();
    let (start, before) = (Instant::now(), cpu());
    while start.elapsed() < Duration::from_millis(milliseconds) {
        black_box((0..10_000u64).fold(0, u64::wrapping_add));
    }
    let (wall, used) = (start.elapsed().as_secs_f64(), (cpu() - before).as_secs_f64());
    Answer {
        done: Some(true),
        json: json!({ "wall_seconds": wall, "cpu_seconds": used, "cores": used / wall }),
    }
}

/// Writes a file past the page cache, so that the device's own rate, or its limit, is what is measured.
pub(crate) fn write(bytes: u64, path: &str) -> Answer {
    let start = Instant::now();
    let outcome = write_direct(bytes, path);
    let seconds = start.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(path);
    Answer {
        done: Some(outcome.is_ok()),
        json: json!({
            "bytes": bytes,
            "seconds": seconds,
            "error": outcome.err().map(|error| name(&error)),
        }),
    }
}

fn write_direct(bytes: u64, path: &str) -> io::Result<()> {
    // O_DIRECT wants the buffer at a multiple of the block size, and pieces of that size.
    let buffer = vec![0x5a; 16 * PAGE + PAGE];
    let offset = buffer.as_ptr().align_offset(PAGE);
    let buffer = &buffer[offset..offset + 16 * PAGE];
    let mut file =
        OpenOptions::new().write(true).create(true).custom_flags(OFlag::O_DIRECT.bits()).open(path)?;
    for _ in 0..bytes.div_ceil(buffer.len() as u64) {
        file.write_all(buffer)?;
    }
    file.sync_all()
}
