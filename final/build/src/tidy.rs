//! Take out of a RUN's layer what the command did not write: the places where the runtime mounted something.
//!
//! A container has `/proc`, `/dev` and its own `/etc/hosts`; where an image has no such folder or file to mount them on, the
//! runtime makes an empty one, and it would be in the image for ever. What is taken out is empty, and the image had no such
//! thing before.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Error;
use crate::tree::{Found, Tree};

/// Files, then folders, deepest first.
const PLACES: [&str; 11] = [
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "dev/pts",
    "dev/shm",
    "dev/mqueue",
    "dev",
    "proc",
    "sys",
    "etc",
    "tmp",
];

/// Takes them out of `upper`, which lies over `image`.
pub(crate) fn tidy(upper: &Path, image: &Tree) -> Result<(), Error> {
    for place in PLACES.map(Path::new) {
        let path = upper.join(place);
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let before = image.look(place).map_err(Error::read(place))?;
        let removed =
            if metadata.is_file() && metadata.len() == 0 && before.is_none() && place.starts_with("etc") {
                fs::remove_file(&path)
            } else if metadata.is_dir() && unchanged(&metadata, before.as_ref(), place) {
                // Not empty: then something was written there.
                fs::remove_dir(&path).or_else(|error| {
                    if error.kind() == io::ErrorKind::DirectoryNotEmpty { Ok(()) } else { Err(error) }
                })
            } else {
                Ok(())
            };
        removed.map_err(Error::read(&path))?;
    }
    Ok(())
}

/// A folder that the runtime made, or one of the image that only was entered. A command that makes `/etc` or `/tmp` itself means it.
fn unchanged(metadata: &fs::Metadata, before: Option<&Found>, place: &Path) -> bool {
    match before {
        None => place != Path::new("tmp"),
        Some(found) => {
            found.is_dir()
                && (found.stat.st_mode, found.stat.st_uid, found.stat.st_gid)
                    == (metadata.mode(), metadata.uid(), metadata.gid())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_runtime_made_is_taken_out() {
        let folder = tempfile::tempdir().unwrap();
        let (lower, upper) = (folder.path().join("lower"), folder.path().join("upper"));
        for path in [
            "lower/etc",
            "upper/etc",
            "upper/dev/pts",
            "upper/proc",
            "upper/tmp",
            "upper/sys/kept",
            "upper/home",
        ] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        for (path, text) in [
            ("lower/etc/hosts", ""),
            ("upper/etc/hosts", ""),
            ("upper/etc/hostname", ""),
            ("upper/etc/resolv.conf", "x"),
        ] {
            fs::write(folder.path().join(path), text).unwrap();
        }
        tidy(&upper, &Tree::image(&[lower], false).unwrap()).unwrap();
        for (path, there) in [
            ("etc/hosts", true),
            ("etc/hostname", false),
            ("etc/resolv.conf", true),
            ("dev", false),
            ("proc", false),
            ("tmp", true),
            ("sys/kept", true),
            ("home", true),
        ] {
            assert_eq!(upper.join(path).exists(), there, "{path}");
        }
    }
}
