//! The OCI image layout: `oci-layout`, which names the version, and `index.json`, which names the images.
//!
//! A manifest's entry in the index carries its name in the annotation `org.opencontainers.image.ref.name`, as skopeo writes and
//! reads it: the whole reference. An image with two names has two entries; one that lost its name to a newer image keeps an entry without.
//!
//! See image-layout.md and image-index.md of the OCI image specification. Whatever stands in the index, no entry is trusted: names that
//! are no references are passed over, and digests cannot be paths.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, ImageIndex, ImageIndexBuilder, MediaType};
use serde_json::Value;
use step::step;

use crate::blobs::{LARGEST_DOCUMENT, make_folder, place, sync_folder};
use crate::lock::IndexLock;
use crate::{Digest, Error, Reference};

const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The folder `images` of a store.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
    unfinished: PathBuf,
}

impl Layout {
    pub(crate) fn new(folder: PathBuf, unfinished: PathBuf) -> Self {
        Self { folder, unfinished }
    }

    /// Makes what is missing of an empty layout.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        if self.folder.join("oci-layout").is_file() && self.unfinished.is_dir() {
            return Ok(());
        }
        make_folder(&self.unfinished)?;
        make_folder(&self.folder.join("blobs/sha256"))?;
        let _lock = IndexLock::wait(&self.folder)?;
        if !self.folder.join("index.json").is_file() {
            self.write(&empty()?)?;
        }
        // Last, for it says that the layout is complete.
        self.write_file("oci-layout", VERSION.as_bytes())
    }

    /// The index as it is now.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] for what is no index.
    pub fn index(&self) -> Result<ImageIndex, Error> {
        let path = self.folder.join("index.json");
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return empty(),
            other => other.map_err(Error::io(&path))?,
        };
        let mut bytes = Vec::new();
        file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes).map_err(Error::io(&path))?;
        if bytes.len() as u64 > LARGEST_DOCUMENT {
            return Err(Error::damaged(path, "it is too large for an index"));
        }
        let index: ImageIndex =
            serde_json::from_slice(&bytes).map_err(|error| Error::damaged(&path, error))?;
        if index.schema_version() == 2 {
            Ok(index)
        } else {
            Err(Error::damaged(path, "its schemaVersion is not 2"))
        }
    }

    /// Changes the index's entries, alone: nobody else writes it meanwhile, and readers see the old one or the new one.
    ///
    /// # Errors
    /// What `change` returns, and the index is as it was; else as for [`Layout::index`], or the step that failed.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Descriptor>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _lock = IndexLock::wait(&self.folder)?;
        let mut index = self.index()?;
        let before = index.manifests().clone();
        let mut entries = before.clone();
        let outcome = change(&mut entries)?;
        if entries != before {
            index.set_manifests(entries);
            self.write(&index)?;
        }
        Ok(outcome)
    }

    fn write(&self, index: &ImageIndex) -> Result<(), Error> {
        let path = self.folder.join("index.json");
        let value = serde_json::to_value(index).map_err(|error| Error::damaged(&path, error))?;
        let text = serde_json::to_vec_pretty(&sorted(value)).map_err(|error| Error::damaged(&path, error))?;
        self.write_file("index.json", &text)
    }

    fn write_file(&self, name: &str, text: &[u8]) -> Result<(), Error> {
        let path = self.folder.join(name);
        let mut file = tempfile::Builder::new()
            .prefix("file-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(&self.unfinished)
            .map_err(Error::io(&self.unfinished))?;
        step(
            "write",
            format_args!("{}", path.display()),
            "written beside it first, for readers see the old text until it is complete",
        )
        .run(|| file.write_all(text).and_then(|()| file.write_all(b"\n")))?;
        place(file, &path)?;
        sync_folder(&self.folder)
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn empty() -> Result<ImageIndex, Error> {
    ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(Vec::new())
        .build()
        .map_err(|error| Error::damaged("index.json", error))
}

/// The reference under which an entry stands, if it is one.
pub fn reference_of(entry: &Descriptor) -> Option<Reference> {
    entry.annotations().as_ref()?.get(ANNOTATION_REF_NAME)?.parse().ok()
}

/// What a registry calls an image that may be for several platforms: the digest of what was pulled, an index perhaps, of which
/// the store has the one manifest for this machine.
const PULLED: &str = "io.sampan.pulled";

/// The digest under which the entry's registry has it, where it came from one or went to one.
pub fn pulled_as(entry: &Descriptor) -> Option<Digest> {
    entry.annotations().as_ref()?.get(PULLED)?.parse().ok()
}

/// Notes the digest under which a registry has it.
pub(crate) fn set_pulled(entry: &mut Descriptor, digest: &Digest) {
    let mut annotations = entry.annotations().clone().unwrap_or_default();
    annotations.insert(PULLED.to_owned(), digest.to_string());
    entry.set_annotations(Some(annotations));
}

/// The digest that an entry names, if it is one that this store can hold.
pub fn digest_of(entry: &Descriptor) -> Option<Digest> {
    entry.digest().to_string().parse().ok()
}

/// Gives an entry its name, or takes it away.
pub(crate) fn set_reference(entry: &mut Descriptor, reference: Option<&Reference>) {
    let mut annotations = entry.annotations().clone().unwrap_or_default();
    annotations.remove(ANNOTATION_REF_NAME);
    if let Some(reference) = reference {
        annotations.insert(ANNOTATION_REF_NAME.to_owned(), reference.full());
    }
    entry.set_annotations((!annotations.is_empty()).then_some(annotations));
}

/// Names a manifest. Whatever had the name before keeps an entry without one, so that the image is not lost; and an image that
/// gets a name needs its nameless entry no more.
pub(crate) fn name(entries: &mut Vec<Descriptor>, manifest: &Descriptor, reference: Option<&Reference>) {
    let mut entry = manifest.clone();
    set_reference(&mut entry, reference);
    if let Some(reference) = reference {
        for other in entries.iter_mut().filter(|other| reference_of(other).as_ref() == Some(reference)) {
            set_reference(other, None);
        }
    }
    entries.push(entry);
    drop_needless(entries);
}

/// Of several entries for one manifest, those without a name, but never the last, are dropped.
pub(crate) fn drop_needless(entries: &mut Vec<Descriptor>) {
    let named: Vec<_> =
        entries.iter().filter(|entry| is_named(entry)).map(|entry| entry.digest().clone()).collect();
    let mut kept = Vec::new();
    entries.retain(|entry| {
        if is_named(entry) {
            return true;
        }
        let first = !named.contains(entry.digest()) && !kept.contains(entry.digest());
        if first {
            kept.push(entry.digest().clone());
        }
        first
    });
}

/// Also a name that is no reference of ours is somebody's name.
pub(crate) fn is_named(entry: &Descriptor) -> bool {
    entry.annotations().as_ref().is_some_and(|annotations| annotations.contains_key(ANNOTATION_REF_NAME))
}

/// The same value with the keys of each object in order: equal documents have equal bytes, and so equal digests.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(pairs.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
