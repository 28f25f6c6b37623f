//! A directory tree as data, to be compared.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// All that a layer carries of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    pub(crate) modified: (i64, i64),
    content: Vec<u8>,
    note: Option<Vec<u8>>,
    /// The first name of the same file.
    same_as: PathBuf,
}

impl Seen {
    /// The same but for other names of the file, which come and go without it.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        *self == Self { same_as: self.same_as.clone(), ..other.clone() }
    }
}

pub(crate) type Snapshot = BTreeMap<PathBuf, Seen>;

/// The tree under `root`; its paths are relative to it.
pub(crate) fn of(root: &Path) -> std::io::Result<Snapshot> {
    let mut seen = Snapshot::new();
    look(root, Path::new(""), &mut seen, &mut HashMap::new())?;
    Ok(seen)
}

/// The same without the parts of a second, which a layer does not carry.
pub(crate) fn in_seconds(mut snapshot: Snapshot) -> Snapshot {
    snapshot.values_mut().for_each(|seen| seen.modified.1 = 0);
    snapshot
}

fn look(
    root: &Path,
    folder: &Path,
    seen: &mut Snapshot,
    names: &mut HashMap<(u64, u64), PathBuf>,
) -> std::io::Result<()> {
    let mut entries = fs::read_dir(root.join(folder))?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = folder.join(entry.file_name());
        let about = entry.metadata()?;
        let kind = about.file_type();
        let (kind, content) = match () {
            () if kind.is_dir() => ("directory", Vec::new()),
            () if kind.is_file() => ("file", fs::read(entry.path())?),
            () if kind.is_symlink() => {
                ("link", fs::read_link(entry.path())?.into_os_string().into_encoded_bytes())
            }
            () if kind.is_fifo() => ("fifo", Vec::new()),
            () => ("other", about.rdev().to_string().into_bytes()),
        };
        let same_as = match about.is_dir() {
            true => path.clone(),
            false => names.entry((about.dev(), about.ino())).or_insert_with(|| path.clone()).clone(),
        };
        seen.insert(
            path.clone(),
            Seen {
                kind,
                mode: about.mode(),
                owner: (about.uid(), about.gid()),
                modified: (about.mtime(), about.mtime_nsec()),
                content,
                note: note(&entry.path()),
                same_as,
            },
        );
        if about.is_dir() {
            look(root, &path, seen, names)?;
        }
    }
    Ok(())
}

/// The one extended attribute that the tests set.
fn note(path: &Path) -> Option<Vec<u8>> {
    let mut value = [0; 16];
    let length = rustix::fs::lgetxattr(path, "user.note", &mut value).ok()?;
    Some(value[..length].to_vec())
}
