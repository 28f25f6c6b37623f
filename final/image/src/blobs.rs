//! Files named by their digest: written once, whole, and never changed.
//!
//! What the rest relies on: 1. a file appears under its name by one rename(2), after its bytes are on the disk, so that nobody
//! ever sees half of it; 2. its name is computed from the bytes as they are written, not from what somebody announced; 3. what
//! is read into memory has a bound, and is checked against its name.
//!
//! See image-layout.md of the OCI image specification, rename(2), fsync(2).

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use step::step;
use tempfile::{NamedTempFile, TempPath};

use crate::digest::Digesting;
use crate::{Digest, Error};

/// Manifests and configs are read whole; an honest one is far below this.
pub(crate) const LARGEST_DOCUMENT: u64 = 8 << 20;

/// The blobs of a store.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
    unfinished: PathBuf,
}

impl Blobs {
    pub(crate) fn new(folder: PathBuf, unfinished: PathBuf) -> Self {
        Self { folder, unfinished }
    }

    /// Where the blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// The folder of all blobs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the store has it.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Opens a blob to stream it; its bytes are not checked.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be opened.
    pub fn open(&self, digest: &Digest) -> Result<File, Error> {
        let path = self.path(digest);
        File::open(&path).map_err(Error::io(path))
    }

    /// Reads a small blob, and checks it against its name.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] where it is larger than 8 MiB or has another digest.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(Error::io(&path))?;
        file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes).map_err(Error::io(&path))?;
        if bytes.len() as u64 > LARGEST_DOCUMENT {
            return Err(Error::damaged(path, "it is too large for a document"));
        }
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(Error::damaged(path, format_args!("its bytes have the digest {found}")))
        }
    }

    /// Brings the names of all blobs to the disk. Call it before an index names them.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        sync_folder(&self.folder)
    }

    /// Begins a new blob.
    ///
    /// # Errors
    /// [`Error::Io`] where no file can be made.
    pub fn writer(&self) -> Result<BlobWriter<'_>, Error> {
        let file = tempfile::Builder::new()
            .prefix("blob-")
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(&self.unfinished)
            .map_err(Error::io(&self.unfinished))?;
        let (file, unfinished) = file.into_parts();
        Ok(BlobWriter { blobs: self, file: Digesting::new(file), unfinished })
    }

    /// Writes a small blob.
    ///
    /// # Errors
    /// As for [`BlobWriter::commit`].
    pub fn put(&self, bytes: &[u8]) -> Result<(Digest, u64), Error> {
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(Error::io(&self.unfinished))?;
        let digest = Digest::of(bytes);
        writer.name(None, self.read(&digest).is_ok())
    }
}

/// A blob that is being written; nobody sees it before [`BlobWriter::commit`], and dropped it is gone.
#[derive(Debug)]
pub struct BlobWriter<'a> {
    blobs: &'a Blobs,
    /// The bare file: errors of a `NamedTempFile` tell its name, which nobody knows.
    file: Digesting<File>,
    unfinished: TempPath,
}

impl BlobWriter<'_> {
    /// Gives the blob its name. Where the store has the blob already, the new copy is dropped; one of another length is none, but
    /// what a failing disk left of it.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where another digest is expected; the step that failed.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64), Error> {
        self.name(expected, true)
    }

    /// `intact` is false for one that must be replaced.
    fn name(self, expected: Option<&Digest>, intact: bool) -> Result<(Digest, u64), Error> {
        let (file, digest, size) = self.file.finish();
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(Error::Mismatch { expected: expected.clone(), found: digest });
        }
        let path = self.blobs.path(&digest);
        let whole = |there: fs::Metadata| there.is_file() && there.len() == size;
        if !intact || !fs::metadata(&path).is_ok_and(whole) {
            place(NamedTempFile::from_parts(file, self.unfinished), &path)?;
        }
        Ok((digest, size))
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Brings a finished file to the disk and under its name; the name is on the disk when its folder is.
pub(crate) fn place(file: NamedTempFile, path: &Path) -> Result<(), Error> {
    let (file, unfinished) = file.into_parts();
    step(
        "fsync",
        format_args!("{}", unfinished.display()),
        "the bytes must be on the disk before the name is",
    )
    .run(|| file.sync_all())?;
    let from = unfinished.to_path_buf();
    step("rename", format_args!("{} {}", from.display(), path.display()), "the whole file appears at once")
        .run(|| unfinished.persist(path).map_err(|error| error.error))?;
    Ok(())
}

/// Brings the names of a folder's files to the disk.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    let opened = File::open(folder).map_err(Error::io(folder))?;
    step("fsync", format_args!("{}", folder.display()), "a name is on the disk when its folder is")
        .run(|| opened.sync_all())?;
    Ok(())
}

/// Makes a folder of the store, closed to other users: a layer may hold set-user-id programs.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.is_dir() {
        return Ok(());
    }
    step("mkdir", format_args!("-p {}", folder.display()), "a folder of the image store")
        .run(|| fs::DirBuilder::new().recursive(true).mode(0o700).create(folder))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(folder: &Path) -> Blobs {
        let (done, unfinished) = (folder.join("done"), folder.join("tmp"));
        fs::create_dir(&done).unwrap();
        fs::create_dir(&unfinished).unwrap();
        Blobs::new(done, unfinished)
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_blob_is_seen_when_it_is_whole_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path());
        let mut writer = blobs.writer().unwrap();
        writer.write_all(b"pla").unwrap();
        assert_eq!(count(blobs.folder()), 0);
        writer.write_all(b"nk").unwrap();
        let (digest, size) = writer.commit(None).unwrap();
        assert_eq!((digest.clone(), size), (Digest::of(b"plank"), 5));
        assert_eq!(blobs.read(&digest).unwrap(), b"plank");
        assert_eq!(blobs.put(b"plank").unwrap().0, digest);
        assert_eq!((count(blobs.folder()), count(&blobs.unfinished)), (1, 0));
    }

    #[test]
    fn a_wrong_digest_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path());
        let mut writer = blobs.writer().unwrap();
        writer.write_all(b"other").unwrap();
        assert!(matches!(writer.commit(Some(&Digest::of(b"plank"))), Err(Error::Mismatch { .. })));
        assert_eq!((count(blobs.folder()), count(&blobs.unfinished)), (0, 0));
    }

    #[test]
    fn a_changed_blob_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path());
        let (digest, _) = blobs.put(b"plank").unwrap();
        fs::write(blobs.path(&digest), b"blank").unwrap();
        assert!(matches!(blobs.read(&digest), Err(Error::Damaged { .. })));
        // It is mended when the same comes again: by its length, or, of a document, by its bytes.
        assert_eq!(blobs.put(b"plank").unwrap().0, digest);
        assert_eq!(blobs.read(&digest).unwrap(), b"plank");
        fs::write(blobs.path(&digest), b"pl").unwrap();
        let mut writer = blobs.writer().unwrap();
        writer.write_all(b"plank").unwrap();
        writer.commit(Some(&digest)).unwrap();
        assert_eq!(blobs.read(&digest).unwrap(), b"plank");
        File::create(blobs.path(&digest)).unwrap().set_len(LARGEST_DOCUMENT + 1).unwrap();
        assert!(blobs.read(&digest).unwrap_err().to_string().contains("too large"));
    }
}
