//! The store as a registry: what of it is offered, under which names, and how it grows.
//!
//! A registry has a *name*, `localhost:5000` for example. An image of the store whose reference begins with that name is offered
//! as the rest of it, and what is pushed gets such a reference. That is all of the mapping:
//!
//! ```text
//! in the store                          offered as
//! localhost:5000/class/tool:v1          repository class/tool, tag v1
//! localhost:5000/class/tool@sha256:…    repository class/tool, a manifest that was pushed by its digest alone
//! busybox:latest                        nothing: no image of another name is served, and none of its layers
//! ```
//!
//! So `sampan tag busybox localhost:5000/busybox` offers an image, `sampan rmi localhost:5000/busybox` takes it back, `rmi` and
//! `image prune` keep what has such a name, and whoever may push can change no image of another name. A tag that moves leaves
//! its old image in the store without a name, as `tag` and `build` do; `image prune` frees it.
//!
//! What holds at any instant, whoever is killed: 1. a blob appears whole and with the digest that was announced, or not at all;
//! 2. a manifest is kept only when everything that it names is there. Between a blob and the manifest that will name it lies
//! a time in which nothing leads to it: then the registry holds a [`Pin`], and lets go when nobody has pushed for a while.
//!
//! See the OCI distribution specification. In reading order: [`view`], [`uploads`], [`manifests`], [`picture`], [`error`].

pub mod error;
pub mod manifests;
pub mod picture;
pub mod uploads;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use error::Error;
pub use manifests::Target;
pub use picture::{Picture, Shown};
pub use uploads::Upload;
pub use view::{Repository, View};

use crate::{Digest, Pin, Reference, Store};

/// How long after the last request that pushed something the store is held still, and unfinished uploads are kept.
pub const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// A registry of a store's images.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    name: String,
    seen: Mutex<Option<(Stamp, Arc<View>)>>,
    pushing: Mutex<Pushing>,
}

/// What tells one index.json from the next: each is a new file.
type Stamp = (u64, u64, i64, i64);

/// What is there for those who push.
#[derive(Debug, Default)]
struct Pushing {
    pin: Option<Pin>,
    last: Option<Instant>,
    /// Blobs that came whole, and that no manifest names yet.
    fresh: BTreeSet<Digest>,
    uploads: BTreeMap<String, Arc<Upload>>,
}

impl Registry {
    /// Offers those images of a store whose references begin with `name`, a `HOST` or `HOST:PORT`.
    ///
    /// # Errors
    /// [`Error::Name`] for what cannot be the host of a reference.
    pub fn new(store: Store, name: &str) -> Result<Self, Error> {
        let is_host = format!("{name}/a")
            .parse::<Reference>()
            .is_ok_and(|parsed| parsed.domain() == name && parsed.path() == "a");
        if !is_host {
            return Err(Error::Name(name.to_owned()));
        }
        Ok(Self { store, name: name.to_owned(), seen: Mutex::default(), pushing: Mutex::default() })
    }

    /// The name: what stands before the first `/` of the references of what is offered.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is offered now.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn view(&self) -> Result<Arc<View>, Error> {
        let path = self.store.layout.folder().join("index.json");
        let about = std::fs::metadata(&path).map_err(crate::Error::io(path))?;
        let stamp = (about.ino(), about.size(), about.mtime(), about.mtime_nsec());
        let mut seen = lock(&self.seen);
        if let Some((_, view)) = seen.as_ref().filter(|(old, _)| *old == stamp) {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(View::read(&self.store, &self.name)?);
        *seen = Some((stamp, Arc::clone(&view)));
        Ok(view)
    }

    /// Whether a blob is offered, or has come for a manifest that is still to come; its size then.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`]; [`Error::Store`].
    pub fn blob_size(&self, digest: &Digest) -> Result<u64, Error> {
        if !self.view()?.blobs.contains(digest) && !lock(&self.pushing).fresh.contains(digest) {
            return Err(Error::BlobUnknown(digest.clone()));
        }
        let about = std::fs::metadata(self.store.blobs.path(digest));
        about.map(|about| about.len()).map_err(|_| Error::BlobUnknown(digest.clone()))
    }

