//! Push: blobs first, some at a time, and the manifest last: what a registry names is whole.
//!
//! What goes is what the store has, byte for byte, so that the digests are the same on both sides.
//!
//! See spec.md of the OCI distribution specification, "Push".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use oci_spec::image::ImageManifest;
use ureq::http::{Method, header};

use super::http::Ask;
use super::repository::text;
use super::upload::{Outcome, Upload};
use super::{Error, Progress, Registries, Repository};
use crate::image::document;
use crate::layout::{digest_of, name, reference_of, set_pulled};
use crate::{Digest, Image, Reference, Store};

/// How many blobs go at the same time: as many as with Docker.
const AT_ONCE: usize = 5;

/// What came of it.
#[derive(Debug)]
pub struct Pushed {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's size in bytes.
    pub size: u64,
}

impl Store {
    /// Pushes the image of a reference to the reference's own registry.
    ///
    /// # Errors
    /// As for [`Store::resolve`]; what the registry refuses.
    pub fn push(
        &self,
        registries: &Registries,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<Pushed, Error> {
        let _pin = self.pin()?;
        if reference.digest().is_some() {
            let reason = "an image is pushed under a tag: leave the digest out";
            return Err(crate::Error::Reference { text: reference.to_string(), reason }.into());
        }
        let image = self.resolve(&reference.full())?;
        let manifest: ImageManifest = document(&self.blobs, &image.manifest, "manifest")?;
        let blobs = blobs(&manifest)?;
        let repository = open(registries, reference)?;
        progress.note(&format!(
            "The push refers to repository [{}/{}]",
            reference.domain(),
            reference.path()
        ));
        let elsewhere = self.repositories_with(reference, &manifest)?;
        self.send_all(&repository, &blobs, &elsewhere, progress)?;
        let pushed = self.send_manifest(&repository, &image, reference)?;
        let mut entry = image.manifest.clone();
        set_pulled(&mut entry, &pushed.digest);
        self.layout.change(|entries| {
            name(entries, &entry, Some(reference));
            Ok(())
        })?;
        Ok(pushed)
    }

    fn send_all(
        &self,
        repository: &Repository<'_>,
        blobs: &[(Digest, u64)],
        elsewhere: &BTreeMap<Digest, BTreeSet<String>>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let (stop, failed) = (AtomicBool::new(false), Mutex::new(None));
        let next = Mutex::new(blobs.iter());
        // A body is read by the connection, which knows nothing of whoever waits: what it reads is told here.
        let (sender, heard) = mpsc::channel::<(Digest, u64)>();
        let work = |sender: mpsc::Sender<(Digest, u64)>| {
            while !stop.load(Ordering::Relaxed) {
                let Some((digest, size)) = next.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                    break;
                };
                progress.begin(digest, *size);
                let (own, teller) = (digest.clone(), sender.clone());
                // Nobody listens any more: then nobody wants to know.
                let advance = move |count| drop(teller.send((own.clone(), count)));
                let path = self.blobs.path(digest);
                let (size, advance) = (*size, Arc::new(advance));
                let elsewhere = elsewhere.get(digest).into_iter().flatten();
                let elsewhere = elsewhere.map(String::as_str).collect();
                let upload = Upload { repository, digest, size, path, elsewhere, advance };
                match upload.run() {
                    Ok(Outcome::Exists) => progress.end(digest, "Layer already exists"),
                    Ok(Outcome::Mounted(from)) => progress.end(digest, &format!("Mounted from {from}")),
                    Ok(Outcome::Sent) => progress.end(digest, "Pushed"),
                    Err(error) => {
                        if !stop.swap(true, Ordering::Relaxed) {
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        }
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(blobs.len()) {
                let sender = sender.clone();
                scope.spawn(move || work(sender));
            }
            drop(sender);
            heard.iter().for_each(|(digest, count)| progress.advance(&digest, count));
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn send_manifest(
        &self,
        repository: &Repository<'_>,
        image: &Image,
        reference: &Reference,
    ) -> Result<Pushed, Error> {
        let digest = digest_of(&image.manifest)
            .ok_or_else(|| Error::answer(repository.host(), "the image's manifest is not named by sha256"))?;
        let bytes = self.blobs.read(&digest)?;
        let size = bytes.len() as u64;
        let by_digest = digest.to_string();
        let tag = reference.tag().unwrap_or(&by_digest);
        let ask = Ask::new(
            Method::PUT,
            repository.url(&format!("manifests/{tag}")),
            "last, for it names the blobs",
        )
        .header(header::CONTENT_TYPE, image.manifest.media_type().to_string())
        .bytes(bytes);
        let (response, _) = repository.expect("the manifest", ask, &[201, 202])?;
        match text(&response, "docker-content-digest") {
            Some(told) if told.starts_with("sha256:") && told != by_digest => Err(Error::answer(
                repository.host(),
                format!("it has the manifest as {told}, where {digest} was sent"),
            )),
            _ => Ok(Pushed { digest, size }),
        }
    }

    /// The other repositories of the same registry from which the image's layers came, or to which they went.
    fn repositories_with(
        &self,
        reference: &Reference,
        manifest: &ImageManifest,
    ) -> Result<BTreeMap<Digest, BTreeSet<String>>, Error> {
        let own: BTreeSet<_> = manifest.layers().iter().filter_map(digest_of).collect();
        let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for entry in self.layout.index().map_err(Error::Store)?.manifests() {
            let Some(other) = reference_of(entry) else { continue };
            if other.domain() != reference.domain() || other.path() == reference.path() {
                continue;
            }
            let Ok(manifest) = document::<ImageManifest>(&self.blobs, entry, "manifest") else { continue };
            for layer in manifest.layers().iter().filter_map(digest_of).filter(|layer| own.contains(layer)) {
                found.entry(layer).or_default().insert(other.path().to_owned());
            }
        }
        Ok(found)
    }
}

/// The layers and the config, each once.
fn blobs(manifest: &ImageManifest) -> Result<Vec<(Digest, u64)>, Error> {
    let mut found: Vec<(Digest, u64)> = Vec::new();
    for entry in manifest.layers().iter().chain([manifest.config()]) {
        let digest = digest_of(entry).ok_or_else(|| crate::Error::Digest(entry.digest().to_string()))?;
        if !found.iter().any(|(other, _)| *other == digest) {
            found.push((digest, entry.size()));
        }
    }
    Ok(found)
}

/// The repository at the first of the registry's addresses where somebody answers.
fn open<'a>(registries: &'a Registries, reference: &Reference) -> Result<Repository<'a>, Error> {
    let login = registries.credentials().find(reference.domain())?;
    registries.at_own_address(reference.domain(), |address| {
        let repository = Repository::at(registries, address, reference, login.clone(), true)?;
        repository.send(Ask::get(format!("{address}/v2/"), "is anybody there, and who may push?"))?;
        Ok(repository)
    })
}
