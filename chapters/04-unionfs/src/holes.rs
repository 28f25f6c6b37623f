//! Beyond this chapter: leave the holes of a file out of an archive.
//!
//! A file of a gigabyte in which one block was written takes one block of the disk; as an archive it would be a gigabyte of zeros. The
//! kernel tells where the data is, and GNU tar has a form for it (PAX 1.0), which also bsdtar and the readers of Docker, Podman and
//! containerd know: the list of the parts stands before the content, and the content is these alone.
//!
//! ```text
//! records GNU.sparse.*   header of `folder/GNUSparseFile.0/name`   "2\n0\n4096\n1048576\n512\n", filled up to 512   part   part
//! ```
//!
//! See lseek(2) on SEEK_DATA; the manual of GNU tar, "Storing Sparse Files". Chapter 1 reads it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::Errno;

/// Smaller ones are not worth a form that not every reader knows.
const SMALLEST: u64 = 1 << 20;
/// More parts than that are no file with holes, but a list that takes memory.
const MOST_PARTS: usize = 1 << 16;
const BLOCK: usize = 512;

/// The parts of a file that are no holes: where each begins, and its length.
#[derive(Debug)]
pub(crate) struct Holes {
    parts: Vec<(u64, u64)>,
    list: Vec<u8>,
}

impl Holes {
    /// None where they are not worth it, or where the file system does not tell.
    pub(crate) fn of(file: &File, about: &Stat) -> Option<Self> {
        let size = u64::try_from(about.st_size).ok()?;
        let blocks = u64::try_from(about.st_blocks).ok()? * BLOCK as u64;
        if blocks.saturating_add(SMALLEST) > size {
            return None;
        }
        let (mut parts, mut end) = (Vec::new(), 0);
        while end < size {
            let start = match seek(file, SeekFrom::Data(end)) {
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => break,
                start => start.ok()?.min(size),
            };
            end = seek(file, SeekFrom::Hole(start)).ok()?.clamp(start, size);
            parts.push((start, end - start));
            if parts.len() > MOST_PARTS {
                return None;
            }
        }
        if end < size {
            parts.push((size, 0));
        }
        let numbers = parts.iter().flat_map(|(start, length)| [start, length]);
        let mut list = format!("{}\n", parts.len());
        list.extend(numbers.map(|number| format!("{number}\n")));
        let mut list = list.into_bytes();
        list.resize(list.len().next_multiple_of(BLOCK), 0);
        Some(Self { parts, list })
    }

    /// The records that say so.
    pub(crate) fn records(&self, path: &Path, size: u64) -> [(&'static [u8], Vec<u8>); 4] {
        [
            (b"GNU.sparse.major", b"1".to_vec()),
            (b"GNU.sparse.minor", b"0".to_vec()),
            (b"GNU.sparse.name", path.as_os_str().as_bytes().to_vec()),
            (b"GNU.sparse.realsize", size.to_string().into_bytes()),
        ]
    }

    /// The bytes that stand in the archive.
    pub(crate) fn length(&self) -> u64 {
        self.list.len() as u64 + self.parts.iter().map(|(_, length)| length).sum::<u64>()
    }

    /// These bytes.
    pub(crate) fn content<'a>(&'a self, file: &'a File) -> impl Read + 'a {
        self.list.as_slice().chain(Parts { file, parts: &self.parts, done: 0 })
    }
}

/// The name for readers that do not know the form.
pub(crate) fn path(path: &Path) -> PathBuf {
    path.with_file_name("GNUSparseFile.0").join(path.file_name().unwrap_or_default())
}

struct Parts<'a> {
    file: &'a File,
    parts: &'a [(u64, u64)],
    done: u64,
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some((&(start, length), rest)) = self.parts.split_first() {
            let left = length - self.done;
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            if left > 0 {
                let count = match self.file.read_at(&mut buffer[..most], start + self.done)? {
                    // Somebody has cut it off meanwhile: as many bytes as announced all the same.
                    0 => {
                        buffer[..most].fill(0);
                        most
                    }
                    count => count,
                };
                self.done += count as u64;
                return Ok(count);
            }
            (self.parts, self.done) = (rest, 0);
        }
        Ok(0)
    }
}
