//! The name of content: the SHA-256 of its bytes.
//!
//! What is named by its digest can be checked by whoever gets it, can be shared by whoever has it, and cannot change. A layer
//! has two: the digest of the bytes as stored, often compressed, and the *DiffID*, that of the tar archive itself.
//!
//! See descriptor.md of the OCI image specification. Not covered: sha512, which the specification allows and nobody uses.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest {
    hex: String,
}

/// The digest of an image's config: what Docker calls the image's ID.
pub type ImageId = Digest;
/// The digest of a layer's uncompressed tar archive.
pub type DiffId = Digest;

const PREFIX: &str = "sha256:";

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(&Sha256::digest(bytes))
    }

    /// The 64 digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first 12 digits: what `sampan images` shows.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }

    fn from_hash(hash: &[u8]) -> Self {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
        Self { hex: hash.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect() }
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.strip_prefix(PREFIX) {
            Some(hex) if hex.len() == 64 && is_hex(hex) => Ok(Self { hex: hex.to_owned() }),
            _ => Err(Error::Digest(text.to_owned())),
        }
    }
}

/// Whether the text consists of lower-case hexadecimal digits.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

/// A reader or writer that counts and digests what passes through it.
pub struct Digesting<T> {
    inner: T,
    hash: Sha256,
    size: u64,
}

impl<T> Digesting<T> {
    /// Begins to digest.
    pub fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    /// What was passed on to, and the digest and number of the bytes that passed.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, Digest::from_hash(&self.hash.finalize()), self.size)
    }

    /// How many bytes have passed.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What is passed on to.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }
}

impl<T> fmt::Debug for Digesting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digesting").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<T: Read> Read for Digesting<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.pass(&buffer[..count]);
        Ok(count)
    }
}

impl<T: Write> Write for Digesting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.pass(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_well_known() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn other_texts_are_no_digests() {
        for text in ["", "sha256:", "sha256:abc", &EMPTY[7..], &EMPTY.to_uppercase(), "sha512:00"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(format!("sha256:{}", "../".repeat(22)).parse::<Digest>().is_err());
        assert_eq!(EMPTY.parse::<Digest>().unwrap().to_string(), EMPTY);
    }

    #[test]
    fn what_passes_is_digested_and_counted() {
        let mut writer = Digesting::new(Vec::new());
        writer.write_all(b"pla").unwrap();
        writer.write_all(b"nk").unwrap();
        let (bytes, digest, size) = writer.finish();
        assert_eq!((bytes.as_slice(), size), (b"plank".as_slice(), 5));
        assert_eq!(digest, Digest::of(b"plank"));
        let mut reader = Digesting::new(b"plank".as_slice());
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.finish().1, digest);
    }
}
