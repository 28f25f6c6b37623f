//! Layers: a blob for those who carry images about, and a folder for overlay.
//!
//! An archive on its way in is read once: digested as it comes, written as a blob, decompressed, digested again (the DiffID),
//! and unpacked, each piece while it is in memory. A thread of its own reads and decompresses, somewhat ahead of the unpacking
//! (`ahead.rs`). The folder is made under another name and renamed when all of it is right, so a folder under its DiffID is
//! complete. A container's upper directory needs none of that: it *is* a layer's folder already and only moves.
//!
//! ```text
//! reader ─▶ digest ─▶ blob            ┌─▶ digest (DiffID)
//!              └────▶ decompress ─────┴─▶ unpack ─▶ <data>/tmp/layer-… ─▶ rename ─▶ <data>/layers/sha256/<hex>
//! ```
//!
//! See layer.md of the OCI image specification. Not covered: a power failure between the rename and the moment when the
//! kernel writes the folder's files: the blob, which is on the disk by then, is what counts, and the folder can be made from it anew.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chroot::Unpack;
use chroot::unpack::unpack_into;
use oci_spec::image::{Descriptor, MediaType, Sha256Digest};
use step::step;
use unionfs::Whiteouts;

use crate::ahead::read_ahead;
use crate::blobs::{Blobs, make_folder};
use crate::bounds::{self, Compression};
use crate::digest::Digesting;
use crate::layout::digest_of;
use crate::{DiffId, Digest, Error, Pin};

const BUFFER: usize = 1 << 17;

/// A layer in the store. It stays there while this value lives, also before an image has it.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The digest of the tar archive.
    pub diff_id: DiffId,
    /// The blob: its media type, digest and size.
    pub descriptor: Descriptor,
    pub(crate) _pin: Arc<Pin>,
}

/// The unpacked layers of a store.
#[derive(Debug, Clone)]
pub struct Layers {
    folder: PathBuf,
    unfinished: PathBuf,
    userxattr: bool,
    owners_left_out: Arc<AtomicBool>,
}

impl Layers {
    pub(crate) fn new(folder: PathBuf, unfinished: PathBuf) -> Self {
        // Who makes no devices sets no `trusted` attributes either.
        let userxattr = !Unpack::default().devices;
        Self { folder, unfinished, userxattr, owners_left_out: Arc::default() }
    }

    /// The folder of a layer, whether it is there or not.
    pub fn path(&self, diff_id: &DiffId) -> PathBuf {
        self.folder.join(diff_id.hex())
    }

    /// The folder of all layers.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether overlay's marks are attributes of the kind that an ordinary user may set: how the layers are to be mounted.
    pub fn userxattr(&self) -> bool {
        self.userxattr
    }

    /// Whether files of other owners than root were unpacked by a user who has one id alone, and so became this user's.
    pub(crate) fn owners_left_out(&self) -> bool {
        self.owners_left_out.load(Ordering::Relaxed)
    }

    /// Reads an archive, plain or compressed, into a blob and a folder. A stream has no name: messages call it the archive.
    pub(crate) fn add(&self, blobs: &Blobs, reader: impl Read + Send, pin: Arc<Pin>) -> Result<Layer, Error> {
        self.receive(blobs, reader, None, Path::new(""), pin)
    }

    // ANCHOR: receive
    /// The same with a name for messages; and for one that was announced: it becomes a layer if the blob has this digest, and the archive this DiffID.
    pub(crate) fn receive(
        &self,
        blobs: &Blobs,
        reader: impl Read + Send,
        announced: Option<(&Descriptor, &DiffId)>,
        named: &Path,
        pin: Arc<Pin>,
    ) -> Result<Layer, Error> {
        let mut writer = blobs.writer()?;
        let mut unreadable = None;
        let tee = Tee { reader, writer: &mut writer, failed: &mut unreadable };
        let mut stream = BufReader::with_capacity(BUFFER, tee);
        let outcome = self.stage(&mut stream, named).and_then(|staged| {
            // What follows the archive's end belongs to the blob as well.
            io::copy(&mut stream, &mut io::sink()).map_err(|source| unread(named, source))?;
            Ok(staged)
        });
        drop(stream);
        if let Some(error) = unreadable {
            return Err(Error::io(blobs.folder())(error));
        }
        let staged = outcome?;
        let diff_id = staged.diff_id.clone();
        if let Some((_, expected)) = announced.filter(|(_, expected)| **expected != diff_id) {
            return Err(Error::Mismatch { expected: expected.clone(), found: diff_id });
        }
        let expected = announced.and_then(|(descriptor, _)| digest_of(descriptor));
        let (digest, size) = writer.commit(expected.as_ref())?;
        self.place(staged.folder, &diff_id)?;
        let descriptor = match announced {
            Some((descriptor, _)) => descriptor.clone(),
            None => descriptor(staged.compression.media_type(), size, &digest),
        };
        Ok(Layer { diff_id, descriptor, _pin: pin })
    }
    // ANCHOR_END: receive

