//! A store of the test's own, and archives to put into it.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use sampan_image::{Digest, Image, Store};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Place {
    pub(crate) data: TempDir,
    pub(crate) store: Store,
}

impl Place {
    pub(crate) fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        Self { store: Store::open(data.path()).unwrap(), data }
    }

    pub(crate) fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.data.path().join(folder)).map_or(0, Iterator::count)
    }

    pub(crate) fn index(&self) -> Value {
        serde_json::from_slice(&fs::read(self.data.path().join("images/index.json")).unwrap()).unwrap()
    }

    pub(crate) fn import(&self, files: &[(&str, &str)], name: &str) -> Image {
        self.store.import(tar(files).as_slice(), &name.parse().unwrap()).unwrap()
    }
}

/// An archive; a name that ends in `/` is a folder.
pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        let folder = name.ends_with('/');
        header.set_entry_type(if folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(if folder { 0o755 } else { 0o644 });
        header.set_size(text.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn never(_: &Digest) -> Option<String> {
    None
}

pub(crate) const FILES: &[(&str, &str)] = &[("etc/", ""), ("etc/os-release", "NAME=plank\n")];
