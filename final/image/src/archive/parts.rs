//! What an archive holds, read once from its beginning to its end.
//!
//! A pipe cannot be read twice, and the documents that say what is what often come last. So each file is taken for what it looks
//! like: a small one that begins like JSON is kept in memory; every other is a layer, and becomes a blob and a folder at once. What no
//! document names in the end is nobody's, and is swept with the rest.
//!
//! No path of the archive is ever used as one: they are names in a table.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use chroot::archive::Archive;
use tar::EntryType;

use crate::blobs::LARGEST_DOCUMENT;
use crate::bounds;
use crate::{Digest, Error, Layer, Store};

/// More files than any image has.
const MOST_FILES: usize = 100_000;
/// All documents and names together.
const MOST_BYTES: u64 = 8 * LARGEST_DOCUMENT;
/// A layer's archive says so here, in its first header.
const MAGIC: (usize, &[u8]) = (257, b"ustar");
/// So much of a file tells what it is.
const HEAD: u64 = 512;

/// The files of an archive, by their paths.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) documents: BTreeMap<String, Vec<u8>>,
    pub(super) layers: BTreeMap<String, Layer>,
    links: BTreeMap<String, String>,
}

impl Parts {
    /// Reads an archive, plain or compressed.
    pub(super) fn read(store: &Store, archive: impl Read + Send) -> Result<Self, Error> {
        const BUFFER: usize = 1 << 17;
        let stream = BufReader::with_capacity(BUFFER, archive);
        Self::read_plain(store, bounds::open(stream).map_err(unread)?.1)
    }

    fn read_plain(store: &Store, stream: impl Read + Send) -> Result<Self, Error> {
        let pin = Arc::new(store.pin()?);
        let (mut parts, mut bytes, mut count) = (Self::default(), 0, 0);
        let mut archive = Archive::new(stream);
        while let Some(entry) = archive.next().map_err(unread)? {
            count += 1;
            if count > MOST_FILES {
                return Err(refused(format_args!("it has more than {MOST_FILES} files")));
            }
            let path = name(&entry.path);
            bytes += (path.len() + entry.link.len()) as u64;
            let size = entry.size;
            let (start, mut file) = bounds::peek(&mut archive, HEAD).map_err(unread)?;
            let is_document = match entry.kind {
                EntryType::Symlink | EntryType::Link => {
                    let target = name(&entry.link);
                    let target = if entry.kind == EntryType::Link { target } else { beside(&path, &target) };
                    parts.links.insert(path.clone(), target);
                    None
                }
                // A file with holes is neither.
                EntryType::Regular | EntryType::Continuous if entry.parts.is_none() => {
                    Some(is_document(&start, size))
                }
                _ => None,
            };
            if is_document == Some(true) {
                bytes += size;
            }
            if bytes > MOST_BYTES {
                return Err(refused("its documents are too large"));
            }
            match is_document {
                Some(true) => {
                    let mut document = Vec::new();
                    file.read_to_end(&mut document).map_err(unread)?;
                    parts.documents.insert(path, document);
                }
                Some(false) if size > 0 && !is_marker(&path) => {
                    let layer =
                        store.layers.receive(&store.blobs, file, None, Path::new(&path), Arc::clone(&pin));
                    let layer = layer.map_err(|error| no_layer(&path, error))?;
                    parts.check(&path, &layer)?;
                    parts.layers.insert(path, layer);
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    /// A blob's path says what its digest is.
    fn check(&self, path: &str, layer: &Layer) -> Result<(), Error> {
        let Some(hex) = path.strip_prefix("blobs/sha256/") else { return Ok(()) };
        let expected: Digest = format!("sha256:{hex}").parse()?;
        match crate::layout::digest_of(&layer.descriptor) {
            Some(found) if found != expected => Err(Error::Mismatch { expected, found }),
            _ => Ok(()),
        }
    }

    /// The document at a path.
    pub(super) fn document(&self, path: &str) -> Option<&[u8]> {
        self.documents.get(self.follow(path)).map(Vec::as_slice)
    }

    /// The blob of a digest, if it is a document and has that digest.
    pub(super) fn blob(&self, digest: &Digest) -> Option<&[u8]> {
        self.document(&super::blob_path(digest)).filter(|bytes| Digest::of(bytes) == *digest)
    }

    /// The layer at a path.
    pub(super) fn layer(&self, path: &str) -> Option<&Layer> {
        self.layers.get(self.follow(path))
    }

    fn follow<'a>(&'a self, path: &'a str) -> &'a str {
        const MOST_LINKS: usize = 8;
        let mut at = path;
        for _ in 0..MOST_LINKS {
            match self.links.get(at) {
                Some(target) => at = target,
                None => break,
            }
        }
        at
    }
}

/// A path without `./` before it; what is not UTF-8 is the path of nothing that a document can name.
fn name(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_start_matches("./").trim_end_matches('/').to_owned()
}

/// Where a link leads, as a path of the archive.
fn beside(link: &str, target: &str) -> String {
    let mut parts: Vec<_> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn is_document(start: &[u8], size: u64) -> bool {
    let (at, magic) = MAGIC;
    let is_tar = start.get(at..at + magic.len()) == Some(magic);
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    size <= LARGEST_DOCUMENT && !is_tar && matches!(first, Some(b'{' | b'['))
}

/// `VERSION` beside each layer of an old archive.
fn is_marker(path: &str) -> bool {
    path.rsplit('/').next() == Some("VERSION")
}

/// A file that is named as no layer is, and is none: whoever made the archive had no images in mind.
fn no_layer(path: &str, error: Error) -> Error {
    let is_named = path.starts_with("blobs/") || path.contains(".tar");
    match error {
        Error::Layer(_) if !is_named => refused(format_args!(
            "{path:?} in it is neither a layer nor a document. `sampan import` takes the archive of a file system"
        )),
        other => other,
    }
}

#[allow(clippy::needless_pass_by_value, reason = "format_args! is passed on")]
pub(super) fn refused(what: impl std::fmt::Display) -> Error {
    Error::Archive { what: format!("this is no archive of images: {what}"), source: None }
}

fn unread(source: io::Error) -> Error {
    Error::Archive { what: "the archive cannot be read".to_owned(), source: Some(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_a_name_of_the_archive() {
        assert_eq!(beside("b/layer.tar", "../a/layer.tar"), "a/layer.tar");
        assert_eq!(beside("b/layer.tar", "../../../etc/passwd"), "etc/passwd");
        assert_eq!(name(b"./blobs/sha256/"), "blobs/sha256");
    }

    #[test]
    fn a_tar_is_no_document_whatever_its_first_name() {
        assert!(is_document(b" {\"a\":1}", 8));
        assert!(!is_document(b"\x1f\x8b", 2));
        let mut header = [0; 512];
        header[0] = b'{';
        header[257..262].copy_from_slice(b"ustar");
        assert!(!is_document(&header, 1024));
    }
}
