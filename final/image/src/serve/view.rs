//! What a registry offers: read from the index of the store, and from the manifests that it names.
//!
//! It is read anew when the index is another file than before, which each change makes it. What is damaged is passed over: one
//! bad image hides no other.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::Error;
use crate::image::{document, is_index};
use crate::layout::{digest_of, reference_of};
use crate::{Digest, Store};

/// All repositories, in order.
#[derive(Debug, Default)]
pub struct View {
    /// The repositories, by name.
    pub repositories: BTreeMap<String, Repository>,
    /// The configs and layers of all of them.
    pub(super) blobs: BTreeSet<Digest>,
}

/// A repository.
#[derive(Debug, Default)]
pub struct Repository {
    /// The manifests' digests by tag, in order.
    pub tags: BTreeMap<String, Digest>,
    /// Every manifest that can be had by its digest: those with tags, those without, and those of which an index is made.
    pub manifests: BTreeMap<Digest, Descriptor>,
}

impl View {
    pub(super) fn read(store: &Store, name: &str) -> Result<Self, Error> {
        let mut view = Self::default();
        for entry in store.layout.index()?.manifests() {
            let Some(reference) = reference_of(entry).filter(|found| found.domain() == name) else {
                continue;
            };
            let Some(digest) = digest_of(entry).filter(|digest| store.blobs.has(digest)) else { continue };
            let mut found = Found::default();
            found.follow(store, entry, true);
            view.blobs.extend(found.blobs);
            let repository = view.repositories.entry(reference.path().to_owned()).or_default();
            repository.manifests.extend(found.manifests);
            if let Some(tag) = reference.tag() {
                repository.tags.insert(tag.to_owned(), digest);
            }
        }
        Ok(view)
    }

    /// A repository by its name.
    ///
    /// # Errors
    /// [`Error::NameUnknown`].
    pub fn repository(&self, name: &str) -> Result<&Repository, Error> {
        self.repositories.get(name).ok_or_else(|| Error::NameUnknown(name.to_owned()))
    }

    /// The manifests' own blobs, configs and layers, each once.
    pub fn all_blobs(&self) -> BTreeSet<&Digest> {
        let manifests = self.repositories.values().flat_map(|repository| repository.manifests.keys());
        self.blobs.iter().chain(manifests).collect()
    }
}

#[derive(Default)]
struct Found {
    manifests: BTreeMap<Digest, Descriptor>,
    blobs: BTreeSet<Digest>,
}

impl Found {
    /// Takes in a manifest and what it names. An index may be of a machine's own making and have only some of its manifests.
    fn follow(&mut self, store: &Store, entry: &Descriptor, deeper: bool) {
        let Some(digest) = digest_of(entry).filter(|digest| store.blobs.has(digest)) else { return };
        if is_index(entry.media_type()) {
            let index = document::<ImageIndex>(&store.blobs, entry, "index");
            if let (true, Ok(index)) = (deeper, index) {
                index.manifests().iter().for_each(|entry| self.follow(store, entry, false));
            }
        } else if let Ok(manifest) = document::<ImageManifest>(&store.blobs, entry, "manifest") {
            let named = manifest.layers().iter().chain([manifest.config()]);
            self.blobs.extend(named.filter_map(digest_of));
        }
        let mut entry = entry.clone();
        entry.set_annotations(None);
        self.manifests.insert(digest, entry);
    }
}
