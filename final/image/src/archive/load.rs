//! Read images from an archive into the store.
//!
//! Order: all of the archive, once (see `parts`) -> the documents -> for each image: config, manifest, layers, each checked against what
//! names it -> the index of the store. An archive of which one image is wrong gives none.

use std::io::Read;

use oci_spec::image::{
    ANNOTATION_REF_NAME, Descriptor, ImageIndex, ImageManifest, ImageManifestBuilder, MediaType,
};

use super::parts::{Parts, refused};
use super::{DockerEntry, blob_path};
use crate::image::{is_index, kind_of};
use crate::layers::descriptor;
use crate::layout::{digest_of, name, sorted};
use crate::registry::Platform;
use crate::{DiffId, Digest, Error, Image, Layer, Reference, Store};

const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image that came with an archive.
#[derive(Debug)]
pub struct Loaded {
    /// The image, in the store.
    pub image: Image,
    /// The names that the archive gave it.
    pub references: Vec<Reference>,
}

/// An image of the archive, checked.
struct Complete {
    manifest: Vec<u8>,
    media_type: MediaType,
    config: Vec<u8>,
    references: Vec<Reference>,
}

impl Store {
    /// Reads an archive of Docker's or of OCI's form, plain or compressed by gzip or zstd, to its end.
    ///
    /// # Errors
    /// [`Error::Archive`] for what is none, [`Error::Mismatch`] for content that is not as named; the store has the images it had then.
    pub fn load(&self, archive: impl Read + Send) -> Result<Vec<Loaded>, Error> {
        // What is unpacked and not named yet must stay until it is.
        let _pin = self.pin()?;
        let parts = Parts::read(self, archive)?;
        let images = match (parts.document("manifest.json"), parts.document("index.json")) {
            (Some(docker), index) => from_docker(&parts, docker, index)?,
            (None, Some(index)) => from_oci(&parts, index)?,
            (None, None) => {
                return Err(refused("there is neither a manifest.json nor an index.json in it"));
            }
        };
        let mut entries = Vec::new();
        for image in &images {
            self.blobs.put(&image.config)?;
            let (digest, size) = self.blobs.put(&image.manifest)?;
            entries.push(descriptor(image.media_type.clone(), size, &digest));
        }
        self.blobs.sync()?;
        self.layout.change(|all| {
            for (entry, image) in entries.iter().zip(&images) {
                image.references.iter().for_each(|reference| name(all, entry, Some(reference)));
                if image.references.is_empty() {
                    name(all, entry, None);
                }
            }
            Ok(())
        })?;
        let loaded = |image: Complete| {
            let id = Digest::of(&image.config);
            Ok(Loaded { image: self.resolve(&id.to_string())?, references: image.references })
        };
        images.into_iter().map(loaded).collect()
    }
}

/// By `manifest.json`; where there is an OCI manifest for the same config, that one is kept, so that its digest is.
fn from_docker(parts: &Parts, text: &[u8], index: Option<&[u8]>) -> Result<Vec<Complete>, Error> {
    let entries: Vec<DockerEntry> =
        serde_json::from_slice(text).map_err(|error| refused(format_args!("its manifest.json: {error}")))?;
    let manifests = index.map(|index| manifests(parts, index)).transpose()?.unwrap_or_default();
    let mut images = Vec::new();
    for entry in entries {
        let config = parts.document(&entry.config);
        let config = config.ok_or_else(|| refused(format_args!("it lacks the config {:?}", entry.config)))?;
        let layers: Vec<&Layer> = entry
            .layers
            .iter()
            .map(|path| parts.layer(path).ok_or_else(|| refused(format_args!("it lacks the layer {path:?}"))))
            .collect::<Result<_, _>>()?;
        check(config, &layers)?;
        let id = Digest::of(config);
        // It must not name what the archive has not, or has otherwise.
        let fits = |manifest: &ImageManifest| {
            let same = |(told, layer): (&Descriptor, &&Layer)| {
                let there = digest_of(told).and_then(|digest| parts.layer(&blob_path(&digest)));
                let there = there.filter(|there| there.diff_id == layer.diff_id);
                there.is_some_and(|there| there.descriptor.size() == told.size())
            };
            digest_of(manifest.config()).as_ref() == Some(&id)
                && manifest.config().size() == config.len() as u64
                && manifest.layers().len() == layers.len()
                && manifest.layers().iter().zip(&layers).all(same)
        };
        let known = manifests.iter().find(|(_, _, manifest)| fits(manifest));
        let (bytes, media_type) = match known {
            Some((entry, bytes, _)) => (bytes.to_vec(), entry.media_type().clone()),
            None => (manifest_of(config, &layers)?, MediaType::ImageManifest),
        };
        let references = entry.repo_tags.unwrap_or_default();
        images.push(Complete {
            manifest: bytes,
            media_type,
            config: config.to_vec(),
            references: references.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        });
    }
    Ok(images)
}

