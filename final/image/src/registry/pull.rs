//! Pull: manifest, config, and the layers side by side, into the store.
//!
//! Order: the manifest, by tag or digest -> of an index, the manifest for the platform -> the config, which knows the DiffIDs -> the
//! layers that are missing, some at a time, each read once on its way through digest, blob, decompression and folder -> the
//! index of the store. What is announced is checked as it comes: a digest, a size, a DiffID that is wrong ends it, and nothing of the
//! image is named. Layers that arrived whole stay for the next try, until a removal sweeps.
//!
//! See spec.md of the OCI distribution specification, "Pull"; image-index.md and manifest.md of the image specification.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};

use super::credentials::domain_of;
use super::download::Download;
use super::repository::Document;
use super::{Error, Platform, Progress, Quiet, Registries, Repository};
use crate::blobs::LARGEST_DOCUMENT;
use crate::image::{is_index, kind_of};
use crate::layers::descriptor;
use crate::layout::{digest_of, name, set_pulled};
use crate::{DiffId, Digest, Image, Pin, Reference, Store};

/// How many layers come at the same time: as many as with Docker.
const AT_ONCE: usize = 3;

/// What to pull.
#[derive(Debug)]
pub struct Pull<'a> {
    /// The image.
    pub reference: &'a Reference,
    /// For which machine; for this one where none is said, and then what is for one machine alone is taken as it is.
    pub platform: Option<&'a Platform>,
}

/// What came of it.
#[derive(Debug)]
pub struct Pulled {
    /// The image, in the store.
    pub image: Image,
    /// What the registry calls it: the digest of the index, or of the manifest.
    pub digest: Digest,
    /// Whether the store did not have it under this name.
    pub new: bool,
}

impl Store {
    /// Pulls an image and names it. Several may pull at once, also the same image.
    ///
    /// # Errors
    /// What the registry refuses, what is not as announced, or what the store cannot do; the store names no other image then.
    pub fn pull(
        &self,
        registries: &Registries,
        pull: &Pull<'_>,
        progress: &dyn Progress,
    ) -> Result<Pulled, Error> {
        let reference = pull.reference;
        let asked = reference.digest().map(Digest::to_string);
        let asked = asked.as_deref().or(reference.tag()).unwrap_or("latest");
        let mut places = registries.places(reference).into_iter();
        loop {
            let (repository, top) = first_to_answer(registries, reference, asked, &mut places, progress)?;
            progress.note(&format!("{asked}: Pulling from {}", reference.path()));
            let place = &repository.session.base;
            match self.pull_from(&repository, top, pull, progress) {
                // It may have the manifest, and lack or spoil what that names. The disk would be the same with another.
                Err(error) if is_mirror(registries, reference, place) && !is_ours(&error) => {
                    progress.note(&passed_over(place, &error));
                }
                outcome => return outcome,
            }
        }
    }

    fn pull_from(
        &self,
        repository: &Repository<'_>,
        top: Document,
        pull: &Pull<'_>,
        progress: &dyn Progress,
    ) -> Result<Pulled, Error> {
        let reference = pull.reference;
        let pulled_as = top.digest.clone();
        let platform = pull.platform.cloned().unwrap_or_default();
        let document = choose(repository, top, reference, &platform)?;
        // An index says what each of its images is for, and is believed.
        let chosen = document.digest != pulled_as;
        let manifest: ImageManifest = parse(repository, &document, "manifest")?;
        let kind = kind_of(&manifest).map_err(|reason| Error::answer(repository.host(), reason))?;
        let pin = Arc::new(self.pin()?);
        let config = fetch_config(self, repository, &manifest)?;
        if !chosen && !platform.fits_config(&config) {
            let has = Platform::of_config(&config);
            if pull.platform.is_some() {
                return Err(no_platform(reference, &platform, [has]));
            }
            progress.note(&format!("{reference} is for {has}, and this machine is {platform}"));
        }
        let layers = pairs(repository, &manifest, &config)?;
        self.fetch_layers(repository, &layers, &pin, progress)?;
        let (digest, size) = self.blobs.put(&document.bytes)?;
        let mut entry = descriptor(kind, size, &digest);
        set_pulled(&mut entry, &pulled_as);
        self.blobs.sync()?;
        let before = self.resolve(&reference.to_string()).ok();
        self.layout.change(|entries| {
            name(entries, &entry, Some(reference));
            Ok(())
        })?;
        let image = self.resolve(&reference.full())?;
        let new = before.is_none_or(|before| before.manifest.digest() != image.manifest.digest());
        Ok(Pulled { image, digest: pulled_as, new })
    }

    /// The references of all tags of a reference's repository.
    ///
    /// # Errors
    /// What the registry refuses.
    pub fn tags(&self, registries: &Registries, reference: &Reference) -> Result<Vec<Reference>, Error> {
        let login = registries.credentials().find(reference.domain())?;
        let name = format!("{}/{}", reference.domain(), reference.path());
        let tags = registries.at_own_address(reference.domain(), |address| {
            Repository::at(registries, address, reference, login.clone(), false)?.tags()
        })?;
        Ok(tags.iter().filter_map(|tag| format!("{name}:{tag}").parse().ok()).collect())
    }

