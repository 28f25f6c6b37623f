//! State as JSON files that a learner reads with `jq`, and that no crash leaves half-written.
//!
//! A file is written under another name, flushed to the disk, and renamed over the old one: a reader sees the old text or the
//! new one. Who changes an object holds the lock of its folder, an advisory lock that the kernel drops when its holder dies.
//!
//! See rename(2), fsync(2), flock(2).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use crate::Error;

/// How much a crash of the machine may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On the disk when the call returns.
    Disk,
    /// In the kernel's cache: enough for what is removed at its end anyway (`--rm`), and some milliseconds cheaper.
    Cache,
}

/// Writes `value` to `path` as JSON, at once or not at all.
///
/// # Errors
/// [`Error::Store`] with the path.
pub fn write_json<T: Serialize>(path: &Path, value: &T, durability: Durability) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Store { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    file.write_all(&text).map_err(failed)?;
    if durability == Durability::Disk {
        file.as_file().sync_all().map_err(failed)?;
    }
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Reads what [`write_json`] wrote; none where the file is not there.
///
/// # Errors
/// [`Error::Store`] with the path, also for text that is no such JSON.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let failed = |source: io::Error| Error::Store { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// The exclusive right to change an object, until it is dropped or its holder dies.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held for its drop")] File);

impl Lock {
    /// Waits for the lock of a folder. The lock is on the folder itself, so that no file is left for it. Whoever has it must
    /// read the object anew: it may have changed, or been removed, while this waited.
    ///
    /// # Errors
    /// [`Error::Store`] where the folder is gone.
    pub fn of(folder: &Path) -> Result<Self, Error> {
        Self::take(folder).map_err(|source| Error::Store { path: folder.to_owned(), source })
    }

    /// The same; none where the folder is gone.
    ///
    /// # Errors
    /// [`Error::Store`] with the folder.
    pub fn if_there(folder: &Path) -> Result<Option<Self>, Error> {
        match Self::take(folder) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Store { path: folder.to_owned(), source }),
        }
    }

    fn take(folder: &Path) -> io::Result<Self> {
        let file = File::open(folder)?;
        file.lock()?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(read_json::<u32>(&path).unwrap(), None);
        for value in [7_u32, 8] {
            write_json(&path, &value, Durability::Disk).unwrap();
            assert_eq!(read_json::<u32>(&path).unwrap(), Some(value));
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn damaged_text_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(&path, "{").unwrap();
        assert!(read_json::<u32>(&path).unwrap_err().to_string().contains("state.json"));
    }
}