    /// Makes the folder of a layer from its blob, unless it is there.
    pub(crate) fn ensure(&self, blobs: &Blobs, blob: &Digest, diff_id: &DiffId) -> Result<PathBuf, Error> {
        let path = self.path(diff_id);
        if path.is_dir() {
            return Ok(path);
        }
        let named = blob.to_string();
        let staged = self.stage(&mut BufReader::with_capacity(BUFFER, blobs.open(blob)?), named.as_ref())?;
        if staged.diff_id != *diff_id {
            return Err(Error::Mismatch { expected: diff_id.clone(), found: staged.diff_id });
        }
        self.place(staged.folder, diff_id)?;
        Ok(path)
    }

    /// Whether a blob is the archive of this DiffID, by reading it.
    pub(crate) fn check(&self, blobs: &Blobs, blob: &Digest, diff_id: &DiffId) -> Result<(), Error> {
        let unread = |source| unread(blob.to_string().as_ref(), source);
        let stream = BufReader::with_capacity(BUFFER, blobs.open(blob)?);
        let mut tar = Digesting::new(bounds::open(stream).map_err(unread)?.1);
        io::copy(&mut tar, &mut io::sink()).map_err(unread)?;
        match tar.finish().1 {
            found if found == *diff_id => Ok(()),
            found => Err(Error::Mismatch { expected: diff_id.clone(), found }),
        }
    }

    /// Unpacks a stream to its end into a folder that nobody knows. `named` is what a message calls it.
    fn stage(&self, stream: &mut BufReader<impl Read + Send>, named: &Path) -> Result<Staged, Error> {
        make_folder(&self.unfinished)?;
        let folder = step(
            "mkdir",
            format_args!("{}/layer-XXXXXX", self.unfinished.display()),
            "unpack under another name: half a layer is never mistaken for one",
        )
        .run(|| tempfile::Builder::new().prefix("layer-").tempdir_in(&self.unfinished))?;
        let folder = Unfinished(Some(folder.keep()));
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .map_err(Error::io(folder.path()))?;
        let unread = |source| unread(named, source);
        let (compression, mut tar) = bounds::open(stream).map_err(unread)?;
        let mut whiteouts = Whiteouts::new(self.userxattr());
        // Asked now: the process that opened the store may be another, in a user namespace of its own.
        let how = Unpack::default();
        let diff_id = read_ahead(&mut tar, |tar| {
            let mut tar = Digesting::new(tar);
            let unpacked =
                unpack_into(&mut tar, folder.path(), &how, &mut |root, path| whiteouts.intercept(root, path))
                    .map_err(|error| error.of_archive(folder.path(), named))?;
            self.owners_left_out.fetch_or(unpacked.owners_left_out, Ordering::Relaxed);
            io::copy(&mut tar, &mut io::sink()).map_err(unread)?;
            Ok::<_, Error>(tar.finish().1)
        })?;
        let root = File::open(folder.path()).map_err(Error::io(folder.path()))?;
        whiteouts.apply(root.as_fd())?;
        Ok(Staged { folder, compression, diff_id })
    }

    /// Gives a finished folder its name; where somebody else was quicker, theirs is as good.
    fn place(&self, folder: Unfinished, diff_id: &DiffId) -> Result<(), Error> {
        let path = self.path(diff_id);
        if !path.is_dir() {
            self.rename(folder.path(), &path)?;
            folder.keep();
        }
        Ok(())
    }