    /// The layers that are missing, some at a time. The first error ends the others.
    fn fetch_layers(
        &self,
        repository: &Repository<'_>,
        layers: &[(&Descriptor, DiffId)],
        pin: &Arc<Pin>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let (stop, failed) = (AtomicBool::new(false), Mutex::new(None));
        let next = Mutex::new(layers.iter());
        let work = || loop {
            let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((descriptor, diff_id)) = taken else { break };
            let done = self.fetch_layer(repository, (descriptor, diff_id), pin, &stop, progress);
            if let Err(error) = done {
                // Those that are given up because of it have nothing to say.
                if !stop.swap(true, Ordering::Relaxed) {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
                break;
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(layers.len()) {
                scope.spawn(work);
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    // ANCHOR: fetch_layer
    fn fetch_layer(
        &self,
        repository: &Repository<'_>,
        (descriptor, diff_id): (&Descriptor, &DiffId),
        pin: &Arc<Pin>,
        stop: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let digest = digest_of(descriptor).ok_or_else(|| {
            Error::answer(repository.host(), format!("{} is not sha256", descriptor.digest()))
        })?;
        if self.blobs.has(&digest) {
            self.check_known(repository, (descriptor, diff_id), &digest)?;
            self.layers.ensure(&self.blobs, &digest, diff_id)?;
            progress.end(&digest, "Already exists");
            return Ok(());
        }
        progress.begin(&digest, descriptor.size());
        let (mut failed, announced) = (None, Some((descriptor, diff_id)));
        let download = Download::new(repository, (&digest, descriptor.size()), stop, progress, &mut failed);
        let received = self.layers.receive(
            &self.blobs,
            download,
            announced,
            digest.to_string().as_ref(),
            Arc::clone(pin),
        );
        // What broke the stream says more than that it broke.
        match (received, failed) {
            (_, Some(error)) => Err(error),
            (received, None) => {
                received?;
                progress.end(&digest, "Pull complete");
                Ok(())
            }
        }
    }
    // ANCHOR_END: fetch_layer
}

impl Store {
    /// Whether a blob that is there already is what a manifest says. That it has this DiffID an image knows that has it, or its bytes do.
    fn check_known(
        &self,
        repository: &Repository<'_>,
        (descriptor, diff_id): (&Descriptor, &DiffId),
        digest: &Digest,
    ) -> Result<(), Error> {
        let size =
            self.blobs.open(digest)?.metadata().map_err(crate::Error::io(self.blobs.path(digest)))?.len();
        if size != descriptor.size() {
            let reason = format!("{digest} has {size} bytes, and not {}", descriptor.size());
            return Err(Error::answer(repository.host(), reason));
        }
        let knows = |image: &Image| {
            let pairs = image.layers.iter().zip(&image.descriptors);
            pairs.into_iter().any(|(known, blob)| known == diff_id && blob.digest() == descriptor.digest())
        };
        if !self.list()?.iter().any(knows) {
            self.layers.check(&self.blobs, digest, diff_id)?;
        }
        Ok(())
    }
}

/// The next of the registry's places that has the manifest: a mirror that has not, or is not there, is passed over.
fn first_to_answer<'a>(
    registries: &'a Registries,
    reference: &Reference,
    asked: &str,
    places: &mut impl Iterator<Item = String>,
    progress: &dyn Progress,
) -> Result<(Repository<'a>, Document), Error> {
    let mut last = None;
    for place in places {
        let is_mirror = is_mirror(registries, reference, &place);
        // A mirror is somebody else, who is told no password but its own.
        let domain = if is_mirror { domain_of(&place) } else { reference.domain() };
        let login = registries.credentials().find(domain)?;
        let repository = Repository::at(registries, &place, reference, login, false)?;
        match repository.manifest(asked) {
            Ok(document) => return Ok((repository, document)),
            // An answer of the registry itself is final; no answer may mean that it speaks no TLS.
            Err(error) if !is_mirror && !matches!(error, Error::Unreachable { .. }) => {
                return Err(error);
            }
            Err(error) => {
                if is_mirror {
                    progress.note(&passed_over(&place, &error));
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::answer(reference.domain(), "it has no address")))
}

fn is_mirror(registries: &Registries, reference: &Reference, place: &str) -> bool {
    !registries.addresses(reference.domain()).iter().any(|own| own == place)
}

fn passed_over(mirror: &str, error: &Error) -> String {
    format!("the mirror {mirror} is passed over: {error}")
}

/// Whether it is this machine that fails.
fn is_ours(error: &Error) -> bool {
    matches!(error, Error::Store(crate::Error::Step(_) | crate::Error::Io { .. }))
}

/// Of an index the manifest for the platform; never an index in an index.
fn choose(
    repository: &Repository<'_>,
    top: Document,
    reference: &Reference,
    platform: &Platform,
) -> Result<Document, Error> {
    if !is_index(&MediaType::from(top.media_type.as_str())) && !looks_like_index(&top) {
        return Ok(top);
    }
    let index: ImageIndex = parse(repository, &top, "index")?;
    let images = index.manifests().iter().filter(|entry| !is_index(entry.media_type()));
    let fitting = images.filter_map(|entry| Some((platform.distance(entry)?, entry)));
    let Some((_, entry)) = fitting.min_by_key(|(distance, _)| *distance) else {
        let has = index.manifests().iter().filter_map(Platform::of_entry);
        return Err(no_platform(reference, platform, has));
    };
    let document = repository.manifest(entry.digest().as_ref())?;
    if entry.size() != document.bytes.len() as u64 {
        return Err(Error::answer(
            repository.host(),
            format!("{} has not the size that the index tells", entry.digest()),
        ));
    }
    if looks_like_index(&document) {
        return Err(Error::answer(repository.host(), "an index leads to an index"));
    }
    Ok(document)
}

fn no_platform(reference: &Reference, platform: &Platform, has: impl IntoIterator<Item = Platform>) -> Error {
    let has: BTreeSet<_> = has.into_iter().map(|platform| platform.to_string()).collect();
    Error::Platform {
        image: reference.to_string(),
        platform: platform.to_string(),
        has: has.into_iter().collect::<Vec<_>>().join(", "),
    }
}

/// What it is, whatever it is called: only an index has manifests.
fn looks_like_index(document: &Document) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(&document.bytes).ok();
    value.is_some_and(|value| value.get("manifests").is_some())
}

fn parse<T: serde::de::DeserializeOwned>(
    repository: &Repository<'_>,
    document: &Document,
    what: &str,
) -> Result<T, Error> {
    serde_json::from_slice(&document.bytes).map_err(|error| {
        Error::answer(
            repository.host(),
            format!("{} ({}) is no {what}: {error}", document.digest, document.media_type),
        )
    })
}

/// The config, checked against its digest and size.
fn fetch_config(
    store: &Store,
    repository: &Repository<'_>,
    manifest: &ImageManifest,
) -> Result<ImageConfiguration, Error> {
    let wrong = |reason: String| Error::answer(repository.host(), reason);
    let announced = manifest.config();
    let digest =
        digest_of(announced).ok_or_else(|| wrong(format!("{} is not sha256", announced.digest())))?;
    if announced.size() > LARGEST_DOCUMENT {
        return Err(wrong(format!("a config of {} bytes", announced.size())));
    }
    let bytes = if store.blobs.has(&digest) {
        let bytes = store.blobs.read(&digest)?;
        if bytes.len() as u64 != announced.size() {
            return Err(wrong(format!("{digest} has {} bytes, and not {}", bytes.len(), announced.size())));
        }
        bytes
    } else {
        let (mut bytes, mut failed, stop) = (Vec::new(), None, AtomicBool::new(false));
        let what = (&digest, announced.size());
        let read = Download::new(repository, what, &stop, &Quiet, &mut failed).read_to_end(&mut bytes);
        if let Some(error) = failed {
            return Err(error);
        }
        read.map_err(|error| wrong(error.to_string()))?;
        let found = Digest::of(&bytes);
        if found != digest || bytes.len() as u64 != announced.size() {
            return Err(wrong(format!("the config has the digest {found}, where {digest} is expected")));
        }
        bytes
    };
    let config =
        serde_json::from_slice(&bytes).map_err(|error| wrong(format!("{digest} is no config: {error}")))?;
    store.blobs.put(&bytes)?;
    Ok(config)
}

/// Each layer with the digest of its archive; one that is there twice comes once.
fn pairs<'a>(
    repository: &Repository<'_>,
    manifest: &'a ImageManifest,
    config: &ImageConfiguration,
) -> Result<Vec<(&'a Descriptor, DiffId)>, Error> {
    let wrong = |reason: String| Error::answer(repository.host(), reason);
    let (layers, diff_ids) = (manifest.layers(), config.rootfs().diff_ids());
    if layers.len() != diff_ids.len() {
        return Err(wrong(format!("{} layers, and {} diff_ids in the config", layers.len(), diff_ids.len())));
    }
    let mut seen = BTreeMap::new();
    let mut pairs = Vec::new();
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let diff_id: DiffId = diff_id.parse().map_err(|_| wrong(format!("{diff_id} is no sha256 digest")))?;
        match seen.insert(layer.digest().to_string(), diff_id.clone()) {
            None => pairs.push((layer, diff_id)),
            Some(other) if other == diff_id => {}
            Some(other) => {
                return Err(wrong(format!("the config calls {} both {other} and {diff_id}", layer.digest())));
            }
        }
    }
    Ok(pairs)
}
