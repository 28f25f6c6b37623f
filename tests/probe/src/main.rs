//! `probe`: run inside a container: what can it see, and what can it do? As JSON.
//!
//! Without a subcommand it prints a [`Report`](report::Report). With one it tries a thing and says how that went: the
//! kernel's answer, not a container's promise. It is static, needs no other file, and works also where no `/proc` is mounted:
//! what cannot be read is `null`.
//!
//! ```text
//! probe                       what is seen
//! probe reach PATH            can the path be looked up?
//! probe identity PATH         device and inode behind a path
//! probe change PATH           append a line to a file and read it back: a copy is made, if the file lies in a lower layer
//! probe connect ADDR:PORT [udp]   does a connection, or an answer, come?
//! probe listen PORT [udp]     answer every peer with this host's name, until killed
//! probe allocate BYTES        is an allocation refused, or its process killed?
//! probe spawn N               how many processes may there be?
//! probe burn MILLISECONDS     how many cores does one busy thread get?
//! probe write BYTES PATH      how long does writing past the page cache take?
//! probe syscall NAME          does the kernel refuse this call? (unshare, mount)
//! probe call NUMBER [ARG...]  what does the kernel answer to a system call with these numbers?
//! probe hunt MILLISECONDS NAME    what can be had of processes of this name that come by?
//! probe notify TEXT...       can each text, with a descriptor, be sent to NOTIFY_SOCKET? (`\n` in it begins a new line)
//! probe session [TAG]         one of the above a line on standard input, until its end; TAG is for whoever searches /proc
//! ```
//!
//! Each answer is one line. Exit status: 0 the thing could be done, 1 it could not, 2 it could not be tried.

mod attack;
mod attempt;
mod cgroup;
mod child;
mod descriptors;
mod limits;
mod mounts;
mod network;
mod processes;
mod report;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

/// What one attempt came to.
struct Answer {
    json: Value,
    /// Whether the thing could be done; none where it could not be tried.
    done: Option<bool>,
}

fn main() -> ExitCode {
    // First of all: whatever this program opens later is not the container's.
    let descriptors = descriptors::open();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let answer = match words.as_slice() {
        [] => Answer { json: json!(report::Report::read(descriptors)), done: Some(true) },
        ["session"] | ["session", _] => return session(&descriptors),
        words => attempt(words),
    };
    say(&answer.json);
    match answer.done {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::from(1),
        None => ExitCode::from(2),
    }
}

/// Takes commands line by line, so that somebody outside can look at this process between two of them.
fn session(descriptors: &[descriptors::Descriptor]) -> ExitCode {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            // In a child, so that the session goes on while it listens; its first line is the answer.
            ["listen", ..] => {
                let _ = child::start(|| {
                    say(&attempt(&words).json);
                    1
                });
            }
            ["report"] => say(&json!(report::Report::read(descriptors.to_vec()))),
            words => say(&attempt(words).json),
        }
    }
    ExitCode::SUCCESS
}

fn attempt(words: &[&str]) -> Answer {
    match words {
        ["reach", path] => attempt::reach(path),
        ["identity", path] => attempt::identity(path),
        ["change", path] => attempt::change(path),
        ["connect", address] => network::connect(address, false),
        ["connect", address, "udp"] => network::connect(address, true),
        ["listen", port] => network::listen(port, false),
        ["listen", port, "udp"] => network::listen(port, true),
        ["allocate", bytes] => number(bytes, limits::allocate),
        ["spawn", count] => number(count, limits::spawn),
        ["burn", milliseconds] => number(milliseconds, limits::burn),
        ["write", bytes, path] => number(bytes, |bytes| limits::write(bytes, path)),
        ["syscall", name] => attempt::syscall(name),
        ["call", words @ ..] => attack::call(words),
        ["notify", texts @ ..] => attempt::notify(texts),
        ["hunt", milliseconds, name] => number(milliseconds, |time| attack::hunt(time, name)),
        _ => Answer { json: json!({ "error": format!("no such command: {}", words.join(" ")) }), done: None },
    }
}

fn number(text: &str, then: impl FnOnce(u64) -> Answer) -> Answer {
    match text.parse() {
        Ok(number) => then(number),
        Err(_) => Answer { json: json!({ "error": format!("not a number: {text}") }), done: None },
    }
}

/// A reader that has gone away is no reason to fail: the line is lost with it.
fn say(json: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{json}").and_then(|()| out.flush());
}
