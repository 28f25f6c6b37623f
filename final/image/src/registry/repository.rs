//! One repository of one registry.
//!
//! See spec.md of the OCI distribution specification: "Pulling manifests", "Pulling blobs", "Content discovery".

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::http::{Method, Response, Uri, header};
use ureq::{Body, BodyReader};

use super::http::{self, Ask};
use super::session::Session;
use super::{Error, Login, Registries};
use crate::blobs::LARGEST_DOCUMENT;
use crate::{Digest, Reference};

/// The kinds of manifests that we understand.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A repository, with the tokens that the registry gave for it.
#[derive(Debug)]
pub struct Repository<'a> {
    pub(super) session: Session<'a>,
    /// `library/busybox`.
    path: String,
    scopes: Vec<String>,
}

/// A manifest, or an index, as the registry has it.
#[derive(Debug)]
pub struct Document {
    /// What it is said to be.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl<'a> Repository<'a> {
    /// The repository of a reference at one address. With `push`, for writing too.
    pub(super) fn at(
        registries: &'a Registries,
        address: &str,
        reference: &Reference,
        login: Option<Login>,
        push: bool,
    ) -> Result<Self, Error> {
        let session = Session::new(registries, address, login)?;
        let path = reference.path().to_owned();
        let scopes = vec![format!("repository:{path}:{}", if push { "pull,push" } else { "pull" })];
        Ok(Self { session, path, scopes })
    }

    /// The registry, as messages name it.
    pub fn host(&self) -> &str {
        self.session.host()
    }

    pub(super) fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.session.base, self.path)
    }

    pub(super) fn send(&self, ask: Ask) -> Result<(Response<Body>, Uri), Error> {
        self.session.send(ask, &self.scopes)
    }

    /// The same with the right to read another repository, for a mount.
    pub(super) fn send_with(&self, ask: Ask, other: &str) -> Result<(Response<Body>, Uri), Error> {
        let mut scopes = self.scopes.clone();
        scopes.push(format!("repository:{other}:pull"));
        self.session.send(ask, &scopes)
    }

    /// Sends it, and takes one of the statuses.
    pub(super) fn expect(
        &self,
        what: &str,
        ask: Ask,
        statuses: &[u16],
    ) -> Result<(Response<Body>, Uri), Error> {
        let (mut response, uri) = self.send(ask)?;
        if statuses.contains(&response.status().as_u16()) {
            Ok((response, uri))
        } else {
            Err(self.session.refusal(what, &mut response))
        }
    }

    /// The manifest of a tag or a digest. Its bytes are those of the digest, if one was asked for, and of the digest that the registry
    /// announces.
    ///
    /// # Errors
    /// [`Error::Missing`] and all others of the way there; [`Error::Answer`].
    pub fn manifest(&self, name: &str) -> Result<Document, Error> {
        let what = format!("manifest {name} of {}", self.path);
        let ask = Ask::get(
            self.url(&format!("manifests/{name}")),
            "the manifest: it names the config and the layers",
        )
        .header(header::ACCEPT, MANIFESTS);
        let (mut response, _) = self.expect(&what, ask, &[200])?;
        let announced = text(&response, "docker-content-digest").map(str::to_owned);
        let media_type = text(&response, "content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = read_all(response.body_mut().as_reader(), LARGEST_DOCUMENT, LONGEST)
            .map_err(|error| Error::answer(self.host(), format!("its {what}: {error}")))?;
        let digest = Digest::of(&bytes);
        let asked: Option<Digest> = name.parse().ok();
        // An algorithm that we do not have is not checked; what names the content is always the digest that we computed.
        let announced = announced.and_then(|text| text.parse::<Digest>().ok());
        for expected in asked.into_iter().chain(announced) {
            if expected != digest {
                let reason = format!("its {what} has the digest {digest}, where {expected} is expected");
                return Err(Error::answer(self.host(), reason));
            }
        }
        Ok(Document { media_type, digest, bytes })
    }

    /// A blob from a byte on; the reader, and the byte at which it begins, for not every server can skip.
    pub(super) fn blob(&self, digest: &Digest, from: u64) -> Result<(BodyReader<'static>, u64), Error> {
        let mut ask =
            Ask::get(self.url(&format!("blobs/{digest}")), "a blob, named by the digest of its bytes");
        if from > 0 {
            ask = ask.header(header::RANGE, format!("bytes={from}-"));
        }
        let (response, _) = self.expect(&format!("blob {digest}"), ask, &[200, 206])?;
        let begins = if response.status() == 206 { from } else { 0 };
        let range = text(&response, "content-range");
        if begins > 0 && range.is_some_and(|range| !range.starts_with(&format!("bytes {begins}-"))) {
            return Err(Error::answer(self.host(), "it sends another part of the blob than was asked for"));
        }
        Ok((response.into_body().into_reader(), begins))
    }

    /// Whether the registry has a blob.
    pub(super) fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let ask = Ask::new(
            Method::HEAD,
            self.url(&format!("blobs/{digest}")),
            "what the registry has need not be sent",
        );
        let (mut response, _) = self.send(ask)?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.session.refusal(&format!("blob {digest}"), &mut response)),
        }
    }

    /// All tags, page by page.
    ///
    /// # Errors
    /// As for [`Repository::manifest`].
    pub fn tags(&self) -> Result<Vec<String>, Error> {
        pages(&self.session, &self.scopes, &self.url("tags/list?n=1000"), "tags")
    }
}

