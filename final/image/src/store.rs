//! The store as a whole: what others call.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Read;
use std::num::NonZero;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};
use step::step;
use tempfile::TempDir;

use crate::blobs::Blobs;
use crate::digest::is_hex;
use crate::layers::{Layers, descriptor};
use crate::layout::{Layout, digest_of, name, pulled_as, reference_of, sorted};
use crate::{DiffId, Error, Image, Layer, NewImage, Pin, Reference};

/// How often a reader looks again when what the index named is gone: somebody has removed it in between.
const LOOKS: usize = 3;

/// The images of one data folder.
#[derive(Debug, Clone)]
pub struct Store {
    data: PathBuf,
    pub(crate) unfinished: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) blobs: Blobs,
    pub(crate) layers: Layers,
}

impl Store {
    /// Opens the store in a data folder, and makes what is missing of an empty one.
    ///
    /// # Errors
    /// The step that failed, or [`Error::Io`].
    pub fn open(data: &Path) -> Result<Self, Error> {
        let images = data.join("images");
        let unfinished = data.join("tmp");
        let store = Self {
            layout: Layout::new(images.clone(), unfinished.clone()),
            blobs: Blobs::new(images.join("blobs/sha256"), unfinished.clone()),
            layers: Layers::new(data.join("layers/sha256"), unfinished.clone()),
            unfinished,
            data: data.to_owned(),
        };
        store.layout.prepare()?;
        Ok(store)
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// An empty folder on the store's file system, to fill for [`Store::adopt_layer`]. A removal sweeps it unless somebody
    /// holds a [`Pin`].
    ///
    /// # Errors
    /// The step that failed.
    pub fn scratch(&self) -> Result<TempDir, Error> {
        let unfinished = &self.unfinished;
        let made = step(
            "mkdir",
            format_args!("{}/layer-XXXXXX", unfinished.display()),
            "a layer is made beside the others, and moved",
        )
        .run(|| tempfile::Builder::new().prefix("layer-").tempdir_in(unfinished))?;
        fs::set_permissions(made.path(), Permissions::from_mode(0o755)).map_err(Error::io(made.path()))?;
        Ok(made)
    }

    /// The blobs, for whoever carries images in and out.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Whether the layers' folders are to be mounted with `userxattr`: they were unpacked by an ordinary user.
    pub fn userxattr(&self) -> bool {
        self.layers.userxattr()
    }

    /// Whether this store has unpacked files of other owners than root for a user who has no ids for them.
    pub fn owners_left_out(&self) -> bool {
        self.layers.owners_left_out()
    }

    /// Whether all of an image's layers are unpacked.
    pub fn is_unpacked(&self, image: &Image) -> bool {
        image.layers.iter().all(|layer| self.layers.path(layer).is_dir())
    }

    /// Keeps everything in the store where it is while the value lives. Take it before [`Store::resolve`], and let it go when
    /// the record of what uses the image is on the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn pin(&self) -> Result<Pin, Error> {
        Pin::shared(self.blobs.folder())
    }

    /// Finds an image by a reference, by an ID, or by the beginning of one, in this order.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::Ambiguous`], or [`Error::Reference`] for what can be neither.
    pub fn resolve(&self, name: &str) -> Result<Image, Error> {
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let is_id = !prefix.is_empty() && prefix.len() <= 64 && is_hex(prefix);
        let reference = if name.starts_with("sha256:") || prefix.len() == 64 && is_id {
            None
        } else {
            match name.parse::<Reference>() {
                Ok(reference) => Some(reference),
                Err(error) if !is_id => return Err(error),
                Err(_) => None,
            }
        };
        let found = reference.map_or(Ok(None), |reference| self.by_reference(&reference))?;
        match found {
            Some(image) => Ok(image),
            None if is_id => self.by_id(prefix, name),
            None => Err(Error::NoImage(name.to_owned())),
        }
    }

    fn by_reference(&self, wanted: &Reference) -> Result<Option<Image>, Error> {
        self.look(|entries| {
            let fits = |entry: &&Descriptor| match (wanted.digest(), reference_of(entry)) {
                // A reference with a digest means the manifest of that digest, under any name of that repository; or the one that
                // was chosen from the index of that digest.
                (Some(digest), named) => {
                    (digest_of(entry).as_ref() == Some(digest) || pulled_as(entry).as_ref() == Some(digest))
                        && named.is_none_or(|named| named.familiar_name() == wanted.familiar_name())
                }
                (None, named) => named.as_ref() == Some(wanted),
            };
            let Some(entry) = entries.iter().find(fits) else { return Ok(None) };
            let mut image = Image::load(&self.blobs, entry)?;
            image.references = names_of(entries, entry);
            let same = entries.iter().filter(|other| other.digest() == entry.digest());
            image.pulled = same.filter_map(|other| reference_of(other).zip(pulled_as(other))).collect();
            Ok(Some(image))
        })
    }