/// By `index.json` alone.
fn from_oci(parts: &Parts, index: &[u8]) -> Result<Vec<Complete>, Error> {
    let mut images: Vec<Complete> = Vec::new();
    for (entry, bytes, manifest) in manifests(parts, index)? {
        let lacks = |what: &Descriptor| refused(format_args!("it lacks the blob {}", what.digest()));
        let config = digest_of(manifest.config()).and_then(|digest| parts.blob(&digest));
        let config = config.ok_or_else(|| lacks(manifest.config()))?;
        let layer = |entry: &Descriptor| {
            let digest = digest_of(entry).ok_or_else(|| lacks(entry))?;
            parts.layer(&blob_path(&digest)).ok_or_else(|| lacks(entry))
        };
        let layers: Vec<&Layer> = manifest.layers().iter().map(layer).collect::<Result<_, _>>()?;
        check(config, &layers)?;
        let real = layers.iter().map(|layer| layer.descriptor.size());
        let real = [bytes.len() as u64, config.len() as u64].into_iter().chain(real);
        for (told, real) in [&entry, manifest.config()].into_iter().chain(manifest.layers()).zip(real) {
            if told.size() != real {
                return Err(refused(format_args!(
                    "{} has {real} bytes, and not {}",
                    told.digest(),
                    told.size()
                )));
            }
        }
        let references: Vec<Reference> = names(&entry).collect();
        match images.iter_mut().find(|image| image.manifest == bytes) {
            Some(image) => image.references.extend(references),
            None => images.push(Complete {
                manifest: bytes.to_vec(),
                media_type: entry.media_type().clone(),
                config: config.to_vec(),
                references,
            }),
        }
    }
    if images.is_empty() {
        Err(refused(format_args!("it has no image for {}", Platform::default())))
    } else {
        Ok(images)
    }
}

/// A manifest of the archive: its entry, its bytes, and what they say.
type Known<'a> = (Descriptor, &'a [u8], ImageManifest);

/// The manifests that an index leads to, with their entries; of an index in it, the one for this machine. What is for others may be
/// missing.
fn manifests<'a>(parts: &'a Parts, index: &[u8]) -> Result<Vec<Known<'a>>, Error> {
    let index: ImageIndex =
        serde_json::from_slice(index).map_err(|error| refused(format_args!("its index.json: {error}")))?;
    let mut found = Vec::new();
    for entry in index.manifests() {
        let lacks = || refused(format_args!("it lacks the blob {}", entry.digest()));
        let bytes = digest_of(entry).and_then(|digest| parts.blob(&digest)).ok_or_else(lacks)?;
        let (inner, bytes) = if is_index(entry.media_type()) {
            let nested: ImageIndex =
                serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
            let here = Platform::default();
            let fits =
                nested.manifests().iter().filter(|entry| here.fits(entry) && !is_index(entry.media_type()));
            let mut there = fits.filter_map(|entry| Some((entry, parts.blob(&digest_of(entry)?)?)));
            let Some((inner, bytes)) = there.next() else { continue };
            let mut named = inner.clone();
            named.set_annotations(entry.annotations().clone());
            (named, bytes)
        } else {
            (entry.clone(), bytes)
        };
        let manifest = serde_json::from_slice(bytes)
            .map_err(|error| refused(format_args!("{}: {error}", inner.digest())))?;
        kind_of(&manifest).map_err(refused)?;
        found.push((inner, bytes, manifest));
    }
    Ok(found)
}

/// The whole name, where there is one: a tag alone names nothing outside of its archive.
fn names(entry: &Descriptor) -> impl Iterator<Item = Reference> {
    let annotations = entry.annotations().as_ref();
    let text = |name| annotations.and_then(|annotations| annotations.get(name));
    let whole = text(ANNOTATION_REF_NAME).filter(|name| name.contains([':', '/', '@']));
    text(CONTAINERD_NAME).or(whole).and_then(|text| text.parse().ok()).into_iter()
}

/// Whether the layers are those that the config names.
fn check(config: &[u8], layers: &[&Layer]) -> Result<(), Error> {
    let config: oci_spec::image::ImageConfiguration =
        serde_json::from_slice(config).map_err(|error| refused(format_args!("a config: {error}")))?;
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != layers.len() {
        return Err(refused(format_args!(
            "an image has {} layers, and {} diff_ids in its config",
            layers.len(),
            diff_ids.len()
        )));
    }
    for (expected, layer) in diff_ids.iter().zip(layers) {
        let expected: DiffId = expected.parse()?;
        if expected != layer.diff_id {
            return Err(Error::Mismatch { expected, found: layer.diff_id.clone() });
        }
    }
    Ok(())
}

/// A manifest for an image that has none: an old archive of Docker's.
fn manifest_of(config: &[u8], layers: &[&Layer]) -> Result<Vec<u8>, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::damaged("manifest.json", error);
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, config.len() as u64, &Digest::of(config)))
        .layers(layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>())
        .build()
        .map_err(|error| wrong(&error))?;
    let value = serde_json::to_value(&manifest).map(sorted);
    value.and_then(|value| serde_json::to_vec(&value)).map_err(|error| wrong(&error))
}