    /// Opens a blob that is offered.
    ///
    /// # Errors
    /// As for [`Registry::blob_size`].
    pub fn open_blob(&self, digest: &Digest) -> Result<(File, u64), Error> {
        let size = self.blob_size(digest)?;
        Ok((self.store.blobs.open(digest)?, size))
    }

    /// Keeps everything in the store where it is until nobody has pushed for [`PATIENCE`]. Whatever a push sees then stays.
    fn hold_still(&self) -> Result<MutexGuard<'_, Pushing>, Error> {
        let mut pushing = lock(&self.pushing);
        if pushing.pin.is_none() {
            pushing.pin = Some(self.store.pin()?);
        }
        pushing.last = Some(Instant::now());
        Ok(pushing)
    }

    /// Lets go of what nobody has asked for in `patience`: the store may be swept again. To be called now and then.
    pub fn rest(&self, patience: Duration) {
        let mut pushing = lock(&self.pushing);
        // What nobody goes on with ends, whatever else is going on.
        pushing
            .uploads
            .retain(|_, upload| upload.idle_since().is_none_or(|since| since.elapsed() < patience));
        // Somebody is writing it at this moment.
        if pushing.uploads.values().any(|upload| upload.idle_since().is_none()) {
            pushing.last = Some(Instant::now());
        }
        if pushing.last.is_some_and(|last| last.elapsed() >= patience) {
            *pushing = Pushing::default();
        }
    }
}

/// What a thread that panicked left is as good as before: nothing here is half done while it is locked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_held_still_for_a_push_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let registry = Registry::new(store.clone(), "localhost:5000").unwrap();
        let upload = registry.begin_upload().unwrap();
        upload.append(None, [b"plank"].into_iter()).unwrap();
        let digest = Digest::of(b"plank");
        registry.finish_upload(&upload, &digest).unwrap();
        let prune = || store.prune(&|_| false).unwrap();
        prune();
        assert_eq!(registry.blob_size(&digest).unwrap(), 5);
        registry.rest(PATIENCE);
        prune();
        assert_eq!(registry.blob_size(&digest).unwrap(), 5);
        registry.rest(Duration::ZERO);
        prune();
        assert!(matches!(registry.blob_size(&digest), Err(Error::BlobUnknown(_))));
        assert!(!store.blobs.has(&digest));
    }

    #[test]
    fn uploads_that_nobody_ends_are_ended() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let registry = Registry::new(store.clone(), "localhost:5000").unwrap();
        let files = || std::fs::read_dir(&store.unfinished).unwrap().count();
        let (first, held) =
            (registry.begin_upload().unwrap().id().to_owned(), registry.begin_upload().unwrap());
        let mut last = String::new();
        for _ in 0..300 {
            last = registry.begin_upload().unwrap().id().to_owned();
        }
        assert_eq!(files(), 256);
        assert!(matches!(registry.upload(&first), Err(Error::UploadUnknown(_))));
        registry.upload(&last).unwrap();
        // While one is written the others may end.
        held.append(None, [b"plank"].into_iter()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        registry.rest(Duration::from_millis(20));
        assert_eq!(files(), 1);
        assert_eq!(registry.upload(held.id()).unwrap().size().unwrap(), 5);
    }

    #[test]
    fn a_name_is_a_host_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for name in ["localhost:5000", "registry.class", "[::1]:5000"] {
            Registry::new(store.clone(), name).unwrap();
        }
        for name in ["", "docker.io", "class", "a/b.c", "localhost:5000/x", "x y.z"] {
            assert!(Registry::new(store.clone(), name).is_err(), "{name}");
        }
    }
}
