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
//! What was sent in one request and came to nothing may have arrived in part, and must not be sent there again: it begins anew, and
//! so does an upload of which the registry knows nothing any more.
//!
//! See spec.md of the OCI distribution specification, "Pushing blobs".

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;

use ureq::Body;
use ureq::http::{Method, Response, Uri, header};

use super::http::{Ask, Payload, encode, pause, resolve};
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
    pub(super) elsewhere: Vec<&'a str>,
    /// Hears of each piece of so many bytes.
    pub(super) advance: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Upload<'_> {
    /// Sends it, unless the registry has it.
    ///
    /// # Errors
    /// What the registry refuses, or the line.
    pub(super) fn run(&self) -> Result<Outcome, Error> {
        for attempt in 1.. {
            match self.attempt() {
                Err(error) if attempt < TRIES && is_passing(&error) => sleep(pause(attempt)),
                other => return other,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn attempt(&self) -> Result<Outcome, Error> {
        if self.repository.has_blob(self.digest)? {
            return Ok(Outcome::Exists);
        }
        let (location, piece, mounted) = self.begin()?;
        if let Some(from) = mounted {
            return Ok(Outcome::Mounted(from));
        }
        self.check()?;
        let sent = if self.size <= PIECE {
            self.finish(&location, self.body(0, self.size))
        } else {
            self.send_in_pieces(location, piece)
                .and_then(|location| self.finish(&location, self.body(self.size, 0)))
        };
        match sent {
            Ok(()) => Ok(Outcome::Sent),
            Err(Error::Missing { host, what }) => {
                let reason = "it knows nothing of the upload any more".to_owned();
                Err(Error::Refused { host, status: 404, what, reason })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether we have what we are about to send.
    fn check(&self) -> Result<(), Error> {
        let reason = match fs::metadata(&self.path) {
            Ok(found) if found.len() == self.size => return Ok(()),
            Ok(found) => format!("it has {} bytes, where the manifest says {}", found.len(), self.size),
            Err(error) => format!("{error}: pull or load the image again, and push it then"),
        };
        Err(crate::Error::damaged(&self.path, reason).into())
    }

    /// Where to send it; or that it need not be sent.
    fn begin(&self) -> Result<(Uri, u64, Option<String>), Error> {
        for &from in &self.elsewhere {
            let query =
                format!("blobs/uploads/?mount={}&from={}", encode(&self.digest.to_string()), encode(from));
            let why = "another repository has the blob: the registry may take it from there";
            let ask = Ask::new(Method::POST, self.repository.url(&query), why).bytes(Vec::new());
            let (response, uri) = match self.repository.send_with(ask, from) {
                // No token for that one; perhaps for ours.
                Err(Error::Denied { .. }) => continue,
                other => other?,
            };
            match response.status().as_u16() {
                201 => return Ok((uri, PIECE, Some(from.to_owned()))),
                202 => return Ok((self.location(&response, &uri)?, piece(&response), None)),
                // It may not let us see the other one; that is no reason not to send.
                _ => {}
            }
        }
        let why = "a place to send the blob to";
        let ask = Ask::new(Method::POST, self.repository.url("blobs/uploads/"), why).bytes(Vec::new());
        let (response, uri) = self.repository.expect("an upload", ask, &[202])?;
        Ok((self.location(&response, &uri)?, piece(&response), None))
    }

    fn location(&self, response: &Response<Body>, base: &Uri) -> Result<Uri, Error> {
        let location = text(response, "location").and_then(|location| resolve(base, location));
        location
            .ok_or_else(|| Error::answer(self.repository.host(), "it does not say where to send the blob"))
    }

    fn send_in_pieces(&self, mut location: Uri, piece: u64) -> Result<Uri, Error> {
        let (mut at, mut failures) = (0, 0);
        while at < self.size {
            let end = (at + piece).min(self.size);
            match self.send_piece(&location, at, end) {
                Ok(next) => (location, at, failures) = (next, end, 0),
                Err(error) if failures < TRIES && is_passing(&error) => {
                    failures += 1;
                    sleep(pause(failures));
                    // What has arrived need not be sent again.
                    (location, at) = self.arrived(&location, end).ok_or(error)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(location)
    }

    fn send_piece(&self, location: &Uri, from: u64, end: u64) -> Result<Uri, Error> {
        let mut ask = Ask::new(Method::PATCH, location.to_string(), "one piece of the blob")
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_RANGE, format!("{from}-{}", end - 1))
            .once();
        ask.body = Some(self.body(from, end - from));
        let (response, uri) = self.repository.expect("a piece of a blob", ask, &[202, 204])?;
        self.location(&response, &uri)
    }

    /// How many bytes the registry has, of those that were `sent`, and where to go on; none where it knows nothing of the upload.
    fn arrived(&self, location: &Uri, sent: u64) -> Option<(Uri, u64)> {
        let ask = Ask::get(location.to_string(), "the line broke: how much has arrived?");
        let (response, uri) = self.repository.send(ask).ok()?;
        if response.status() != 204 {
            return None;
        }
        let last: u64 = text(&response, "range")?.rsplit('-').next()?.parse().ok()?;
        // `0-0` may be one byte or none; one that is sent twice is refused, so begin anew only where nothing was sent.
        let at = if last == 0 { 0 } else { last + 1 };
        (at <= sent).then(|| (self.location(&response, &uri).unwrap_or(uri), at))
    }

    /// Says what it was, with the bytes that are still to be sent.
    fn finish(&self, location: &Uri, body: (Payload, u64)) -> Result<(), Error> {
        let separator = if location.query().is_some() { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", encode(&self.digest.to_string()));
        let why = "the blob is complete: the registry compares the digest";
        let mut ask =
            Ask::new(Method::PUT, url, why).header(header::CONTENT_TYPE, "application/octet-stream").once();
        ask.body = Some(body);
        self.repository.expect("a blob", ask, &[201, 204]).map(drop)
    }

    /// Some of the bytes, as often as they are needed.
    fn body(&self, from: u64, length: u64) -> (Payload, u64) {
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

/// What may go better from the beginning.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        // 404: it has lost the upload; 416: it has another part of it than we think.
        Error::Refused { status, .. } => matches!(status, 404 | 408 | 416 | 500..),
        _ => false,
    }
}

/// How much to send at a time: some registries want more than we would.
fn piece(response: &Response<Body>) -> u64 {
    const MOST: u64 = 1 << 30;
    let least: Option<u64> = text(response, "oci-chunk-min-length").and_then(|text| text.parse().ok());
    PIECE.max(least.unwrap_or(0).min(MOST))
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
