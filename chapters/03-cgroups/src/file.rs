//! The files of a cgroup: how a setting is written and a number read.
//!
//! A cgroup has no system calls of its own. mkdir(2) makes one, rmdir(2) removes it, and everything else is a line of text in a
//! file of its directory. Three forms are read: a single number, or the word `max`; *flat keyed* lines, `oom_kill 3`; and
//! *nested keyed* lines, `254:0 rbytes=1 wbytes=2`.
//!
//! What is to be written is planned first, as data, and so can be tested without a kernel; then it is written file by file.
//!
//! See cgroups(7); kernel: Documentation/admin-guide/cgroup-v2.rst, "Format".

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use step::step;

use crate::Error;

/// One write to a file of a cgroup that is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The file's name in the cgroup's directory.
    pub file: String,
    /// The text to write.
    pub value: String,
    /// Why it is written, for `--explain`.
    pub why: &'static str,
    /// What to do where the kernel does not have the file.
    pub missing: Missing,
}

/// What it means that a kernel has no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The user did not ask for this one: do without it.
    Skip,
    /// The user asked for `limit`, and `remedy` would bring the file.
    Refuse {
        /// The limit as the user types it.
        limit: &'static str,
        /// What would bring the file.
        remedy: &'static str,
    },
}

impl Setting {
    /// A setting that the user asked for by `limit`.
    pub fn new(
        file: impl Into<String>,
        value: &impl ToString,
        limit: &'static str,
        why: &'static str,
    ) -> Self {
        let missing = Missing::Refuse { limit, remedy: "this kernel was built without it" };
        Self { file: file.into(), value: value.to_string(), why, missing }
    }

    /// The same, with another word for a kernel that does not have the file.
    pub fn missing(self, missing: Missing) -> Self {
        Self { missing, ..self }
    }

    /// Writes the setting into the cgroup `dir`.
    ///
    /// # Errors
    /// [`Error::NoFile`] where the kernel has no such file and the user asked for it; else the write that failed.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(&self.file);
        if !path.exists() {
            return match self.missing {
                Missing::Skip => Ok(()),
                Missing::Refuse { limit, remedy } => Err(Error::NoFile { limit, path, remedy }),
            };
        }
        write(dir, &self.file, &self.value, self.why)
    }
}

/// Writes `value` into the file `name` of the cgroup `dir`, in one write(2): a cgroup's file takes each write as one command.
pub(crate) fn write(dir: &Path, name: &str, value: &str, why: &'static str) -> Result<(), Error> {
    let path = dir.join(name);
    step("write", format_args!("{name} {value:?} in {}", dir.display()), why).run(|| -> io::Result<()> {
        // No O_CREAT: a file that the kernel does not offer must not be asked for.
        OpenOptions::new().write(true).open(&path)?.write_all(value.as_bytes())
    })?;
    Ok(())
}

/// The whole text of a file.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    text(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// The kernel's files say that they have no bytes, and would be read in small pieces: one page holds nearly all of them.
fn text(path: &Path) -> io::Result<String> {
    let mut text = String::with_capacity(4096);
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// The number in a file; none where it says `max`, or where the file is not there.
pub(crate) fn number(dir: &Path, name: &str) -> Option<u64> {
    text(&dir.join(name)).ok()?.trim().parse().ok()
}

/// The number behind `key` in a file of flat keyed lines.
pub(crate) fn keyed(dir: &Path, name: &str, key: &str) -> Option<u64> {
    find_key(&text(&dir.join(name)).ok()?, key)
}

fn find_key(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_key_is_a_whole_word() {
        let text = "low 0\noom 2\noom_kill 3\n";
        assert_eq!(find_key(text, "oom"), Some(2));
        assert_eq!(find_key(text, "oom_kill"), Some(3));
        assert_eq!(find_key(text, "kill"), None);
    }

    #[test]
    fn max_is_no_number() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pids.max"), "max\n").unwrap();
        fs::write(dir.path().join("pids.current"), "7\n").unwrap();
        assert_eq!(number(dir.path(), "pids.max"), None);
        assert_eq!(number(dir.path(), "pids.current"), Some(7));
        assert_eq!(number(dir.path(), "nothing"), None);
    }

    #[test]
    fn a_missing_file_is_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let setting = Setting::new("memory.swap.max", &0, "--memory-swap", "a test");
        let error = setting.write(dir.path()).unwrap_err();
        assert!(matches!(error, Error::NoFile { limit: "--memory-swap", .. }), "{error}");
        setting.missing(Missing::Skip).write(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
