//! The build cache: what a step made the last time, found by what went into it.
//!
//! A step's key is a digest over the key of the step before, the instruction, and the content of the files that it copies; so a step
//! is found again only where all before it was. The record names the layer; the layer itself is in the store as long as an
//! image has it, and a record without its layer is no hit.
//!
//! A record is a small JSON file `<data>/cache/build/<key>`, or `build-owned` for an ordinary user whose layers have owners. It is not synced: a lost or damaged one costs a step, nothing more.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use chroot::Unpack;
use oci_spec::image::Descriptor;
use sampan_image::{DiffId, Digest, Layer, Store};
use serde::{Deserialize, Serialize};

/// The records of a store, or none where the build is to use none.
#[derive(Debug)]
pub(crate) struct Cache<'a> {
    store: &'a Store,
    folder: PathBuf,
    read: bool,
}

/// What a step made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// None where it changed no file.
    pub(crate) layer: Option<Layer>,
    /// When, as the history has it.
    pub(crate) created: String,
    /// Whether the cache has it already.
    pub(crate) known: bool,
}

#[derive(Serialize, Deserialize)]
struct Record {
    created: String,
    layer: Option<(DiffId, Descriptor)>,
}

impl<'a> Cache<'a> {
    pub(crate) fn new(store: &'a Store, read: bool) -> Self {
        // An ordinary user's layers had no owners once, and have none where that user has no ids for them.
        let owned = store.userxattr() && Unpack::default().as_root;
        Self {
            store,
            folder: store.data().join(if owned { "cache/build-owned" } else { "cache/build" }),
            read,
        }
    }

    /// What the step of this key made.
    pub(crate) fn get(&self, key: &Digest) -> Option<Made> {
        let text = self.read.then(|| fs::read(self.folder.join(key.hex())).ok())??;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let layer = match record.layer {
            Some((diff_id, descriptor)) => Some(self.store.known_layer(&diff_id, &descriptor).ok()??),
            None => None,
        };
        Some(Made { layer, created: record.created, known: true })
    }

    /// Remembers it. A cache that cannot be written must not stop a build: the error is dropped on purpose.
    pub(crate) fn put(&self, key: &Digest, made: &Made) {
        let layer = made.layer.as_ref().map(|layer| (layer.diff_id.clone(), layer.descriptor.clone()));
        let path = self.folder.join(key.hex());
        let record = Record { created: made.created.clone(), layer };
        let _ = (|| -> std::io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&serde_json::to_vec(&record)?)?;
            file.persist(&path)?;
            Ok(())
        })();
    }
}

/// The key of a step that follows the step with the key `before`.
pub(crate) fn key(before: &Digest, parts: &[&str]) -> Digest {
    let mut text = before.to_string();
    for part in parts {
        // With its length, so that two parts cannot be read as other two.
        text.push_str(&format!("\n{} {part}", part.len()));
    }
    Digest::of(text.as_bytes())
}
