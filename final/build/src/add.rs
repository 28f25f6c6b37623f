//! ADD's own: an archive of the context is unpacked.
//!
//! Whether a file is an archive is told by its content and not by its name, as Docker does: a tar header, plain or under gzip.
//! What the archive does not mention of the way to its files is the image's: see [`crate::layer`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use chroot::Unpack;
use chroot::unpack::unpack_into;
use flate2::read::MultiGzDecoder;

use crate::Error;
use crate::layer::Layer;

const BUFFER: usize = 1 << 17;
const BLOCK: usize = 512;

/// What of ADD's archives cannot be unpacked yet, by the ends of their names.
const OTHERS: [&str; 9] =
    [".tar.xz", ".txz", ".tar.bz2", ".tbz", ".tbz2", ".tar.zst", ".tzst", ".tar.lzma", ".tar.Z"];

/// Whether the file is an archive in a compression that is not supported.
pub(crate) fn is_other_archive(name: &Path) -> bool {
    let name = name.to_string_lossy();
    OTHERS.iter().any(|end| name.ends_with(end))
}

/// Whether ADD unpacks the file.
pub(crate) fn is_archive(file: &mut File) -> io::Result<bool> {
    let found = is_tar(&mut *file)? || {
        file.rewind()?;
        // What is no gzip fails at its first bytes.
        is_tar(&mut MultiGzDecoder::new(BufReader::new(&mut *file))).unwrap_or(false)
    };
    file.rewind()?;
    Ok(found)
}

/// A header with its mark and a true checksum. See tar(5).
fn is_tar(reader: &mut dyn Read) -> io::Result<bool> {
    let mut block = Vec::new();
    reader.take(BLOCK as u64).read_to_end(&mut block)?;
    if block.len() < BLOCK || block[257..262] != *b"ustar" {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&block[148..156]);
    let said = u32::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok();
    let sum = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    Ok(said == Some(sum))
}

/// Unpacks the archive at `to`, a path of the image that was resolved. `name` is how messages call the archive.
pub(crate) fn unpack(
    layer: &mut Layer<'_>,
    upper: &Path,
    to: &Path,
    mut file: File,
    name: &Path,
) -> Result<(), Error> {
    let mut start = [0; 2];
    let length = file.read(&mut start).map_err(Error::read(name))?;
    file.rewind().map_err(Error::read(name))?;
    let file = BufReader::with_capacity(BUFFER, file);
    let stream: Box<dyn Read> =
        if start[..length] == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut mentioned: BTreeSet<PathBuf> = BTreeSet::new();
    let unpacked = unpack_into(stream, &upper.join(to), &Unpack::default(), &mut |_, path| {
        let mut ancestors: Vec<_> =
            path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        ancestors.reverse();
        for ancestor in ancestors.into_iter().filter(|ancestor| !mentioned.contains(*ancestor)) {
            layer.as_in_image(&to.join(ancestor))?;
        }
        layer.forget(&to.join(path));
        mentioned.insert(path.to_owned());
        Ok(false)
    });
    unpacked.map(drop).map_err(|source| Error::Unpack { path: name.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder.append_data(&mut header, "a", b"x".as_slice()).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_archive_is_known_by_its_content() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&archive()).unwrap();
        let mut text = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        text.write_all(b"text").unwrap();
        let mut damaged = archive();
        damaged[0] ^= 1;
        for (bytes, expected) in [
            (archive(), true),
            (gzip.finish().unwrap(), true),
            (text.finish().unwrap(), false),
            (damaged, false),
            (b"ustar".repeat(200), false),
            (Vec::new(), false),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            file.rewind().unwrap();
            assert_eq!(is_archive(&mut file).unwrap(), expected);
            assert_eq!(file.stream_position().unwrap(), 0);
        }
    }
}
