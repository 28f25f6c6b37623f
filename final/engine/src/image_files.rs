//! Files of an image, read through its layers without mounting them.
//!
//! A file of the image is the one in the topmost layer that says anything about its path: the file itself, or a whiteout, or a
//! directory above it that is opaque or is no directory. Two things need it before the container exists: the names in
//! `/etc/passwd`, and the files that a new volume begins with.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The text of a file of the image; none where the image has no such file. Links are not followed: they would be the image's
/// way to read the host.
pub fn read(layers: &[PathBuf], path: &str) -> Option<String> {
    let path = Path::new(path.trim_start_matches('/'));
    for layer in layers.iter().rev() {
        let mut at = layer.clone();
        for part in path {
            at.push(part);
            match fs::symlink_metadata(&at) {
                Err(_) => break,
                Ok(metadata) if is_whiteout(&metadata) || metadata.is_symlink() => return None,
                Ok(metadata) if metadata.is_file() => {
                    return (at == layer.join(path)).then(|| fs::read_to_string(&at).ok())?;
                }
                Ok(_) => {}
            }
        }
    }
    None
}

/// Overlay's mark of a deleted file: a character device with the numbers 0 and 0.
fn is_whiteout(metadata: &fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_layer_that_has_it_counts_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let layers = ["a", "b"].map(|name| folder.path().join(name));
        for layer in &layers {
            fs::create_dir_all(layer.join("etc")).unwrap();
        }
        fs::write(layers[0].join("etc/passwd"), "lower").unwrap();
        assert_eq!(read(&layers, "/etc/passwd").unwrap(), "lower");
        fs::write(layers[1].join("etc/passwd"), "upper").unwrap();
        assert_eq!(read(&layers, "etc/passwd").unwrap(), "upper");
        fs::remove_file(layers[1].join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", layers[1].join("etc/passwd")).unwrap();
        assert_eq!(read(&layers, "etc/passwd"), None);
        assert_eq!(read(&layers, "etc/group"), None);
    }
}