    fn by_id(&self, prefix: &str, asked: &str) -> Result<Image, Error> {
        let mut found = self.list()?.into_iter().filter(|image| image.id.hex().starts_with(prefix));
        match (found.next(), found.next()) {
            (Some(image), None) => Ok(image),
            (Some(_), Some(_)) => Err(Error::Ambiguous(asked.to_owned())),
            (None, _) => Err(Error::NoImage(asked.to_owned())),
        }
    }

    /// All images, the newest first; each once, with all its names. What is no image of this machine's kind is left out.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Damaged`] for the index.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let index = self.layout.index()?;
        let mut images: BTreeMap<_, Image> = BTreeMap::new();
        for entry in index.manifests() {
            // One damaged image must not hide the others.
            let Ok(image) = Image::load(&self.blobs, entry) else { continue };
            let image = images.entry(image.id.clone()).or_insert(image);
            image.references.extend(reference_of(entry));
            image.pulled.extend(reference_of(entry).zip(pulled_as(entry)));
        }
        let mut images: Vec<_> = images.into_values().collect();
        for image in &mut images {
            image.references.sort();
            image.references.dedup();
        }
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(images)
    }

    /// Reads through the index, and again where somebody removed what it named.
    fn look<T>(&self, mut read: impl FnMut(&[Descriptor]) -> Result<T, Error>) -> Result<T, Error> {
        for _ in 1..LOOKS {
            match read(self.layout.index()?.manifests()) {
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
        read(self.layout.index()?.manifests())
    }

    /// Gives an image one more name. Whatever had the name before loses it, and stays under its ID.
    ///
    /// # Errors
    /// [`Error::Reference`] for one with a digest; else as for [`Layout::change`].
    pub fn tag(&self, image: &Image, reference: &Reference) -> Result<(), Error> {
        without_digest(reference)?;
        let _pin = self.pin()?;
        // Somebody may have removed it since it was found.
        Image::load(&self.blobs, &image.manifest).map_err(|_| Error::NoImage(image.name()))?;
        self.layout.change(|entries| {
            name(entries, &image.manifest, Some(reference));
            Ok(())
        })
    }

    /// Sees to it that an image is there for what uses it, when the record of that is on the disk and before the [`Pin`] is let go:
    /// where somebody took its last name away just before the record was there, it stays without one.
    ///
    /// # Errors
    /// As for [`Layout::change`].
    pub fn keep(&self, image: &Image) -> Result<(), Error> {
        self.layout.change(|entries| {
            let there = |entry: &Descriptor| entry.digest() == image.manifest.digest();
            if !entries.iter().any(there) && !entries.iter().any(|entry| self.leads_to(entry, image)) {
                name(entries, &image.manifest, None);
            }
            Ok(())
        })
    }

    /// Whether an entry of the index is for this image: by its manifest, by an index with that, or by another manifest of the same
    /// config.
    pub(crate) fn leads_to(&self, entry: &Descriptor, image: &Image) -> bool {
        entry.digest() == image.manifest.digest()
            || Image::load(&self.blobs, entry).is_ok_and(|other| other.id == image.id)
    }

    /// Reads an archive, plain or compressed by gzip, into a layer.
    ///
    /// # Errors
    /// As for [`Store::import`].
    pub fn add_layer(&self, archive: impl Read + Send) -> Result<Layer, Error> {
        let pin = Arc::new(self.pin()?);
        self.layers.add(&self.blobs, archive, pin)
    }

    /// Makes a layer of the upper directory of a container that has ended. The directory moves into the store, whatever the outcome
    /// of another command that has the same layer; it must lie on the store's file system.
    ///
    /// # Errors
    /// [`Error::Changes`], or the step that failed.
    pub fn adopt_layer(&self, upper: &Path) -> Result<Layer, Error> {
        let pin = Arc::new(self.pin()?);
        self.layers.adopt(&self.blobs, upper, pin)
    }

    /// The layers of an image, lowest first, for building on it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn layers_of(&self, image: &Image) -> Result<Vec<Layer>, Error> {
        let pin = Arc::new(self.pin()?);
        let pairs = image.layers.iter().zip(&image.descriptors);
        Ok(pairs
            .map(|(diff_id, descriptor)| Layer {
                diff_id: diff_id.clone(),
                descriptor: descriptor.clone(),
                _pin: Arc::clone(&pin),
            })
            .collect())
    }

    /// A layer that was made earlier, if the store still has its blob.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn known_layer(&self, diff_id: &DiffId, descriptor: &Descriptor) -> Result<Option<Layer>, Error> {
        // Pinned first: what is seen then stays.
        let pin = Arc::new(self.pin()?);
        let there = digest_of(descriptor).is_some_and(|digest| self.blobs.has(&digest));
        Ok(there.then(|| Layer { diff_id: diff_id.clone(), descriptor: descriptor.clone(), _pin: pin }))
    }

    /// Puts an image together, and names it.
    ///
    /// # Errors
    /// [`Error::Reference`] for a name with a digest, [`Error::Io`] or the step that failed.
    pub fn put_image(&self, new: &NewImage, reference: Option<&Reference>) -> Result<Image, Error> {
        reference.map_or(Ok(()), without_digest)?;
        let _pin = self.pin()?;
        let invalid = |error: &dyn std::fmt::Display| Error::damaged(self.blobs.folder(), error);
        let bytes = new.bytes().map_err(|error| invalid(&error))?;
        let (id, size) = self.blobs.put(&bytes)?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, size, &id))
            .layers(new.layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>())
            .build()
            .map_err(|error| invalid(&error))?;
        let value = serde_json::to_value(&manifest).map(sorted);
        let bytes = value.and_then(|value| serde_json::to_vec(&value)).map_err(|error| invalid(&error))?;
        let (digest, size) = self.blobs.put(&bytes)?;
        let entry = descriptor(MediaType::ImageManifest, size, &digest);
        self.blobs.sync()?;
        let references = self.layout.change(|entries| {
            name(entries, &entry, reference);
            Ok(names_of(entries, &entry))
        })?;
        let mut image = Image::load(&self.blobs, &entry)?;
        image.references = references;
        Ok(image)
    }

    /// The folders of an image's layers, lowest first; those that are missing are made from the blobs, side by side.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a layer that is not what the config says; [`Error::Layer`]; the step that failed.
    pub fn layer_dirs(&self, image: &Image) -> Result<Vec<PathBuf>, Error> {
        self.folders(image.layers.iter().zip(&image.descriptors).collect())
    }

    /// The folders of some layers, lowest first, as [`Store::layer_dirs`].
    ///
    /// # Errors
    /// As for [`Store::layer_dirs`].
    pub fn dirs_of(&self, layers: &[Layer]) -> Result<Vec<PathBuf>, Error> {
        self.folders(layers.iter().map(|layer| (&layer.diff_id, &layer.descriptor)).collect())
    }

    fn folders(&self, layers: Vec<(&DiffId, &Descriptor)>) -> Result<Vec<PathBuf>, Error> {
        let missing: Vec<_> =
            layers.iter().filter(|(diff_id, _)| !self.layers.path(diff_id).is_dir()).collect();
        if !missing.is_empty() {
            // The blobs must stay until they are read.
            let _pin = self.pin()?;
            let unpack = |layer: &&(&DiffId, &Descriptor)| {
                let (diff_id, descriptor) = **layer;
                let blob =
                    digest_of(descriptor).ok_or_else(|| Error::Digest(descriptor.digest().to_string()))?;
                self.layers.ensure(&self.blobs, &blob, diff_id).map(drop)
            };
            side_by_side(&missing, unpack)?;
        }
        Ok(layers.into_iter().map(|(diff_id, _)| self.layers.path(diff_id)).collect())
    }
}

/// A digest is what an image has, and not what it is given.
fn without_digest(reference: &Reference) -> Result<(), Error> {
    match reference.digest() {
        None => Ok(()),
        Some(_) => Err(Error::Reference {
            text: reference.to_string(),
            reason: "a digest cannot be given, it follows from the content: leave out what begins with @",
        }),
    }
}

/// Does the same with each of several things, with a thread for each processor; the first error ends it.
fn side_by_side<T: Sync>(things: &[T], act: impl Fn(&T) -> Result<(), Error> + Sync) -> Result<(), Error> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(things.len());
    if threads <= 1 {
        return things.iter().try_for_each(act);
    }
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(thing) = things.get(next.fetch_add(1, Ordering::Relaxed)) {
            act(thing).inspect_err(|_| next.store(things.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        // The scope waits for those after the first error as well.
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// All names of the manifest that an entry is for.
pub(crate) fn names_of(entries: &[Descriptor], entry: &Descriptor) -> Vec<Reference> {
    let same = entries.iter().filter(|other| other.digest() == entry.digest());
    let mut names: Vec<_> = same.filter_map(reference_of).collect();
    names.sort();
    names.dedup();
    names
}
