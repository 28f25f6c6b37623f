//! Files with holes: an archive may list the parts of a file that hold something, and leave out the zeros between them.
//!
//! GNU tar has written the list in four ways: in the header and in blocks after it (type `S`), and for PAX as records of their
//! own (0.0), as one record (0.1), or as lines before the content (1.0). Whoever believes such a list writes where it says: 1. the parts come in
//! order and do not overlap; 2. they lie in the file; 3. together they are as long as the content.
//!
//! See the manual of GNU tar, "Storing Sparse Files".

use std::io::{self, Read};

use tar::Header;

use crate::archive::{Archive, BLOCK, read_block};
use crate::pax::{number, wrong};

/// A part of a file that is no hole: where it begins, and its length.
pub type Part = (u64, u64);

/// More parts than any file has, and no more memory than a list may take.
const MOST_PARTS: usize = 1 << 19;

/// The list as PAX records give it.
#[derive(Debug)]
pub(crate) enum Map {
    /// In the records: an offset and a length in turn.
    Numbers(Vec<u64>),
    /// Before the content.
    Content,
}

impl Map {
    /// Takes a record, by its key without `GNU.sparse.`.
    pub(crate) fn record(map: &mut Option<Self>, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut numbers = match map.take() {
            Some(Self::Numbers(numbers)) => numbers,
            Some(Self::Content) => {
                *map = Some(Self::Content);
                return Ok(());
            }
            None => Vec::new(),
        };
        match key {
            b"major" if value == b"0" => return Ok(()),
            b"major" => {
                *map = Some(Self::Content);
                return Ok(());
            }
            b"map" => {
                numbers.clear();
                for text in value.split(|&byte| byte == b',') {
                    numbers.push(number(text)?);
                }
            }
            b"offset" | b"numbytes" => numbers.push(number(value)?),
            _ if numbers.is_empty() => return Ok(()),
            _ => {}
        }
        *map = Some(Self::Numbers(numbers));
        Ok(())
    }

    /// The parts; what stands before the content is read.
    pub(crate) fn parts(self, content: &mut Archive<impl Read>) -> io::Result<Vec<Part>> {
        match self {
            Self::Numbers(numbers) if numbers.len() % 2 == 0 => {
                Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
            }
            Self::Numbers(_) => Err(wrong("a list of a file's parts is not complete")),
            Self::Content => {
                let mut lines = Lines { content, block: [0; BLOCK], at: BLOCK };
                let count = usize::try_from(lines.number()?).unwrap_or(usize::MAX);
                if count > MOST_PARTS {
                    return Err(wrong(format_args!("a file of more than {MOST_PARTS} parts")));
                }
                (0..count).map(|_| Ok((lines.number()?, lines.number()?))).collect()
            }
        }
    }
}

/// Numbers with a line feed after each, in whole blocks.
struct Lines<'a, R> {
    content: &'a mut Archive<R>,
    block: [u8; BLOCK],
    at: usize,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        const MOST_DIGITS: usize = 20;
        let mut digits = Vec::new();
        loop {
            if self.at == BLOCK {
                self.content.read_exact(&mut self.block)?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            if byte == b'\n' && !digits.is_empty() {
                return number(&digits);
            }
            digits.push(byte);
            if digits.len() > MOST_DIGITS {
                return Err(wrong("a list of a file's parts is none"));
            }
        }
    }
}

/// The parts that a header of the type `S` lists, with the blocks that follow it.
pub(crate) fn of_header(header: &Header, stream: &mut impl Read) -> io::Result<Vec<Part>> {
    const LISTED: std::ops::Range<usize> = 386..482;
    const MORE: usize = 482;
    const MORE_IN_BLOCK: usize = 504;
    let mut parts = Vec::new();
    add(&mut parts, &header.as_bytes()[LISTED])?;
    let mut more = header.as_bytes()[MORE] != 0;
    while more {
        let mut block = [0; BLOCK];
        if !read_block(stream, &mut block)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        add(&mut parts, &block[..MORE_IN_BLOCK])?;
        more = block[MORE_IN_BLOCK] != 0;
        if parts.len() > MOST_PARTS {
            return Err(wrong(format_args!("a file of more than {MOST_PARTS} parts")));
        }
    }
    Ok(parts)
}

/// The size that a header of the type `S` tells.
pub(crate) fn size_of(header: &Header) -> io::Result<u64> {
    const SIZE: std::ops::Range<usize> = 483..495;
    field(&header.as_bytes()[SIZE])
}

fn add(parts: &mut Vec<Part>, list: &[u8]) -> io::Result<()> {
    const FIELD: usize = 12;
    for pair in list.chunks_exact(2 * FIELD) {
        // One that is empty ends the list.
        if pair[0] == 0 {
            break;
        }
        parts.push((field(&pair[..FIELD])?, field(&pair[FIELD..])?));
    }
    Ok(())
}

/// Octal digits; or, with the first bit set, the bytes of a number.
fn field(bytes: &[u8]) -> io::Result<u64> {
    if bytes[0] & 0x80 != 0 {
        return Ok(bytes[bytes.len() - 8..].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)));
    }
    let digits: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, b' ' | 0)).collect();
    let text =
        std::str::from_utf8(&digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = text.and_then(|text| u64::from_str_radix(text, 8).ok());
    number.ok_or_else(|| wrong("a list of a file's parts has no numbers"))
}

/// Requirements 1 to 3.
pub(crate) fn check(parts: &[Part], size: u64, content: u64) -> io::Result<()> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for &(offset, length) in parts {
        let next = offset.checked_add(length).filter(|&next| offset >= end && next <= size);
        end = next.ok_or_else(|| wrong("the parts of a file overlap, or lie behind its end"))?;
        sum += length;
    }
    if sum == content && size <= i64::MAX.cast_unsigned() {
        Ok(())
    } else {
        Err(wrong("the parts of a file are not its content"))
    }
}