/// A list that comes in pages: each answer names the next one in the header `Link`.
pub(super) fn pages(
    session: &Session<'_>,
    scopes: &[String],
    first: &str,
    field: &str,
) -> Result<Vec<String>, Error> {
    const MOST_PAGES: usize = 100;
    let mut found = Vec::new();
    let mut next = Some(first.to_owned());
    for _ in 0..MOST_PAGES {
        let Some(url) = next.take() else { break };
        let (mut response, uri) = session.send(Ask::get(url, "a list, page by page"), scopes)?;
        if response.status() != 200 {
            return Err(session.refusal(&format!("the list of {field}"), &mut response));
        }
        let link = text(&response, "link").and_then(|link| link.split(['<', '>']).nth(1)).map(str::to_owned);
        let bytes = read_all(response.body_mut().as_reader(), LARGEST_DOCUMENT, LONGEST);
        let bytes = bytes.map_err(|error| Error::answer(session.host(), error))?;
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| Error::answer(session.host(), error))?;
        let names = value.get(field).and_then(serde_json::Value::as_array);
        found.extend(names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)));
        next = link.and_then(|link| http::resolve(&uri, &link)).map(|uri| uri.to_string());
    }
    Ok(found)
}

/// How long a document may take altogether: a byte now and then is not waited for until all have come.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// Reads a document to its end, so many bytes at most and for so long.
pub(super) fn read_all(mut reader: impl Read, most: u64, longest: Duration) -> io::Result<Vec<u8>> {
    let (begun, mut bytes, mut piece) = (Instant::now(), Vec::new(), vec![0; 16 << 10]);
    loop {
        let count = reader.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..count]);
        if count == 0 {
            return Ok(bytes);
        }
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("longer than {most} bytes")));
        }
        if begun.elapsed() > longest {
            return Err(io::Error::other(format!("not complete after {} seconds", longest.as_secs())));
        }
    }
}

/// A header, if it is text.
pub(super) fn text<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_an_end_in_bytes_and_in_time() {
        let read = |bytes: &[u8]| read_all(bytes, 3, LONGEST);
        assert_eq!(read(b"abc").unwrap(), b"abc");
        assert!(read(b"abcd").unwrap_err().to_string().contains("longer than 3"));
        /// A byte now and then, for ever.
        struct Dripping;
        impl Read for Dripping {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(5));
                buffer[0] = b' ';
                Ok(1)
            }
        }
        let error = read_all(Dripping, LARGEST_DOCUMENT, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("not complete"), "{error}");
    }
}
