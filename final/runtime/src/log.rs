//! `--log`: one line for each error and warning, for the program that called; it is read when a command has failed.
//!
//! containerd and conmon look for the last line of level `error`, and show its `msg`. The errors go to standard error too, in
//! our own form, for people; as JSON where there is no `--log` and yet a `--log-format json`, for then a program reads that.
//!
//! The fields are those that runc writes: `level`, `msg`, `time`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use serde_json::json;

/// The form of a line.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// How bad it is, in logrus's words.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    Warning,
    Error,
}

/// Where lines go; nowhere without `--log`.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<File>,
    format: Format,
}

impl Log {
    pub(crate) fn open(path: Option<&Path>, format: Format) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            let options = OpenOptions::new().create(true).append(true).mode(0o644).open(path);
            options.with_context(|| format!("cannot open the log {path:?}"))
        };
        // An empty name is none, as for runc.
        let file = path.filter(|path| !path.as_os_str().is_empty()).map(open).transpose()?;
        Ok(Self { file, format })
    }

    /// The one that is asked for on a command line that is none, as far as it can be read.
    pub(crate) fn of(args: impl Iterator<Item = OsString>) -> anyhow::Result<Self> {
        let words: Vec<_> = args.map(|word| word.to_string_lossy().into_owned()).collect();
        let value = |name: &str| {
            words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(name)? {
                "" => words.get(at + 1).map(String::as_str),
                rest => rest.strip_prefix('='),
            })
        };
        let format = value("--log-format").and_then(|text| Format::from_str(text, false).ok());
        Self::open(value("--log").map(Path::new), format.unwrap_or_default())
    }

    /// What the caller is to know and no error; on standard error where there is no log.
    pub(crate) fn warn(&self, text: &str) {
        if !self.write(Level::Warning, text) {
            eprintln!("warning: {text}");
        }
    }

    /// Whether that is enough, and standard error need not say it for people. A log that cannot be written must not hide the error.
    pub(crate) fn write(&self, level: Level, text: &str) -> bool {
        let line = line(self.format, level, text, &now());
        // One write a line: others may write to the same file.
        match self.file.as_ref() {
            Some(mut file) => file.write_all(line.as_bytes()).is_ok() && matches!(level, Level::Warning),
            None if matches!(self.format, Format::Json) => io::stderr().write_all(line.as_bytes()).is_ok(),
            None => false,
        }
    }
}

fn now() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Second).map_or_else(|_| String::new(), |time| time.to_string())
}

fn line(format: Format, level: Level, text: &str, time: &str) -> String {
    let level = match level {
        Level::Warning => "warning",
        Level::Error => "error",
    };
    match format {
        Format::Json => format!("{}\n", json!({ "level": level, "msg": text, "time": time })),
        Format::Text => format!("time=\"{time}\" level={level} msg={text:?}\n"),
    }
}

/// An error with its causes in one line, as Go programs write it. Engines look for words in it: who asked for a program that is not
/// there is told so by "executable file not found".
pub(crate) fn one_line(error: &anyhow::Error, code: Option<u8>) -> String {
    let mut text = String::new();
    let mut said = String::new();
    for link in error.chain() {
        let link = link.to_string();
        // A wrapper that says no more than what it wraps is left out.
        if link != said {
            let colon = if text.is_empty() { "" } else { ": " };
            let _ = write!(text, "{colon}{link}");
        }
        said = link;
    }
    if code == Some(127) {
        text.push_str(": executable file not found in $PATH: no such file or directory");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_runc_writes() {
        let of = |format| line(format, Level::Error, "a \"b\"", "2026-01-02T03:04:05Z");
        let json: serde_json::Value = serde_json::from_str(&of(Format::Json)).unwrap();
        assert_eq!(json, json!({ "level": "error", "msg": "a \"b\"", "time": "2026-01-02T03:04:05Z" }));
        assert_eq!(of(Format::Text), "time=\"2026-01-02T03:04:05Z\" level=error msg=\"a \\\"b\\\"\"\n");
    }

    #[test]
    fn a_log_is_found_on_a_command_line_that_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let of = |text: String| {
            let log = Log::of(text.split(' ').map(OsString::from)).unwrap();
            log.write(Level::Error, "x");
            std::fs::read_to_string(&path).unwrap_or_default()
        };
        let path_text = path.display();
        assert_eq!(of("--nothing run".to_owned()), "");
        assert!(of(format!("--log-format json --log {path_text} --nothing")).starts_with('{'));
        assert!(of(format!("--log={path_text} run --nothing")).contains("level=error"));
    }

    #[test]
    fn causes_are_joined_and_not_repeated() {
        let error = anyhow::anyhow!("EPERM").context("mount").context("mount");
        assert_eq!(one_line(&error, None), "mount: EPERM");
        assert!(one_line(&error, Some(127)).contains("executable file not found"));
    }
}
