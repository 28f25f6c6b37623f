//! Layers: a blob for those who carry images about, and a folder for overlay.
//!
//! An archive on its way in is read once: digested as it comes, written as a blob, decompressed, digested again (the DiffID),
//! and unpacked, each piece while it is in memory. The folder is made under another name and renamed when all of it is right, so
//! a folder under its DiffID is complete. A container's upper directory needs none of that: it *is* a layer's folder already
//! and only moves.
//!
//! ```text
//! reader ─▶ digest ─▶ blob            ┌─▶ digest (DiffID)
//!              └────▶ decompress ─────┴─▶ unpack ─▶ <data>/tmp/layer-… ─▶ rename ─▶ <data>/layers/sha256/<hex>
//! ```
//!
//! See layer.md of the OCI image specification. Not covered: a power failure between the rename and the moment when the
//! kernel writes the folder's files: the blob, which is on the disk by then, is what counts, and the folder can be made from it anew.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chroot::Unpack;
use chroot::unpack::unpack_into;
use flate2::read::MultiGzDecoder;
use oci_spec::image::{Descriptor, MediaType, Sha256Digest};
use step::step;
use tempfile::TempDir;
use unionfs::Whiteouts;

use crate::blobs::{Blobs, make_folder};
use crate::digest::Digesting;
use crate::layout::digest_of;
use crate::{DiffId, Digest, Error, Pin};

const BUFFER: usize = 1 << 17;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

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
    how: Unpack,
}

impl Layers {
    pub(crate) fn new(folder: PathBuf, unfinished: PathBuf) -> Self {
        Self { folder, unfinished, how: Unpack { as_root: is_host_root() } }
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
        !self.how.as_root
    }

    /// Reads an archive, plain or compressed, into a blob and a folder.
    pub(crate) fn add(&self, blobs: &Blobs, reader: impl Read, pin: Arc<Pin>) -> Result<Layer, Error> {
        self.receive(blobs, reader, None, pin)
    }

    /// The same for one that was announced: it becomes a layer if the blob has this digest, and the archive this DiffID.
    pub(crate) fn receive(
        &self,
        blobs: &Blobs,
        reader: impl Read,
        announced: Option<(&Descriptor, &DiffId)>,
        pin: Arc<Pin>,
    ) -> Result<Layer, Error> {
        let mut writer = blobs.writer()?;
        let mut unreadable = None;
        let tee = Tee { reader, writer: &mut writer, failed: &mut unreadable };
        let mut stream = BufReader::with_capacity(BUFFER, tee);
        let outcome = self.stage(&mut stream).and_then(|staged| {
            // What follows the archive's end belongs to the blob as well.
            io::copy(&mut stream, &mut io::sink()).map_err(unread)?;
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

    /// Makes the folder of a layer from its blob, unless it is there.
    pub(crate) fn ensure(&self, blobs: &Blobs, blob: &Digest, diff_id: &DiffId) -> Result<PathBuf, Error> {
        let path = self.path(diff_id);
        if path.is_dir() {
            return Ok(path);
        }
        let staged = self.stage(&mut BufReader::with_capacity(BUFFER, blobs.open(blob)?))?;
        if staged.diff_id != *diff_id {
            return Err(Error::Mismatch { expected: diff_id.clone(), found: staged.diff_id });
        }
        self.place(staged.folder, diff_id)?;
        Ok(path)
    }

    /// Unpacks a stream to its end into a folder that nobody knows.
    fn stage(&self, stream: &mut BufReader<impl Read>) -> Result<Staged, Error> {
        make_folder(&self.unfinished)?;
        let folder = step(
            "mkdir",
            format_args!("{}/layer-XXXXXX", self.unfinished.display()),
            "unpack under another name: half a layer is never mistaken for one",
        )
        .run(|| tempfile::Builder::new().prefix("layer-").tempdir_in(&self.unfinished))?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .map_err(Error::io(folder.path()))?;
        let compression = Compression::of(fill(stream)?);
        let stream: &mut dyn Read = match compression {
            Compression::None => stream,
            Compression::Gzip => &mut MultiGzDecoder::new(stream),
            Compression::Zstd => &mut zstd_decoder(stream).map_err(unread)?,
        };
        let mut tar = Digesting::new(stream);
        let mut whiteouts = Whiteouts::new(self.userxattr());
        unpack_into(&mut tar, folder.path(), &self.how, &mut |root, path| whiteouts.intercept(root, path))?;
        io::copy(&mut tar, &mut io::sink()).map_err(unread)?;
        let root = File::open(folder.path()).map_err(Error::io(folder.path()))?;
        whiteouts.apply(root.as_fd())?;
        Ok(Staged { folder, compression, diff_id: tar.finish().1 })
    }

    /// Gives a finished folder its name; where somebody else was quicker, theirs is as good.
    fn place(&self, folder: TempDir, diff_id: &DiffId) -> Result<(), Error> {
        let path = self.path(diff_id);
        if path.is_dir() {
            return remove_tree(folder.path());
        }
        self.rename(folder.path(), &path)?;
        let _ = folder.keep();
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
    folder: TempDir,
    compression: Compression,
    diff_id: DiffId,
}

/// How a blob is compressed, told by its first bytes: a media type may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(start: &[u8]) -> Self {
        if start.starts_with(&GZIP) {
            Self::Gzip
        } else if start.starts_with(&ZSTD) {
            Self::Zstd
        } else {
            Self::None
        }
    }

    fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

/// A window of at most 128 MiB, the limit of the `zstd` program: the archive does not say how much memory we use.
fn zstd_decoder<R: BufRead>(stream: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    const LARGEST_WINDOW: u32 = 27;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
    decoder.window_log_max(LARGEST_WINDOW)?;
    Ok(decoder)
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

/// The first bytes of the stream: enough to tell how it is compressed, unless the stream is shorter.
fn fill(stream: &mut BufReader<impl Read>) -> Result<&[u8], Error> {
    stream.fill_buf().map_err(unread)
}

fn unread(source: io::Error) -> Error {
    Error::Layer(chroot::Error::Archive { path: PathBuf::from("-"), source })
}

pub(crate) fn descriptor(media_type: MediaType, size: u64, digest: &Digest) -> Descriptor {
    // A Digest is 64 hexadecimal digits by construction, which is all that the conversion asks.
    let sha256: Sha256Digest = digest.hex().parse().unwrap_or_else(|_| unreachable!("{digest} is a digest"));
    Descriptor::new(media_type, size, sha256)
}

/// Removes a tree, also one in which an ordinary user has a folder that does not let its own owner in.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    step("rm", format_args!("-r {}", path.display()), "nothing names it any more").run(|| {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_folders(path)?;
                fs::remove_dir_all(path)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    })?;
    Ok(())
}

fn open_folders(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

/// Root of the machine, not only of a user namespace, where device nodes and `trusted` attributes are out of reach.
fn is_host_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    nix::unistd::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}