    fn rename(&self, from: &Path, path: &Path) -> Result<(), Error> {
        make_folder(&self.folder)?;
        let moved = step(
            "rename",
            format_args!("{} {}", from.display(), path.display()),
            "the whole layer appears at once, and every image that has it shares it",
        )
        .run(|| fs::rename(from, path));
        match moved {
            Err(_) if path.is_dir() => remove_tree(from),
            other => Ok(other?),
        }
    }

    /// Makes a layer of an upper directory, which moves into the store.
    pub(crate) fn adopt(&self, blobs: &Blobs, upper: &Path, pin: Arc<Pin>) -> Result<Layer, Error> {
        let mut writer = blobs.writer()?;
        // Compared with nothing, so that the archive has just what the folder has.
        unionfs::write_diff(upper, self.userxattr(), &[], BufWriter::with_capacity(BUFFER, &mut writer))
            .map_err(|source| Error::Changes { path: upper.to_owned(), source: Box::new(source) })?;
        let (diff_id, size) = writer.commit(None)?;
        let path = self.path(&diff_id);
        if path.is_dir() {
            remove_tree(upper)?;
        } else {
            self.rename(upper, &path)?;
        }
        Ok(Layer { descriptor: descriptor(MediaType::ImageLayer, size, &diff_id), diff_id, _pin: pin })
    }
}

/// A layer's folder before it has its name.
struct Staged {
    folder: Unfinished,
    compression: Compression,
    diff_id: DiffId,
}

impl Compression {
    fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

/// Passes on what it reads, and keeps a copy. An error of the copy must not be taken for one of the archive.
struct Tee<'a, R, W> {
    reader: R,
    writer: &'a mut W,
    failed: &'a mut Option<io::Error>,
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if let Err(error) = self.writer.write_all(&buffer[..count]) {
            *self.failed = Some(error);
            return Err(io::Error::other("the blob cannot be written"));
        }
        Ok(count)
    }
}

fn unread(named: &Path, source: io::Error) -> Error {
    Error::Layer(chroot::Error::Archive { path: named.to_owned(), source })
}

pub(crate) fn descriptor(media_type: MediaType, size: u64, digest: &Digest) -> Descriptor {
    // A Digest is 64 hexadecimal digits by construction, which is all that the conversion asks.
    let sha256: Sha256Digest = digest.hex().parse().unwrap_or_else(|_| unreachable!("{digest} is a digest"));
    Descriptor::new(media_type, size, sha256)
}

/// A folder that goes with the value, however deep the archive made it.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // The error that came before is the one to tell; the next removal sweeps what stays.
        self.0.take().map(|path| remove_tree(&path));
    }
}

/// Removes a tree, also one in which an ordinary user has a folder that does not let its own owner in, and one that is deeper than any path.
///
/// # Errors
/// The step that failed.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    step("rm", format_args!("-r {}", path.display()), "nothing names it any more").run(|| {
        match empty(path).and_then(|()| fs::remove_dir(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    })?;
    Ok(())
}

/// Removes all in a folder. A folder that is not empty moves up before it is looked into: an archive can nest them deeper, by links, than
/// any path, stack or number of open files reaches.
fn empty(root: &Path) -> io::Result<()> {
    let mut number = 0_u64;
    loop {
        let mut done = true;
        for entry in entries(root)? {
            let entry = entry?;
            done = false;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            for inner in entries(&entry.path())? {
                let inner = inner?;
                if !inner.file_type()?.is_dir() {
                    fs::remove_file(inner.path())?;
                } else if fs::remove_dir(inner.path()).is_err() {
                    let mut away = root.join(format!(".{number}"));
                    while fs::symlink_metadata(&away).is_ok() {
                        number += 1;
                        away = root.join(format!(".{number}"));
                    }
                    // Its `..` changes, which is a write to it.
                    let_in(&inner.path())?;
                    fs::rename(inner.path(), away)?;
                }
            }
            fs::remove_dir(entry.path())?;
        }
        if done {
            return Ok(());
        }
    }
}

fn entries(folder: &Path) -> io::Result<fs::ReadDir> {
    let_in(folder)?;
    fs::read_dir(folder)
}

/// Root is let in anyway, also that of a user namespace which has the ids of all that is here.
fn let_in(folder: &Path) -> io::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}
