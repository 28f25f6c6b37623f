//! Write images into one archive; a layer that several have is in it once.
//!
//! The same images give the same bytes: blobs in the order of their digests, and no times.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndexBuilder, ImageManifest, MediaType};
use serde::Serialize;
use tar::{Builder, EntryType, Header};

use super::{DockerEntry, blob_path};
use crate::image::document;
use crate::layout::{digest_of, set_reference, sorted};
use crate::{Digest, Error, Image, Reference, Store};

/// Docker's own programs, and containerd's, look for the whole name here; for the specification the tag is the name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Which documents are in the archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// Both: what Docker, Podman and skopeo read.
    #[default]
    Both,
    /// Those of the OCI image layout alone.
    Oci,
}

/// An image to be saved, and the names that it has in the archive.
#[derive(Debug)]
pub struct Saved {
    /// The image.
    pub image: Image,
    /// Perhaps none.
    pub references: Vec<Reference>,
}

impl Store {
    /// Writes images as one tar archive.
    ///
    /// # Errors
    /// [`Error::Archive`] where it cannot be written; [`Error::Io`] or [`Error::Damaged`] for the store.
    pub fn save(&self, images: &[Saved], form: Form, out: impl Write) -> Result<(), Error> {
        let _pin = self.pin()?;
        let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
        let (mut entries, mut docker) = (Vec::new(), Vec::new());
        for Saved { image, references } in images {
            let manifest: ImageManifest = document(&self.blobs, &image.manifest, "manifest")?;
            for entry in manifest.layers().iter().chain([manifest.config(), &image.manifest]) {
                blobs.insert(digest(entry)?, entry.size());
            }
            let named = |reference| entry(&image.manifest, Some(reference));
            entries.extend(references.iter().map(named));
            if references.is_empty() {
                entries.push(entry(&image.manifest, None));
            }
            docker.push(DockerEntry {
                config: blob_path(&image.id),
                repo_tags: Some(references.iter().map(ToString::to_string).collect()),
                layers: manifest
                    .layers()
                    .iter()
                    .map(|layer| Ok(blob_path(&digest(layer)?)))
                    .collect::<Result<_, Error>>()?,
            });
        }
        let index = ImageIndexBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageIndex)
            .manifests(entries)
            .build()
            .map_err(|error| Error::damaged("index.json", error))?;
        let mut archive = Archive { builder: Builder::new(out) };
        archive.folder("blobs/")?;
        archive.folder("blobs/sha256/")?;
        for (digest, size) in &blobs {
            archive.file(&blob_path(digest), *size, self.blobs.open(digest)?)?;
        }
        archive.json("index.json", &index)?;
        if form == Form::Both {
            archive.json("manifest.json", &merged(docker))?;
        }
        archive.json("oci-layout", &serde_json::json!({"imageLayoutVersion": "1.0.0"}))?;
        archive.builder.into_inner().and_then(|mut out| out.flush()).map_err(unwritten)
    }
}

fn digest(entry: &Descriptor) -> Result<Digest, Error> {
    digest_of(entry).ok_or_else(|| Error::Digest(entry.digest().to_string()))
}

fn entry(manifest: &Descriptor, reference: Option<&Reference>) -> Descriptor {
    let mut entry = manifest.clone();
    set_reference(&mut entry, reference);
    if let Some(reference) = reference {
        let mut annotations = entry.annotations().clone().unwrap_or_default();
        annotations.insert(CONTAINERD_NAME.to_owned(), reference.full());
        entry.set_annotations(Some(annotations));
    }
    entry
}

/// An image that was asked for under two names is one image with two names.
fn merged(entries: Vec<DockerEntry>) -> Vec<DockerEntry> {
    let mut merged: Vec<DockerEntry> = Vec::new();
    for entry in entries {
        match merged.iter_mut().find(|other| other.config == entry.config && other.layers == entry.layers) {
            Some(other) => {
                let all = other.repo_tags.iter().flatten().chain(entry.repo_tags.iter().flatten());
                let all: BTreeSet<_> = all.cloned().collect();
                other.repo_tags = Some(all.into_iter().collect());
            }
            None => merged.push(entry),
        }
    }
    merged
}

struct Archive<W: Write> {
    builder: Builder<W>,
}

impl<W: Write> Archive<W> {
    fn folder(&mut self, path: &str) -> Result<(), Error> {
        self.append(path, EntryType::Directory, 0, io::empty())
    }

    fn file(&mut self, path: &str, size: u64, bytes: impl Read) -> Result<(), Error> {
        self.append(path, EntryType::Regular, size, bytes)
    }

    fn json(&mut self, path: &str, value: &impl Serialize) -> Result<(), Error> {
        let value = serde_json::to_value(value).map(sorted);
        let bytes = value
            .and_then(|value| serde_json::to_vec(&value))
            .map_err(|error| Error::damaged(path, error))?;
        self.file(path, bytes.len() as u64, bytes.as_slice())
    }

    fn append(&mut self, path: &str, kind: EntryType, size: u64, bytes: impl Read) -> Result<(), Error> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let mut counted = Counted { reader: bytes.take(size), count: 0 };
        self.builder.append_data(&mut header, Path::new(path), &mut counted).map_err(unwritten)?;
        // tar would pad what is missing, and nobody would see it before the image is loaded.
        if counted.count == size {
            Ok(())
        } else {
            Err(Error::damaged(path, "the blob is shorter than its descriptor says"))
        }
    }
}

struct Counted<R> {
    reader: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

fn unwritten(source: io::Error) -> Error {
    Error::Archive { what: "the archive cannot be written".to_owned(), source: Some(source) }
}
