//! Manifests: kept when everything that they name is there, and named; or no longer named.
//!
//! The four forms that clients send differ in their media types alone: an image's manifest and an index, as OCI and as Docker
//! write them. They are kept byte for byte, for a manifest's name is its digest.
//!
//! See "Pushing Manifests" and "Content Management" of the OCI distribution specification. Not covered: Docker's first schema, which
//! has its signature inside; an index within an index; manifests that are not there yet when their index comes.

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde_json::Value;

use super::{Error, Registry, View};
use crate::image::is_index;
use crate::layers::descriptor;
use crate::layout::{digest_of, drop_needless, name, reference_of, set_pulled, set_reference};
use crate::{Digest, Reference};

/// The most that a manifest may have.
pub const LARGEST_MANIFEST: u64 = 4 << 20;

/// Which manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The one that has the tag now.
    Tag(String),
    /// This one.
    Digest(Digest),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

impl Registry {
    /// The reference that a manifest has in the store.
    ///
    /// # Errors
    /// [`Error::Name`] where repository or tag break the grammar.
    pub fn reference(&self, repository: &str, target: &Target) -> Result<Reference, Error> {
        let separator = if matches!(target, Target::Tag(_)) { ':' } else { '@' };
        let text = format!("{}/{repository}{separator}{target}", self.name());
        let parsed = text.parse::<Reference>().ok().filter(|parsed| {
            // The text is put together of parts that others gave: it must fall into the same.
            parsed.domain() == self.name() && parsed.path() == repository && parsed.full() == text
        });
        parsed.ok_or_else(|| Error::Name(format!("{repository}{separator}{target}")))
    }

    /// A manifest's descriptor and its bytes.
    ///
    /// # Errors
    /// [`Error::NameUnknown`], [`Error::ManifestUnknown`]; [`Error::Store`].
    pub fn manifest(&self, repository: &str, target: &Target) -> Result<(Descriptor, Vec<u8>), Error> {
        let view = self.view()?;
        let (digest, entry) = find(&view, repository, target)?;
        Ok((entry.clone(), self.store.blobs.read(digest)?))
    }

