//! `logs`: what a container wrote, with the time of each line.
//!
//! One JSON object a line: `{"log":"text\n","stream":"stdout","time":"..."}`, as Docker's `json-file` driver writes it.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Container, Status};
use crate::{Engine, Error};

/// A line of the log, or a part of one where the container wrote it in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What was written; bytes that are no UTF-8 are replaced.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// When.
    pub time: Timestamp,
}

/// Which part of the log is wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only this many lines of the end.
    pub tail: Option<usize>,
}

impl Engine {
    /// Hands each entry of the log to `show`, until that returns `false`.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn logs(
        &self,
        container: &Container,
        options: &Options,
        show: &mut dyn FnMut(&Entry) -> bool,
    ) -> Result<(), Error> {
        let path = container.log();
        let failed = |source| Error::Store { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            // Never started: nothing was written.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let mut reader = BufReader::new(file);
        if let Some(tail) = options.tail {
            let count = count_lines(&mut reader).map_err(failed)?;
            reader.seek(SeekFrom::Start(0)).map_err(failed)?;
            let mut line = Vec::new();
            for _ in 0..count.saturating_sub(tail) {
                line.clear();
                reader.read_until(b'\n', &mut line).map_err(failed)?;
            }
        }
        let mut line = Vec::new();
        loop {
            // Asked before reading: what was written before the end is read after it.
            let ended = !self.is_running(container);
            while reader.read_until(b'\n', &mut line).map_err(failed)? > 0 {
                if line.last() != Some(&b'\n') {
                    break;
                }
                if let Ok(entry) = serde_json::from_slice::<Entry>(&line)
                    && !show(&entry)
                {
                    return Ok(());
                }
                line.clear();
            }
            if !options.follow || ended {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_running(&self, container: &Container) -> bool {
        Container::read(&container.folder).ok().flatten().is_some_and(|now| {
            now.state.status == Status::Running && now.state.shim.is_some_and(|shim| shim.is_alive())
        })
    }
}

fn count_lines(reader: &mut BufReader<File>) -> std::io::Result<usize> {
    let mut count = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(count);
        }
        count += buffer.iter().filter(|&&byte| byte == b'\n').count();
        let length = buffer.len();
        reader.consume(length);
    }
}
