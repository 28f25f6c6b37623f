//! What an attacker tries: any system call by its number, and the host's program while it is inside.

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::WaitStatus;
use serde_json::json;

use crate::Answer;
use crate::child::in_child;

/// Makes a system call by its number, in a child, for it may be killed. A number as an argument is passed as it is.
pub(crate) fn call(words: &[&str]) -> Answer {
    let numbers: Option<Vec<libc::c_long>> = words.iter().map(|word| number(word)).collect();
    let Some((call, rest)) = numbers.as_deref().and_then(<[libc::c_long]>::split_first) else {
        return Answer { json: json!({ "error": "call takes numbers" }), done: None };
    };
    let mut args = [0; 6];
    for (to, from) in args.iter_mut().zip(rest) {
        *to = *from;
    }
    let ended = in_child(|| {
        let [a, b, c, d, e, f] = args;
        // SAFETY: this child has one thread and ends right after: whatever the call does to its memory, nobody reads it, and an
        // address that is none gives EFAULT.
        let result = unsafe { libc::syscall(*call, a, b, c, d, e, f) };
        if result < 0 { Errno::last_raw() } else { 0 }
    });
    match ended {
        Ok(WaitStatus::Exited(_, errno)) => Answer {
            done: Some(errno == 0),
            json: json!({ "call": call, "errno": (errno != 0).then(|| format!("{:?}", Errno::from_raw(errno))) }),
        },
        Ok(status) => {
            Answer { json: json!({ "call": call, "errno": format!("{status:?}") }), done: Some(false) }
        }
        Err(errno) => Answer { json: json!({ "error": format!("{errno:?}") }), done: None },
    }
}

fn number(word: &str) -> Option<libc::c_long> {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(u64::cast_signed),
        None => word.parse().ok(),
    }
}

/// Looks for processes of this name, until the time is over, and takes from each whatever `/proc` gives: its program, its open
/// files, its root, its memory; and tries to trace it.
pub(crate) fn hunt(milliseconds: u64, name: &str) -> Answer {
    let end = Instant::now() + Duration::from_millis(milliseconds);
    let (mut seen, mut taken) = (BTreeSet::new(), BTreeSet::new());
    while Instant::now() < end {
        for pid in fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name()) {
            let Some(pid) = pid.to_str().filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())) else {
                continue;
            };
            let comm = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if !comm().contains(name) {
                continue;
            }
            seen.insert(pid.to_owned());
            let found = take(pid);
            // What it became in the meantime may be looked at.
            if comm().contains(name) {
                taken.extend(found);
            }
        }
    }
    Answer { done: Some(!taken.is_empty()), json: json!({ "seen": seen.len(), "taken": taken }) }
}

fn take(pid: &str) -> Vec<String> {
    let at = |file: &str| format!("/proc/{pid}/{file}");
    let mut taken = Vec::new();
    let mut tried = |what: &str, outcome: io::Result<()>| {
        if outcome.is_ok() {
            taken.push(what.to_owned());
        }
    };
    tried("exe", fs::File::open(at("exe")).map(drop));
    tried("root", fs::read_dir(at("root/")).map(drop));
    tried("cwd", fs::read_dir(at("cwd/")).map(drop));
    tried("environ", fs::read(at("environ")).map(drop));
    tried("memory", fs::OpenOptions::new().write(true).open(at("mem")).map(drop));
    // Their numbers can be had, but neither where they lead nor the files.
    let leads = |number: i32| fs::read_link(at(&format!("fd/{number}")));
    tried(
        "descriptors",
        (0..64).map(leads).find(Result::is_ok).map_or(Err(io::ErrorKind::NotFound.into()), |_| Ok(())),
    );
    let number: libc::c_long = pid.parse().unwrap_or_default();
    // SAFETY: PTRACE_SEIZE takes no address; the process that it would trace is let go at once.
    let traced = unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, number, 0, 0) } == 0;
    if traced {
        // SAFETY: the same.
        unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_DETACH, number, 0, 0) };
        taken.push("trace".to_owned());
    }
    taken
}