    /// Keeps a manifest, under a tag or by its digest alone. Where the tag was another's, that one stays in the store without
    /// a name.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`], [`Error::ManifestBlobUnknown`], [`Error::Digest`], [`Error::Name`]; [`Error::Store`].
    pub fn put_manifest(
        &self,
        repository: &str,
        target: &Target,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, Error> {
        let reference = self.reference(repository, target)?;
        let found = Digest::of(bytes);
        if let Target::Digest(expected) = target
            && *expected != found
        {
            return Err(Error::Digest { expected: expected.clone(), found });
        }
        drop(self.hold_still()?);
        let media_type = kind(media_type, bytes)?;
        let parts = if is_index(&media_type) {
            self.check_index(repository, bytes)?
        } else {
            self.check_manifest(bytes)?;
            Vec::new()
        };
        self.store.blobs.put(bytes)?;
        self.store.blobs.sync()?;
        let mut entry = descriptor(media_type, bytes.len() as u64, &found);
        // Others may have it by this name from here.
        set_pulled(&mut entry, &found);
        self.store.layout.change(|entries| {
            name(entries, &entry, Some(&reference));
            // The index leads to them from now on, and they go when it goes.
            entries.retain(|entry| {
                reference_of(entry).is_none_or(|found| {
                    let alone =
                        found.domain() == self.name() && found.path() == repository && found.tag().is_none();
                    !(alone && found.digest().is_some_and(|digest| parts.contains(digest)))
                })
            });
            Ok(())
        })?;
        Ok(found)
    }

    /// Takes a tag away; or, by a digest, every name that the manifest has in the repository. The image stays in the store without
    /// a name, for a container may run of it: `image prune` removes it.
    ///
    /// # Errors
    /// [`Error::NameUnknown`], [`Error::ManifestUnknown`], also for one that only an index leads to; [`Error::Store`].
    pub fn delete_manifest(&self, repository: &str, target: &Target) -> Result<(), Error> {
        let view = self.view()?;
        find(&view, repository, target)?;
        let deleted = self.store.layout.change(|entries| {
            let mut any = false;
            for entry in entries.iter_mut() {
                let Some(reference) = reference_of(entry) else { continue };
                let fits = reference.domain() == self.name()
                    && reference.path() == repository
                    && match target {
                        Target::Tag(tag) => reference.tag() == Some(tag),
                        Target::Digest(digest) => digest_of(entry).as_ref() == Some(digest),
                    };
                if fits {
                    set_reference(entry, None);
                    any = true;
                }
            }
            drop_needless(entries);
            Ok(any)
        })?;
        if deleted { Ok(()) } else { Err(unknown(repository, target)) }
    }

    /// Everything that an image's manifest names must be here, and as long as it says.
    fn check_manifest(&self, bytes: &[u8]) -> Result<(), Error> {
        let manifest: ImageManifest = parse(bytes)?;
        for part in manifest.layers().iter().chain([manifest.config()]) {
            // Such a layer may not be handed on, and its manifest says where it is.
            if part.urls().as_ref().is_some_and(|urls| !urls.is_empty()) {
                continue;
            }
            let digest = sha256(part)?;
            match self.blob_size(&digest) {
                Ok(size) if size == part.size() => {}
                Ok(size) => {
                    let said = part.size();
                    return Err(Error::ManifestInvalid(format!("{digest} has {size} bytes, not {said}")));
                }
                Err(Error::BlobUnknown(digest)) => return Err(Error::ManifestBlobUnknown(digest)),
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// Every manifest that an index names must be in the same repository.
    fn check_index(&self, repository: &str, bytes: &[u8]) -> Result<Vec<Digest>, Error> {
        let index: ImageIndex = parse(bytes)?;
        let view = self.view()?;
        let here = view.repositories.get(repository);
        let mut parts = Vec::new();
        for part in index.manifests() {
            if is_index(part.media_type()) {
                return Err(Error::ManifestInvalid("an index within an index is not kept".to_owned()));
            }
            let digest = sha256(part)?;
            if !here.is_some_and(|here| here.manifests.contains_key(&digest)) {
                return Err(Error::ManifestBlobUnknown(digest));
            }
            parts.push(digest);
        }
        Ok(parts)
    }
}

fn find<'a>(
    view: &'a View,
    repository: &str,
    target: &Target,
) -> Result<(&'a Digest, &'a Descriptor), Error> {
    let found = view.repository(repository)?;
    let digest = match target {
        Target::Tag(tag) => found.tags.get(tag),
        Target::Digest(digest) => Some(digest),
    };
    let entry = digest.and_then(|digest| found.manifests.get_key_value(digest));
    entry.ok_or_else(|| unknown(repository, target))
}

fn unknown(repository: &str, target: &Target) -> Error {
    Error::ManifestUnknown { repository: repository.to_owned(), reference: target.to_string() }
}

/// The media type that the request says, which the document must not contradict.
fn kind(said: &str, bytes: &[u8]) -> Result<MediaType, Error> {
    const KNOWN: [&str; 4] = [
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ];
    let said = said.split(';').next().unwrap_or_default().trim();
    let document: Value = parse(bytes)?;
    let own = document.get("mediaType").and_then(Value::as_str);
    let kind = if said.is_empty() { own.unwrap_or_default() } else { said };
    let invalid = |reason: String| Err(Error::ManifestInvalid(reason));
    if !KNOWN.contains(&kind) {
        return invalid(format!("its media type {kind:?} is none of {}", KNOWN.join(", ")));
    }
    if own.is_some_and(|own| own != kind) {
        return invalid(format!("it is sent as {kind}, and calls itself {}", own.unwrap_or_default()));
    }
    if document.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return invalid("its schemaVersion is not 2".to_owned());
    }
    // An image's manifest must not be taken for an index, nor the other way round, by whoever reads it by its fields.
    let (has, must_not) = if kind.contains("index") || kind.contains("list") {
        ("manifests", "layers")
    } else {
        ("config", "manifests")
    };
    if document.get(has).is_none() || document.get(must_not).is_some() {
        return invalid(format!("as {kind} it has {has:?} and no {must_not:?}"));
    }
    Ok(MediaType::from(kind))
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::ManifestInvalid(error.to_string()))
}

fn sha256(part: &Descriptor) -> Result<Digest, Error> {
    digest_of(part).ok_or_else(|| Error::ManifestInvalid(format!("{} is not sha256", part.digest())))
}
