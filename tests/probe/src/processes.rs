//! Which processes can be seen: by `/proc`, or by asking for each number.
//!
//! A container without `/proc` hides no process from whoever calls kill(2): signal 0 only asks whether there is one.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// How far numbers are asked for where there is no `/proc`: the kernel's own default limit is 32768.
const HIGHEST: i32 = 65536;

pub(crate) fn seen() -> (Vec<i32>, &'static str) {
    let mut pids: Vec<i32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    if !pids.is_empty() {
        pids.sort_unstable();
        return (pids, "proc");
    }
    let exists = |pid: &i32| matches!(kill(Pid::from_raw(*pid), None), Ok(()) | Err(Errno::EPERM));
    ((1..HIGHEST).filter(exists).collect(), "kill")
}

/// The value of a field of `/proc/PID/status`.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Seccomp_filters:\t3\nSeccomp:\t2\n";
        assert_eq!(field(status, "Seccomp"), Some("2"));
        assert_eq!(field(status, "Sec"), None);
    }
}
