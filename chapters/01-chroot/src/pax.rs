//! PAX records: what a tar header has no room for.
//!
//! ```text
//! 26 path=a/very/long/name\n      30 mtime=1700000000.123456789\n
//! ```
//!
//! The number is the length of the whole line, itself included, so a value may hold anything, also line feeds. A record replaces the
//! header's field; an empty value takes an earlier record back.
//!
//! See POSIX, pax, "extended header"; `SCHILY.xattr.` is star's, `GNU.sparse.` that of GNU tar.

use std::io;

use crate::sparse::Map;

/// The records of one entry.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) modified: Option<(i64, u32)>,
    /// Name without `SCHILY.xattr.`, and value.
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<Map>,
    /// Name and size of a file with holes.
    pub(crate) sparse_name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
}

impl Records {
    /// Adds the records of an extension.
    ///
    /// # Errors
    /// A line that is not as long as it says, or a value that cannot be.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (record, rest) =
                split(bytes).ok_or_else(|| wrong("a PAX record is not as long as it says"))?;
            let at = record.iter().position(|&byte| byte == b'=').filter(|&at| at > 0);
            let at = at.ok_or_else(|| wrong("a PAX record has no name"))?;
            self.set(&record[..at], &record[at + 1..])?;
            bytes = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let given = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = given.map(name).transpose()?,
            b"linkpath" => self.link = given.map(name).transpose()?,
            b"size" => self.size = given.map(number).transpose()?,
            b"uid" => self.uid = given.map(number).transpose()?,
            b"gid" => self.gid = given.map(number).transpose()?,
            b"mtime" => self.modified = given.map(time).transpose()?,
            // Its `path` is one that a reader who knows no holes is to make.
            b"GNU.sparse.name" => self.sparse_name = given.map(name).transpose()?,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.real_size = given.map(number).transpose()?,
            _ => {
                if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.attributes.retain(|(other, _)| other != attribute);
                    self.attributes.push((attribute.to_vec(), value.to_vec()));
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    Map::record(&mut self.sparse, key, value)?;
                }
            }
        }
        Ok(())
    }
}

/// The first record, without its length and its line feed, and what comes after it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    /// Of a length that fits into memory.
    const MOST_DIGITS: usize = 19;
    let space = bytes.iter().take(MOST_DIGITS + 1).position(|&byte| byte == b' ')?;
    let length = usize::try_from(number(&bytes[..space]).ok()?).ok()?;
    let line = bytes.get(..length).filter(|line| line.len() > space + 1)?;
    Some((line[space + 1..].strip_suffix(b"\n")?, &bytes[length..]))
}

fn name(value: &[u8]) -> io::Result<Vec<u8>> {
    // The kernel would take what comes before it for the name.
    if value.contains(&0) { Err(wrong("a name holds a NUL byte")) } else { Ok(value.to_vec()) }
}

/// Decimal digits and nothing else.
pub(crate) fn number(value: &[u8]) -> io::Result<u64> {
    let digits = value.iter().all(u8::is_ascii_digit);
    let parsed = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| wrong(format_args!("{:?} is no number", String::from_utf8_lossy(short(value)))))
}

/// `-1.5` is half a second after the second -2.
fn time(value: &[u8]) -> io::Result<(i64, u32)> {
    let invalid = || wrong(format_args!("{:?} is no time", String::from_utf8_lossy(short(value))));
    let (negative, digits) = value.strip_prefix(b"-").map_or((false, value), |digits| (true, digits));
    let dot = digits.iter().position(|&byte| byte == b'.').unwrap_or(digits.len());
    let seconds = i64::try_from(number(&digits[..dot]).ok().filter(|_| dot > 0).ok_or_else(invalid)?);
    let seconds = seconds.map_err(|_| invalid())?;
    let fraction = digits.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| u32::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |sum, at| sum * 10 + digit(at));
    Ok(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

fn short(value: &[u8]) -> &[u8] {
    &value[..value.len().min(40)]
}

#[allow(clippy::needless_pass_by_value, reason = "format_args! is passed on")]
pub(crate) fn wrong(reason: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> io::Result<Records> {
        let mut records = Records::default();
        records.read(text).map(|()| records)
    }

    #[test]
    fn a_value_may_hold_a_line_feed_and_the_last_record_counts() {
        let records = read(b"25 SCHILY.xattr.user.a=\n\n10 path=a\n10 path=b\n12 mtime=-2\n").unwrap();
        assert_eq!(records.attributes, [(b"user.a".to_vec(), b"\n".to_vec())]);
        assert_eq!((records.path, records.modified), (Some(b"b".to_vec()), Some((-2, 0))));
        assert_eq!(read(b"10 path=a\n8 path=\n").unwrap().path, None);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in [
            &b"5 a=b\n"[..],
            b"7 a=b\n",
            b"x",
            b" a=b\n",
            b"0 a=b\n",
            b"6 a=bc",
            b"6 =bc\n",
            b"4 a\n",
            b"99999999999999999999 a=b\n",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b"11 path=a\0\n",
            b"11 size=-1\n",
            b"11 uid=1x2\n",
            b"29 size=99999999999999999999\n",
            b"12 mtime=.5\n",
            b"13 mtime=1.x\n",
            b"11 mtime=-\n",
        ] {
            assert!(read(text).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_time_may_lie_before_1970_and_between_two_seconds() {
        for (text, expected) in [
            ("0", (0, 0)),
            ("12.5", (12, 500_000_000)),
            ("-1.5", (-2, 500_000_000)),
            ("-3", (-3, 0)),
            ("1.1234567899", (1, 123_456_789)),
            ("7.", (7, 0)),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }
}
