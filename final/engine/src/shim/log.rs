//! The log: each line that the container writes, as JSON, with its time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;

use crate::container::logs::Entry;

/// The longest piece of a line that is kept back for its end; a longer line is logged in pieces, as Docker does it.
const LONGEST: usize = 16 * 1024;

/// One of the container's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The open log of a running container.
#[derive(Debug)]
pub struct Log {
    file: File,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Log {
    /// Opens the log, to write after what earlier starts wrote.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        Ok(Self { file, stdout: Vec::new(), stderr: Vec::new() })
    }

    /// Takes what the container wrote, and writes the lines that are whole.
    ///
    /// # Errors
    /// Where the disk is full, say: the container goes on without its log.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let pending = if stream == Stream::Stdout { &mut self.stdout } else { &mut self.stderr };
        pending.extend_from_slice(bytes);
        let mut text = Vec::new();
        let mut rest = &pending[..];
        while let Some(end) = rest
            .iter()
            .take(LONGEST)
            .position(|&byte| byte == b'\n')
            .map(|at| at + 1)
            .or((rest.len() >= LONGEST).then_some(LONGEST))
        {
            let (line, after) = rest.split_at(end);
            line_of(&mut text, stream, line)?;
            rest = after;
        }
        let taken = pending.len() - rest.len();
        pending.drain(..taken);
        self.file.write_all(&text)
    }

    /// Writes what is left of a last line without an end.
    ///
    /// # Errors
    /// As for [`Log::take`].
    pub fn finish(mut self) -> io::Result<()> {
        let mut text = Vec::new();
        for (stream, rest) in [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr)] {
            if !rest.is_empty() {
                line_of(&mut text, stream, rest)?;
            }
        }
        self.file.write_all(&text)
    }
}

fn line_of(text: &mut Vec<u8>, stream: Stream, line: &[u8]) -> io::Result<()> {
    let stream = if stream == Stream::Stdout { "stdout" } else { "stderr" };
    let entry = Entry {
        log: String::from_utf8_lossy(line).into_owned(),
        stream: stream.to_owned(),
        time: Timestamp::now(),
    };
    serde_json::to_writer(&mut *text, &entry)?;
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(pieces: &[&str]) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut log = Log::open(file.path()).unwrap();
        for piece in pieces {
            log.take(Stream::Stdout, piece.as_bytes()).unwrap();
        }
        log.finish().unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        text.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap().log).collect()
    }

    #[test]
    fn a_line_is_one_entry_however_it_was_written() {
        assert_eq!(logged(&["a", "b\nc", "\nd"]), ["ab\n", "c\n", "d"]);
    }

    #[test]
    fn an_endless_line_is_cut() {
        assert_eq!(
            logged(&[&"x".repeat(LONGEST + 1)]).iter().map(String::len).collect::<Vec<_>>(),
            [LONGEST, 1]
        );
    }
}
