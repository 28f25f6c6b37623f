//! How far an archive may grow while it is decompressed.
//!
//! Some kilobytes of gzip are megabytes of zeros, and of zstd there is no end to it: a layer of 10 MB can fill every disk. Honest
//! layers shrink to a half or a tenth; so more than [`FREE`] bytes *and* more than [`RATIO`] times what was read is refused. Whoever
//! has such an image on purpose allows it by `unpack-ratio` in `config.toml`, which is read when it comes to that.

use std::io::{self, BufRead, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use crate::registry::Settings;

/// So much may come out of anything.
const FREE: u64 = 256 << 20;
/// So many times what went in.
const RATIO: u64 = 200;
/// How the bytes that are compressed begin.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A stream of which the beginning was read already.
pub(crate) type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// The beginning of a stream, and the stream with it: so many bytes, or all. One read may give fewer, as a pipe does.
pub(crate) fn peek<R: Read>(mut stream: R, count: u64) -> io::Result<(Vec<u8>, Whole<R>)> {
    let mut start = Vec::new();
    stream.by_ref().take(count).read_to_end(&mut start)?;
    Ok((start.clone(), Cursor::new(start).chain(stream)))
}

/// Opens a stream by what it looks like.
pub(crate) fn open<'a>(
    stream: impl BufRead + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let (start, stream) = peek(stream, ZSTD.len() as u64)?;
    let compression = Compression::of(&start);
    Ok((compression, compression.open(stream)?))
}

/// How a stream is compressed, told by its first bytes: a media type may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
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

    /// The stream as it was before it was compressed.
    fn open<'a>(self, stream: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Counted { stream, taken: Arc::clone(&taken) };
        Ok(match self {
            Self::None => Box::new(counted.stream),
            Self::Gzip => Box::new(Bounded::new(MultiGzDecoder::new(counted), taken)),
            Self::Zstd => Box::new(Bounded::new(zstd_decoder(counted)?, taken)),
        })
    }
}

/// A window of at most 128 MiB, the limit of the `zstd` program: the archive does not say how much memory we use.
fn zstd_decoder<R: BufRead>(stream: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    const LARGEST_WINDOW: u32 = 27;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
    decoder.window_log_max(LARGEST_WINDOW)?;
    Ok(decoder)
}

/// Counts what the decompressor takes.
struct Counted<R> {
    stream: R,
    taken: Arc<AtomicU64>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.stream.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        self.stream.consume(count);
    }
}

/// Ends a stream that grows too far.
struct Bounded<R> {
    stream: R,
    taken: Arc<AtomicU64>,
    given: u64,
    free: u64,
    ratio: u64,
}

impl<R> Bounded<R> {
    fn new(stream: R, taken: Arc<AtomicU64>) -> Self {
        Self { stream, taken, given: 0, free: FREE, ratio: RATIO }
    }

    fn check(&mut self) -> io::Result<()> {
        let taken = self.taken.load(Ordering::Relaxed);
        if self.given <= self.free.max(taken.saturating_mul(self.ratio)) {
            return Ok(());
        }
        self.ratio = Settings::load().ok().and_then(|settings| settings.unpack_ratio()).unwrap_or(RATIO);
        if self.given <= taken.saturating_mul(self.ratio) {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{taken} bytes become more than {} MiB and {} times as many: this fills disks on purpose; for an image that is meant to be \
             so, write unpack-ratio = 2000 into config.toml",
            self.free >> 20,
            self.ratio
        )))
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.given += count as u64;
        self.check()?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_smaller_than_the_free_bytes_or_grows_little_is_let_through() {
        let bounded = |given, taken| Bounded {
            stream: io::empty(),
            taken: Arc::new(AtomicU64::new(taken)),
            given,
            free: FREE,
            ratio: RATIO,
        };
        bounded(FREE, 1).check().unwrap();
        bounded(FREE * 10, FREE / 10).check().unwrap();
        let error = bounded(FREE + 1, 1000).check().unwrap_err().to_string();
        assert!(error.contains("unpack-ratio"), "{error}");
    }

    #[test]
    fn a_bomb_is_ended_and_names_the_setting() {
        use std::io::Write as _;
        const SIZE: usize = 4 << 20;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![0; SIZE]).unwrap();
        let zstd = zstd::stream::encode_all(vec![0; SIZE].as_slice(), 3).unwrap();
        for bomb in [gzip.finish().unwrap(), zstd] {
            let taken = Arc::new(AtomicU64::new(0));
            let counted = Counted { stream: bomb.as_slice(), taken: Arc::clone(&taken) };
            let decoder: Box<dyn Read> = match Compression::of(&bomb) {
                Compression::Gzip => Box::new(MultiGzDecoder::new(counted)),
                _ => Box::new(zstd_decoder(counted).unwrap()),
            };
            let mut bounded = Bounded { free: 1 << 20, ..Bounded::new(decoder, taken) };
            let error = io::copy(&mut bounded, &mut io::sink()).unwrap_err().to_string();
            assert!(error.contains("unpack-ratio") && error.contains("config.toml"), "{error}");
            assert!(bounded.given < 2 << 20);
        }
    }

    #[test]
    fn whatever_is_opened_is_bounded() {
        let mut bomb = Vec::new();
        zstd::stream::copy_encode(io::repeat(0).take(FREE + (1 << 20)), &mut bomb, 1).unwrap();
        let error = io::copy(&mut open(bomb.as_slice()).unwrap().1, &mut io::sink()).unwrap_err().to_string();
        assert!(error.contains("unpack-ratio"), "{error}");
    }
}
