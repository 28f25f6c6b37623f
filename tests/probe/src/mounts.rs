//! The mounts of this mount namespace. See proc_pid_mountinfo(5).

use std::fs;

use serde::Serialize;

/// One line of `/proc/self/mountinfo`.
#[derive(Serialize)]
pub(crate) struct Mount {
    id: u64,
    parent: u64,
    device: String,
    /// What of the file system is mounted: `/` for the whole.
    pub(crate) root: String,
    pub(crate) target: String,
    options: Vec<String>,
    /// `shared:N`, `master:N`; empty where nothing propagates.
    propagation: Vec<String>,
    pub(crate) fstype: String,
    source: String,
    pub(crate) super_options: Vec<String>,
}

pub(crate) fn read() -> Option<Vec<Mount>> {
    Some(fs::read_to_string("/proc/self/mountinfo").ok()?.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    let mut before = before.split(' ');
    let mut after = after.split(' ');
    Some(Mount {
        id: before.next()?.parse().ok()?,
        parent: before.next()?.parse().ok()?,
        device: before.next()?.to_owned(),
        root: unescape(before.next()?),
        target: unescape(before.next()?),
        options: list(before.next()?),
        propagation: before.map(str::to_owned).collect(),
        fstype: after.next()?.to_owned(),
        source: unescape(after.next()?),
        super_options: list(after.next()?),
    })
}

/// The kernel writes blanks and backslashes of a name as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_propagation_and_a_blank_in_its_target_is_understood() {
        let mount =
            parse("36 35 98:0 /a /mnt\\0402 rw,noatime shared:1 master:2 - ext4 /dev/root rw,errors=x")
                .unwrap();
        assert_eq!((mount.root.as_str(), mount.target.as_str()), ("/a", "/mnt 2"));
        assert_eq!(mount.propagation, ["shared:1", "master:2"]);
        assert_eq!((mount.fstype.as_str(), mount.super_options.len()), ("ext4", 2));
    }
}
