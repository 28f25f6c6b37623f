//! One blob on its way to a registry.
//!
//! ```text
//! HEAD blob ── 200 ─▶ done
//!     404
//! POST uploads/?mount=DIGEST&from=OTHER ── 201 ─▶ done: the registry has it elsewhere, and takes it from there
//!     202 + Location
//! PUT  Location&digest=DIGEST + bytes             a small one in one request
//! PATCH Location + bytes, some at a time           a large one in pieces; where the line broke, GET Location says what arrived
//! PUT  Location&digest=DIGEST
//! ```
//!
//! See spec.md of the OCI distribution specification, "Pushing blobs".

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;

use ureq::Body;
use ureq::http::{Method, Response, Uri, header};

use super::http::{Ask, encode, pause, resolve};
use super::repository::text;
use super::{Error, Repository};
use crate::Digest;

/// Up to this size one request is enough; above it, pieces of this size.
const PIECE: u64 = 32 << 20;
const TRIES: u32 = 5;

/// What became of a blob.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The registry had it.
    Exists,
    /// The registry took it from another of its repositories.
    Mounted(String),
    /// All of it was sent.
    Sent,
}

/// A blob to send.
pub(super) struct Upload<'a> {
    pub(super) repository: &'a Repository<'a>,
    pub(super) digest: &'a Digest,
    pub(super) size: u64,
    /// Where its bytes are.
    pub(super) path: PathBuf,
    /// Repositories of the same registry that may have it.
    pub(super) elsewhere: &'a [String],
    /// Hears of each piece of so many bytes.
    pub(super) advance: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Upload<'_> {
    /// Sends it, unless the registry has it.
    ///
    /// # Errors
    /// What the registry refuses, or the line.
    pub(super) fn run(&self) -> Result<Outcome, Error> {
        if self.repository.has_blob(self.digest)? {
            return Ok(Outcome::Exists);
        }
        let (location, mounted) = self.begin()?;
        if let Some(from) = mounted {
            return Ok(Outcome::Mounted(from));
        }
        let location = if self.size <= PIECE { location } else { self.send_in_pieces(location)? };
        self.finish(&location)?;
        Ok(Outcome::Sent)
    }

    /// Where to send it; or that it need not be sent.
    fn begin(&self) -> Result<(Uri, Option<String>), Error> {
        for from in self.elsewhere {
            let query =
                format!("blobs/uploads/?mount={}&from={}", encode(&self.digest.to_string()), encode(from));
            let ask = Ask::new(Method::POST, self.repository.url(&query)).bytes(Vec::new());
            let (response, uri) = self.repository.send_with(ask, from)?;
            match response.status().as_u16() {
                201 => return Ok((uri, Some(from.clone()))),
                202 => return Ok((self.location(&response, &uri)?, None)),
                // It may not let us see the other one; that is no reason not to send.
                _ => {}
            }
        }
        let ask = Ask::new(Method::POST, self.repository.url("blobs/uploads/")).bytes(Vec::new());
        let (response, uri) = self.repository.expect("an upload", ask, &[202])?;
        Ok((self.location(&response, &uri)?, None))
    }

    fn location(&self, response: &Response<Body>, base: &Uri) -> Result<Uri, Error> {
        let location = text(response, "location").and_then(|location| resolve(base, location));
        location
            .ok_or_else(|| Error::answer(self.repository.host(), "it does not say where to send the blob"))
    }

    fn send_in_pieces(&self, mut location: Uri) -> Result<Uri, Error> {
        let (mut at, mut failures) = (0, 0);
        while at < self.size {
            let end = (at + PIECE).min(self.size);
            match self.send_piece(&location, at, end) {
                Ok(next) => (location, at, failures) = (next, end, 0),
                Err(error @ (Error::Unreachable { .. } | Error::Refused { .. })) if failures < TRIES => {
                    failures += 1;
                    sleep(pause(failures));
                    // What has arrived need not be sent again; a registry that does not tell has lost all.
                    (location, at) = self.arrived(&location).ok_or(error)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(location)
    }

    fn send_piece(&self, location: &Uri, from: u64, end: u64) -> Result<Uri, Error> {
        let mut ask = Ask::new(Method::PATCH, location.to_string())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_RANGE, format!("{from}-{}", end - 1))
            .once();
        ask.body = Some(self.body(from, end - from));
        let (response, uri) = self.repository.expect("a piece of a blob", ask, &[202, 204])?;
        self.location(&response, &uri)
    }

    /// How many bytes the registry has, and where to go on.
    fn arrived(&self, location: &Uri) -> Option<(Uri, u64)> {
        let (response, uri) = self.repository.send(Ask::get(location.to_string())).ok()?;
        if response.status() != 204 {
            return None;
        }
        let last: u64 = text(&response, "range")?.rsplit('-').next()?.parse().ok()?;
        // `0-0` may be one byte or none; one that is sent twice is refused, so begin anew only where nothing was sent.
        let at = if last == 0 { 0 } else { last + 1 };
        Some((self.location(&response, &uri).unwrap_or(uri), at))
    }

    /// Says what it was; and sends all of it, where nothing was sent.
    fn finish(&self, location: &Uri) -> Result<(), Error> {
        let separator = if location.query().is_some() { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", encode(&self.digest.to_string()));
        let mut ask = Ask::new(Method::PUT, url).header(header::CONTENT_TYPE, "application/octet-stream");
        ask.body = Some(if self.size <= PIECE { self.body(0, self.size) } else { self.body(self.size, 0) });
        self.repository.expect("a blob", ask, &[201, 204]).map(drop)
    }

    /// Some of the bytes, as often as they are needed.
    #[allow(clippy::type_complexity, reason = "it is what a request takes")]
    fn body(
        &self,
        from: u64,
        length: u64,
    ) -> (Arc<dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync>, u64) {
        let (path, advance) = (self.path.clone(), Arc::clone(&self.advance));
        let open = move || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(from))?;
            Ok(Box::new(Counted { reader: file.take(length), advance: Arc::clone(&advance) })
                as Box<dyn Read + Send>)
        };
        (Arc::new(open), length)
    }
}

/// Tells how much has passed.
struct Counted<R> {
    reader: R,
    advance: Arc<dyn Fn(u64) + Send + Sync>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        (self.advance)(count as u64);
        Ok(count)
    }
}
