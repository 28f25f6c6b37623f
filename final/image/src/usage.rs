//! How much room images take: what is shared counts once.
//!
//! A layer takes room twice, as a blob and as a folder; a container that runs needs only the folder, a push only the blob. What is
//! told is blocks of the disk, as du(1) tells them, and not the lengths of files: a sparse file is long and takes little.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::layout::digest_of;
use crate::{DiffId, Error, Image, Store};

/// The room that images take, in bytes.
#[derive(Debug, Default)]
pub struct Usage {
    /// Each layer, blob and folder together.
    pub layers: BTreeMap<DiffId, u64>,
    /// How many images have a layer.
    images: BTreeMap<DiffId, usize>,
}

impl Usage {
    /// All layers together.
    pub fn total(&self) -> u64 {
        self.layers.values().sum()
    }

    /// The layers that images other than these do not have: what their removal would free.
    pub fn only_of<'a>(&self, images: impl IntoIterator<Item = &'a Image>) -> u64 {
        let mut uses: BTreeMap<&DiffId, usize> = BTreeMap::new();
        for image in images {
            for layer in image.layers.iter().collect::<BTreeSet<_>>() {
                *uses.entry(layer).or_default() += 1;
            }
        }
        let freed = uses.iter().filter(|(layer, count)| self.images.get(**layer) == Some(*count));
        freed.filter_map(|(layer, _)| self.layers.get(*layer)).sum()
    }

    /// The layers of an image, each once.
    pub fn of(&self, image: &Image) -> u64 {
        let layers: BTreeSet<_> = image.layers.iter().collect();
        layers.into_iter().filter_map(|layer| self.layers.get(layer)).sum()
    }
}

impl Store {
    /// Measures the layers of some images. It looks at every file of every unpacked layer.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read.
    pub fn usage(&self, images: &[Image]) -> Result<Usage, Error> {
        let mut usage = Usage::default();
        for image in images {
            let mut seen = BTreeSet::new();
            for (layer, descriptor) in image.layers.iter().zip(&image.descriptors) {
                if !seen.insert(layer) {
                    continue;
                }
                *usage.images.entry(layer.clone()).or_default() += 1;
                if usage.layers.contains_key(layer) {
                    continue;
                }
                let blob = digest_of(descriptor).map(|digest| self.blobs.path(&digest));
                let blob =
                    blob.and_then(|path| fs::metadata(path).ok()).map_or(0, |blob| blob.blocks() * 512);
                let folder = self.layers.path(layer);
                let folder = of_folder(&folder)?;
                usage.layers.insert(layer.clone(), blob + folder);
            }
        }
        Ok(usage)
    }
}

/// The room that a folder takes on the disk, in bytes: each file once.
///
/// # Errors
/// [`Error::Io`].
pub fn of_folder(folder: &Path) -> Result<u64, Error> {
    blocks(folder).map_err(Error::io(folder))
}

/// The blocks of a tree, in bytes; a file with several names counts once. One that is not there, or goes meanwhile, takes nothing; nor
/// does what lies deeper than any path reaches, which an archive's links make possible. One folder is open at a time.
fn blocks(root: &Path) -> io::Result<u64> {
    let absent =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename);
    let (mut sum, mut seen, mut left) = (0, BTreeSet::new(), vec![root.to_owned()]);
    while let Some(path) = left.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if absent(&error) => continue,
            other => other?,
        };
        if metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            match fs::read_dir(&path) {
                // An ordinary user's layer may hold a folder that does not let its own owner in.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied || absent(&error) => {}
                entries => {
                    for entry in entries? {
                        left.push(entry?.path());
                    }
                }
            }
        }
    }
    Ok(sum)
}
