//! Questions to the kernel.

use std::error::Error;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The inode of a namespace of a process, from `/proc/PID/ns`: two processes are in one namespace when it is the same number.
/// `kind` is the name there (`"net"`, `"mnt"`). See namespaces(7).
///
/// # Errors
/// Where the process is gone, or may not be looked at.
pub fn ns_inode(pid: i32, kind: &str) -> Result<u64, Box<dyn Error>> {
    let path = format!("/proc/{pid}/ns/{kind}");
    let link = fs::read_link(&path).map_err(|error| format!("{path}: {error}"))?;
    let text = link.to_string_lossy();
    let number = text.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
    Ok(number.ok_or_else(|| format!("{path} is {text}"))?.parse()?)
}

/// Asks again and again, until it is so or the limit has passed.
///
/// # Errors
/// That it never was so: names `what`.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> bool,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    while !is_so() {
        if start.elapsed() > limit {
            return Err(format!("after {limit:?} still not so: {what}").into());
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(25));
    }
    Ok(())
}

/// The ids of all processes whose parent is `parent`, from `/proc/PID/stat`. See proc_pid_stat(5).
pub fn children(parent: i32) -> Vec<i32> {
    processes().into_iter().filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

/// All processes that descend from `ancestor`, nearest first.
pub fn descendants(ancestor: i32) -> Vec<i32> {
    let pairs: Vec<_> =
        processes().into_iter().filter_map(|pid| parent_of(pid).map(|parent| (pid, parent))).collect();
    let mut found = vec![ancestor];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(pairs.iter().filter(|pair| pair.1 == parent).map(|pair| pair.0));
        next += 1;
    }
    found.remove(0);
    found
}

/// The arguments of a process as one line; its name in brackets where it has none, as for one that has ended.
pub fn command_line(pid: i32) -> String {
    let read = |file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    if arguments.trim().is_empty() {
        format!("[{}]", String::from_utf8_lossy(&read("comm")).trim())
    } else {
        arguments.trim().to_owned()
    }
}

/// The environment that a process was started with, as its one text with NUL bytes: read until it is one, for the kernel shows an
/// empty one while it loads a program, and that a little longer than the old arguments.
pub fn environment(pid: i32) -> String {
    let mut text = String::new();
    // One that stays empty is what the caller is to see.
    let _ = wait_until("there is an environment", Duration::from_secs(60), || {
        let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        text = String::from_utf8_lossy(&bytes).into_owned();
        !text.is_empty()
    });
    text
}

/// Whether the process's group is the foreground one of its terminal: whom Ctrl-C and Ctrl-Z reach.
pub fn in_foreground(pid: i32) -> bool {
    let stat = stat(pid).unwrap_or_default();
    let mut fields = stat.split_whitespace().skip(2);
    let (group, foreground) = (fields.next(), fields.nth(2));
    group.is_some() && group == foreground
}

/// The process's state letter (`R`, `S`, `T`, `Z`); none where it is gone.
pub fn state(pid: i32) -> Option<char> {
    stat(pid)?.chars().next()
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    stat(pid)?.split_whitespace().nth(1)?.parse().ok()
}

/// What follows the name, which may itself hold spaces and brackets.
fn stat(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_a_child_of_its_parent() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(children(parent_of(me).unwrap()).contains(&me));
        assert!(ns_inode(me, "net").unwrap() > 0);
        assert!(state(me).is_some());
    }

    #[test]
    fn what_never_comes_is_named() {
        let error = wait_until("the moon is green", Duration::ZERO, || false).unwrap_err();
        assert!(error.to_string().contains("the moon is green"));
    }
}
