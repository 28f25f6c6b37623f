//! Read a tar archive that anybody may have written, in memory that does not depend on it.
//!
//! ```text
//! header (512) [ content, filled up to 512 ] header ... 512 zeros
//! ```
//!
//! A header has room for 100 bytes of name and eleven octal digits of size. What does not fit comes in *extension* entries before the
//! one that it belongs to: PAX records (type `x`), or GNU's long names (`L`, `K`). What is seen to here: 1. an
//! extension is read into memory, so there is a limit to it; 2. content that ends early is an error, not a shorter file; 3. a file
//! with holes ([`crate::sparse`]) keeps them.
//!
//! See tar(5), and POSIX, pax, "extended header". Not covered: global records (`g`), which are a comment in practice and are passed over.

use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::pax::{Records, wrong};
use crate::sparse::{self, Part};

/// Everything has its place in blocks of this size.
pub(crate) const BLOCK: usize = 512;
/// All extensions of one entry together. A name has 4 KiB at most; the rest is for extended attributes.
const MOST_EXTENSIONS: u64 = 1 << 20;

/// An archive as a stream: [`Archive::next`] goes to the next entry, and [`Read`] gives the content of the present one.
#[derive(Debug)]
pub struct Archive<R> {
    stream: R,
    /// What is left of the present entry's content, and of what fills up its last block.
    content: u64,
    padding: u64,
    ended: bool,
}

/// What an archive says of a file before its content.
#[derive(Debug)]
pub struct Entry {
    /// The kind of file.
    pub kind: EntryType,
    /// The name, as it is written.
    pub path: Vec<u8>,
    /// Where a link leads; nothing for what is none.
    pub link: Vec<u8>,
    /// Permissions with set-user-id and the like.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// When it was changed: seconds since 1970, also before, and nanoseconds after that.
    pub modified: (i64, u32),
    /// The numbers of a device.
    pub device: Option<(u32, u32)>,
    /// The size of the file that comes of it.
    pub size: u64,
    /// The parts of a file with holes, in order; the content is these alone.
    pub parts: Option<Vec<Part>>,
    /// Extended attributes.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> Archive<R> {
    /// Reads from the beginning of an archive that is not compressed.
    pub fn new(stream: R) -> Self {
        Self { stream, content: 0, padding: 0, ended: false }
    }

    /// Passes over what is left of the present entry, and reads what stands before the content of the next one.
    ///
    /// # Errors
    /// What the stream meets; an archive that ends within an entry, that is none, or whose extensions are not to be understood.
    #[allow(clippy::should_implement_trait, reason = "an iterator's items could not read from the archive")]
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut records = Records::default();
        let mut extensions = 0;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            self.announce(size_of(&header)?)?;
            let kind = header.entry_type();
            if !matches!(kind, EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink) {
                if kind != EntryType::XGlobalHeader {
                    return self.entry(&header, records).map(Some);
                }
                continue;
            }
            extensions += self.content;
            if extensions > MOST_EXTENSIONS {
                return Err(wrong(format_args!(
                    "an entry has more than {MOST_EXTENSIONS} bytes of names and attributes"
                )));
            }
            let mut bytes = Vec::new();
            self.read_to_end(&mut bytes)?;
            match kind {
                EntryType::XHeader => records.read(&bytes)?,
                EntryType::GNULongName => records.path = Some(before_nul(bytes)),
                _ => records.link = Some(before_nul(bytes)),
            }
        }
    }

    fn entry(&mut self, header: &Header, records: Records) -> io::Result<Entry> {
        let path = records.sparse_name.or(records.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match header.entry_type() {
            // As before there was a type for it.
            EntryType::Regular if path.ends_with(b"/") => EntryType::Directory,
            kind => kind,
        };
        let has_content = !matches!(
            kind,
            EntryType::Directory
                | EntryType::Symlink
                | EntryType::Link
                | EntryType::Char
                | EntryType::Block
                | EntryType::Fifo
        );
        self.announce(if has_content { records.size.map_or_else(|| size_of(header), Ok)? } else { 0 })?;
        let parts = match (kind, records.sparse) {
            (EntryType::GNUSparse, _) => Some(sparse::of_header(header, &mut self.stream)?),
            (EntryType::Regular, Some(map)) => Some(map.parts(self)?),
            _ => None,
        };
        let size = match &parts {
            None => self.content,
            Some(parts) => {
                let size = match (kind, records.real_size) {
                    (EntryType::GNUSparse, None) => sparse::size_of(header)?,
                    (_, size) => size.ok_or_else(|| wrong("a file with holes has no size"))?,
                };
                sparse::check(parts, size, self.content)?;
                size
            }
        };
        let id = |record: Option<u64>, field: io::Result<u64>| {
            let id = record.or(field.ok()).and_then(|id| u32::try_from(id).ok());
            id.filter(|&id| id != u32::MAX)
        };
        let number = |field: io::Result<Option<u32>>| field.ok().flatten();
        Ok(Entry {
            kind,
            path,
            link: records.link.or_else(|| Some(header.link_name_bytes()?.into_owned())).unwrap_or_default(),
            mode: header.mode().ok().map(|mode| mode & 0o7777),
            uid: id(records.uid, header.uid()),
            gid: id(records.gid, header.gid()),
            // A field of eight bytes holds a negative number as the processor does.
            modified: records.modified.unwrap_or((header.mtime().unwrap_or(0).cast_signed(), 0)),
            device: number(header.device_major()).zip(number(header.device_minor())),
            size,
            parts,
            attributes: records.attributes,
        })
    }

    /// So many bytes of content follow.
    fn announce(&mut self, size: u64) -> io::Result<()> {
        if size > i64::MAX.cast_unsigned() {
            return Err(wrong("the size of an entry is none"));
        }
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn skip(&mut self) -> io::Result<()> {
        let left = self.content + self.padding;
        (self.content, self.padding) = (0, 0);
        match io::copy(&mut self.stream.by_ref().take(left), &mut io::sink())? {
            count if count == left => Ok(()),
            _ => Err(cut()),
        }
    }

    /// The next header, if the archive goes on.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        if self.ended || !read_block(&mut self.stream, header.as_mut_bytes())? {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|&byte| byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        // The sum of all bytes, those of the sum itself taken for spaces.
        let of = |bytes: &[u8]| bytes.iter().copied().map(u32::from).sum::<u32>();
        let sum = of(&bytes[..148]) + 8 * u32::from(b' ') + of(&bytes[156..]);
        if header.cksum().ok() != Some(sum) {
            return Err(wrong(
                "no tar archive, or a damaged one (a compressed one must be decompressed first)",
            ));
        }
        Ok(Some(header))
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.stream.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(cut());
        }
        self.content -= count as u64;
        Ok(count)
    }
}

fn size_of(header: &Header) -> io::Result<u64> {
    header.entry_size().map_err(|_| wrong("the size of an entry is none"))
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle of an entry")
}

/// Fills the block; `false` where the stream ends before its first byte.
pub(crate) fn read_block(stream: &mut impl Read, block: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < block.len() {
        match stream.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(cut()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn before_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}
