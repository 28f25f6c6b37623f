//! A blob as a stream that goes on where the line broke.
//!
//! Whoever reads sees one stream of exactly the announced number of bytes, or an error: 1. a line that breaks, or over which next to
//! nothing comes, is opened again at the byte that is missing (`Range`), some times without progress, then no more; 2. a server that
//! sends more than was announced is not listened to any longer.
//!
//! See RFC 9110, section 14.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ureq::BodyReader;

use super::http::pause;
use super::{Error, Progress, Repository};
use crate::Digest;

/// Tries in a row that bring nothing.
const TRIES: u32 = 5;
/// In each of these spans at least so many bytes must come.
const SPAN: Duration = Duration::from_secs(30);
const LEAST: u64 = 16 << 10;

/// A blob on its way.
pub(super) struct Download<'a> {
    repository: &'a Repository<'a>,
    digest: &'a Digest,
    size: u64,
    at: u64,
    body: Option<BodyReader<'static>>,
    failures: u32,
    /// Where the last failure was.
    failed_at: u64,
    span: (Instant, u64),
    /// Set when another blob of the same image has failed.
    stop: &'a AtomicBool,
    progress: &'a dyn Progress,
    /// Why it ended, better than an `io::Error` tells it.
    failed: &'a mut Option<Error>,
}

impl<'a> Download<'a> {
    pub(super) fn new(
        repository: &'a Repository<'a>,
        (digest, size): (&'a Digest, u64),
        stop: &'a AtomicBool,
        progress: &'a dyn Progress,
        failed: &'a mut Option<Error>,
    ) -> Self {
        let span = (Instant::now(), 0);
        Self {
            repository,
            digest,
            size,
            at: 0,
            body: None,
            failures: 0,
            failed_at: 0,
            span,
            stop,
            progress,
            failed,
        }
    }

    fn fail(&mut self, error: Error) -> io::Error {
        let text = error.to_string();
        *self.failed = Some(error);
        io::Error::other(text)
    }

    /// Opens the line at the byte that is missing.
    fn open(&mut self) -> Result<BodyReader<'static>, Error> {
        let (mut body, begins) = self.repository.blob(self.digest, self.at)?;
        let skip = self.at - begins;
        let skipped = io::copy(&mut body.by_ref().take(skip), &mut io::sink());
        match skipped {
            Ok(count) if count == skip => Ok(body),
            _ => Err(Error::answer(self.repository.host(), "the line broke again")),
        }
    }

    fn is_too_slow(&mut self) -> bool {
        let (since, from) = self.span;
        if since.elapsed() < SPAN {
            return false;
        }
        self.span = (Instant::now(), self.at);
        self.at - from < LEAST
    }

    /// Counts a try that brought nothing.
    fn broken(&mut self, reason: &dyn std::fmt::Display) -> io::Result<()> {
        self.body = None;
        self.failures += 1;
        self.failed_at = self.at;
        if self.failures < TRIES {
            sleep(pause(self.failures));
            self.span = (Instant::now(), self.at);
            return Ok(());
        }
        let reason = format!(
            "blob {}: {reason}, after {} of {} bytes and {TRIES} tries",
            self.digest, self.at, self.size
        );
        Err(self.fail(Error::answer(self.repository.host(), reason)))
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(self.fail(Error::GivenUp));
            }
            let mut body = match self.body.take() {
                Some(body) => body,
                None if self.at == self.size && self.at > 0 => return Ok(0),
                None => match self.open() {
                    Ok(body) => body,
                    // Each request has been tried several times by itself.
                    Err(error) => return Err(self.fail(error)),
                },
            };
            match body.read(buffer) {
                Ok(0) if self.at == self.size || buffer.is_empty() => return Ok(0),
                Ok(0) => self.broken(&"the line broke")?,
                Ok(count) if self.at + count as u64 > self.size => {
                    let reason = format!(
                        "blob {} is longer than the {} bytes that were announced",
                        self.digest, self.size
                    );
                    return Err(self.fail(Error::answer(self.repository.host(), reason)));
                }
                Ok(count) => {
                    self.at += count as u64;
                    if self.at - self.failed_at >= LEAST {
                        self.failures = 0;
                    }
                    self.progress.advance(self.digest, count as u64);
                    if self.is_too_slow() {
                        self.broken(&"next to nothing comes")?;
                    } else {
                        self.body = Some(body);
                    }
                    return Ok(count);
                }
                Err(error) => self.broken(&error)?,
            }
        }
    }
}
