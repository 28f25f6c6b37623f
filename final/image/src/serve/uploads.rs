//! Uploads: a blob on its way in, in one piece or in several, over one connection or over many.
//!
//! ```text
//! POST                       begin    <data>/tmp/upload-ID
//! PATCH, PATCH, ...          append   written, and digested while it is written
//! PUT ?digest=sha256:...     finish   the digest is compared; fsync, rename into blobs/sha256
//! ```
//!
//! A line that breaks loses nothing that came: how far the upload is can be asked, and the rest sent. After the server was killed
//! the file is read once more, for the digest of what is there; a sweep of the store in between takes the file away.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use step::step;
use tempfile::{NamedTempFile, TempPath};

use super::{Error, Registry, lock};
use crate::Digest;
use crate::blobs::place;
use crate::digest::Digesting;

/// The most that one blob may have.
pub const LARGEST_BLOB: u64 = 32 << 30;

/// The most that are unfinished at the same time: each is an open file.
const MOST: usize = 256;

const PREFIX: &str = "upload-";

/// A blob that is being written; nobody sees it before it is finished, and dropped it is gone.
#[derive(Debug)]
pub struct Upload {
    /// None when it has ended.
    file: Mutex<Option<Digesting<NamedTempFile>>>,
    id: String,
    /// When somebody last asked for it, or ended to write it.
    asked: Mutex<Instant>,
}

impl Upload {
    fn new(file: Digesting<NamedTempFile>, id: &str) -> Arc<Self> {
        let (file, asked) = (Mutex::new(Some(file)), Mutex::new(Instant::now()));
        Arc::new(Self { file, id: id.to_owned(), asked })
    }

    /// Since when nobody has asked for it; none while somebody writes it.
    pub(super) fn idle_since(self: &Arc<Self>) -> Option<Instant> {
        (Arc::strong_count(self) == 1).then(|| *lock(&self.asked))
    }

    /// What the specification calls its reference.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many bytes are here.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`] where it has ended meanwhile.
    pub fn size(&self) -> Result<u64, Error> {
        lock(&self.file).as_ref().map(Digesting::size).ok_or_else(|| self.unknown())
    }

    /// Appends pieces to the end, which must be at `start` if one is given. What came before an error stays.
    ///
    /// # Errors
    /// [`Error::Range`], [`Error::TooLarge`], [`Error::UploadUnknown`]; [`Error::Store`] where they cannot be written.
    pub fn append<T: AsRef<[u8]>>(
        &self,
        start: Option<u64>,
        pieces: impl Iterator<Item = T>,
    ) -> Result<u64, Error> {
        let mut file = lock(&self.file);
        let file = file.as_mut().ok_or_else(|| self.unknown())?;
        if start.is_some_and(|start| start != file.size()) {
            return Err(Error::Range { expected: file.size() });
        }
        for piece in pieces {
            if file.size() + piece.as_ref().len() as u64 > LARGEST_BLOB {
                return Err(Error::TooLarge(LARGEST_BLOB));
            }
            file.write_all(piece.as_ref()).map_err(|error| {
                let path = file.get_mut().path().to_owned();
                crate::Error::io(path)(error)
            })?;
        }
        *lock(&self.asked) = Instant::now();
        Ok(file.size())
    }

    fn unknown(&self) -> Error {
        Error::UploadUnknown(self.id.clone())
    }
}

impl Registry {
    /// Begins an upload. Where there are too many, the one for which nobody has asked for longest ends.
    ///
    /// # Errors
    /// [`Error::Store`] where no file can be made.
    pub fn begin_upload(&self) -> Result<Arc<Upload>, Error> {
        let mut pushing = self.hold_still()?;
        if pushing.uploads.len() >= MOST {
            let idle = pushing.uploads.iter().filter_map(|(id, upload)| Some((upload.idle_since()?, id)));
            let oldest = idle.min().map(|(_, id)| id.clone());
            if let Some(id) = oldest {
                pushing.uploads.remove(&id);
            }
        }
        let folder = &self.store.unfinished;
        let file = step(
            "open",
            format_args!("{}/{PREFIX}XXXXXX", folder.display()),
            "a blob is no blob before its digest is right",
        )
        .run(|| builder().tempfile_in(folder))
        .map_err(crate::Error::from)?;
        let name = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let id = name.trim_start_matches(PREFIX).to_owned();
        let upload = Upload::new(Digesting::new(file), &id);
        pushing.uploads.insert(id, Arc::clone(&upload));
        Ok(upload)
    }

    /// An upload that was begun, also by a server that was killed since.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`]; [`Error::Store`] where it cannot be read.
    pub fn upload(&self, id: &str) -> Result<Arc<Upload>, Error> {
        let mut pushing = self.hold_still()?;
        if let Some(upload) = pushing.uploads.get(id) {
            *lock(&upload.asked) = Instant::now();
            return Ok(Arc::clone(upload));
        }
        let unknown = || Error::UploadUnknown(id.to_owned());
        if id.len() != RANDOM || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(unknown());
        }
        let path = self.store.unfinished.join(format!("{PREFIX}{id}"));
        let left = match File::options().read(true).append(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            other => other.map_err(crate::Error::io(&path))?,
        };
        let name = TempPath::try_from_path(&path).map_err(crate::Error::io(&path))?;
        let mut file = Digesting::new(NamedTempFile::from_parts(left, name));
        io::copy(&mut file, &mut io::sink()).map_err(crate::Error::io(&path))?;
        let upload = Upload::new(file, id);
        pushing.uploads.insert(id.to_owned(), Arc::clone(&upload));
        Ok(upload)
    }

    /// Ends an upload: the blob appears if its digest is the one announced, and else is gone.
    ///
    /// # Errors
    /// [`Error::Digest`], [`Error::UploadUnknown`]; [`Error::Store`].
    pub fn finish_upload(&self, upload: &Upload, expected: &Digest) -> Result<(), Error> {
        let file = lock(&upload.file).take().ok_or_else(|| upload.unknown())?;
        lock(&self.pushing).uploads.remove(&upload.id);
        let (file, found, _) = file.finish();
        if found != *expected {
            return Err(Error::Digest { expected: expected.clone(), found });
        }
        let path = self.store.blobs.path(&found);
        if !path.is_file() {
            place(file, &path)?;
        }
        self.hold_still()?.fresh.insert(found);
        Ok(())
    }

    /// Makes sure of a blob that is here already: it stays for the manifest that is to come.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`]; [`Error::Store`].
    pub fn mount(&self, digest: &Digest) -> Result<(), Error> {
        // Held first: what is seen then stays.
        drop(self.hold_still()?);
        self.blob_size(digest)?;
        self.hold_still()?.fresh.insert(digest.clone());
        Ok(())
    }

    /// Ends an upload that nobody wants.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`].
    pub fn cancel_upload(&self, upload: &Upload) -> Result<(), Error> {
        lock(&self.pushing).uploads.remove(&upload.id);
        lock(&upload.file).take().map(drop).ok_or_else(|| upload.unknown())
    }
}

/// Letters and digits of an upload's ID.
const RANDOM: usize = 24;

fn builder() -> tempfile::Builder<'static, 'static> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).rand_bytes(RANDOM).permissions(std::fs::Permissions::from_mode(0o644));
    builder
}
