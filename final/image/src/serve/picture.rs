//! What a page shows of a registry: its tags, the layers of each, and how large they are.

use std::collections::BTreeSet;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};

use super::{Error, Registry};
use crate::image::{document, is_index};
use crate::layout::digest_of;
use crate::{Digest, Store};

/// A registry, as it is shown.
#[derive(Debug, Default)]
pub struct Picture {
    /// Repositories with their tags.
    pub repositories: Vec<(String, Vec<Shown>)>,
    /// The bytes of everything, each blob once.
    pub total: u64,
}

/// An image under a tag; one for each platform that it is for.
#[derive(Debug)]
pub struct Shown {
    /// The tag.
    pub tag: String,
    /// The digest of the image's own manifest.
    pub digest: Digest,
    /// Operating system and processor, as its config says.
    pub platform: String,
    /// The layers, lowest first: digest, bytes, and what made it, if it is told.
    pub layers: Vec<(Digest, u64, Option<String>)>,
}

impl Shown {
    /// The bytes of all layers.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|(_, size, _)| size).fold(0, |sum, size| sum.saturating_add(*size))
    }
}

impl Registry {
    /// Looks at everything that is offered.
    ///
    /// # Errors
    /// [`Error::Store`] for an index that cannot be read; an image that cannot be is left out.
    pub fn picture(&self) -> Result<Picture, Error> {
        let view = self.view()?;
        let mut picture = Picture::default();
        for (name, repository) in &view.repositories {
            let mut all = Vec::new();
            for (tag, digest) in &repository.tags {
                let Some(entry) = repository.manifests.get(digest) else { continue };
                all.extend(
                    images(&self.store, entry).iter().filter_map(|entry| show(&self.store, tag, entry)),
                );
            }
            picture.repositories.push((name.clone(), all));
        }
        let size = |digest: &&Digest| {
            std::fs::metadata(self.store.blobs.path(digest)).map_or(0, |about| about.len())
        };
        picture.total = view.all_blobs().iter().map(size).sum();
        Ok(picture)
    }
}

fn images(store: &Store, entry: &Descriptor) -> Vec<Descriptor> {
    if !is_index(entry.media_type()) {
        return vec![entry.clone()];
    }
    document::<ImageIndex>(&store.blobs, entry, "index")
        .map_or_else(|_| Vec::new(), |index| index.manifests().clone())
}

fn show(store: &Store, tag: &str, entry: &Descriptor) -> Option<Shown> {
    let digest = digest_of(entry)?;
    let manifest: ImageManifest = document(&store.blobs, entry, "manifest").ok()?;
    // What is no image (a signature, a chart) has a config of another kind.
    let config: Option<ImageConfiguration> = document(&store.blobs, manifest.config(), "config").ok();
    let platform = config
        .as_ref()
        .map_or_else(String::new, |config| format!("{}/{}", config.os(), config.architecture()));
    let made: Vec<_> = config
        .iter()
        .flat_map(|config| config.history().iter().flatten())
        .filter(|step| step.empty_layer() != Some(true))
        .map(|step| step.created_by().clone())
        .collect();
    let told = made.len() == manifest.layers().len();
    let mut seen = BTreeSet::new();
    let layers = manifest.layers().iter().enumerate().filter_map(|(number, layer)| {
        let digest = digest_of(layer).filter(|digest| seen.insert(digest.clone()))?;
        Some((digest, layer.size(), made.get(number).filter(|_| told).cloned().flatten()))
    });
    Some(Shown { tag: tag.to_owned(), digest, platform, layers: layers.collect() })
}
