//! The mounts of this mount namespace, as far as the kit asks for them. See proc_pid_mountinfo(5).

use std::fs;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub(crate) target: PathBuf,
    /// The kind of file system: `ext4`, `cgroup2`.
    pub(crate) fstype: String,
    /// The file system's own options.
    pub(crate) options: Vec<String>,
}

/// The mounts that a process sees whose directory is given (`/proc/self`); the oldest first.
pub(crate) fn read(process: &Path) -> Vec<Mount> {
    parse(&fs::read_to_string(process.join("mountinfo")).unwrap_or_default())
}

fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    Some(Mount {
        target: unescape(before.split(' ').nth(4)?),
        fstype: after.next()?.to_owned(),
        options: after.nth(1)?.split(',').map(str::to_owned).collect(),
    })
}

/// The kernel writes a blank as `\040`.
fn unescape(text: &str) -> PathBuf {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(text.to_owned(), |text, (code, character)| text.replace(code, character)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_optional_columns_are_understood() {
        let mounts = parse(
            "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
             38 31 0:35 / /a\\040b rw - cgroup cgroup rw,memory\nnonsense\n",
        );
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].target.as_path(), mounts[0].fstype.as_str()), (Path::new("/"), "ext4"));
        assert_eq!(
            (mounts[1].target.as_path(), mounts[1].options[1].as_str()),
            (Path::new("/a b"), "memory")
        );
    }
}
