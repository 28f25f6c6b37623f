//! Properties of the scope that annotations ask for: `org.systemd.property.NAME` with a value as [`variant`] reads it.
//!
//! They come after the runtime's own, so that one of the same name counts, or is added to a list. Whoever writes annotations has
//! systemd's rights in that: an engine that lets its users do so has to look at them, and `features` says so.
//!
//! systemd.unit(5) and its like write times in seconds (`TimeoutStopSec`); on the bus they are called otherwise, and count millionths
//! of a second (`TimeoutStopUSec`). Either name can be given.
//!
//! See systemd.scope(5), org.freedesktop.systemd1(5).

use std::collections::HashMap;

use super::variant;
use super::wire::Value;
use crate::Error;

const PREFIX: &str = "org.systemd.property.";

/// The properties, in the order of their names.
///
/// # Errors
/// [`Error::Config`] for a name that is none, and for a value that cannot be read.
pub(super) fn properties(
    annotations: Option<&HashMap<String, String>>,
) -> Result<Vec<(String, Value)>, Error> {
    let mut all: Vec<_> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text)))
        .collect();
    all.sort();
    all.into_iter().map(|(name, text)| property(name, text)).collect()
}

fn property(name: &str, text: &str) -> Result<(String, Value), Error> {
    let wrong = |reason: String| Error::config(format!("annotations {PREFIX}{name}"), reason);
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(wrong("a property's name has three letters or more, and nothing else".to_owned()));
    }
    let value = variant::parse(text).map_err(|reason| wrong(format!("{text:?}: {reason}")))?;
    match name.strip_suffix("Sec") {
        Some(start) if start.ends_with(|last: char| last.is_ascii_lowercase()) => {
            let millionths = millionths(&value)
                .ok_or_else(|| wrong(format!("{text:?}: seconds are a number, and not below 0")))?;
            Ok((format!("{start}USec"), Value::U64(millionths)))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

/// The largest number is systemd's infinity, and stays it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn millionths(seconds: &Value) -> Option<u64> {
    const SECOND: u64 = 1_000_000;
    let seconds = match seconds {
        Value::U64(number) => *number,
        Value::U32(number) => u64::from(*number),
        Value::Fixed("d", bytes) => {
            let number = f64::from_ne_bytes(bytes.as_slice().try_into().ok()?);
            // A conversion ends at the largest number.
            return (number >= 0.0).then_some((number * SECOND as f64) as u64);
        }
        Value::Fixed(typ, bytes) => number(typ, bytes)?,
        _ => return None,
    };
    Some(seconds.saturating_mul(SECOND))
}

fn number(typ: &str, bytes: &[u8]) -> Option<u64> {
    match typ {
        "y" => bytes.first().copied().map(u64::from),
        "n" => i16::from_ne_bytes(bytes.try_into().ok()?).try_into().ok(),
        "q" => Some(u16::from_ne_bytes(bytes.try_into().ok()?).into()),
        "i" => i32::from_ne_bytes(bytes.try_into().ok()?).try_into().ok(),
        _ => i64::from_ne_bytes(bytes.try_into().ok()?).try_into().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<(String, Value)>, Error> {
        properties(Some(&HashMap::from([
            (format!("{PREFIX}{name}"), text.to_owned()),
            ("other".into(), "x".into()),
        ])))
    }

    #[test]
    fn seconds_become_millionths() {
        for text in ["7", "uint64 7", "uint32 7", "byte 7", "int16 7", "uint16 7", "int64 7", "7.0"] {
            assert_eq!(
                read("TimeoutStopSec", text).unwrap(),
                [("TimeoutStopUSec".into(), Value::U64(7_000_000))]
            );
        }
        assert_eq!(read("RuntimeMaxSec", "0.25").unwrap()[0].1, Value::U64(250_000));
        assert_eq!(read("RuntimeMaxSec", "uint64 18446744073709551615").unwrap()[0].1, Value::U64(u64::MAX));
        // No time, or one in its own unit.
        for (name, text) in [("TimeoutStopUSec", "uint64 7"), ("Sec", "uint64 7"), ("XSec", "uint64 7")] {
            assert_eq!(read(name, text).unwrap(), [(name.to_owned(), Value::U64(7))]);
        }
        for text in ["-1", "-0.5", "'7'", "true"] {
            read("TimeoutStopSec", text).unwrap_err();
        }
    }

    #[test]
    fn a_name_is_letters() {
        for name in ["", "ab", "A-B", "Memory.Max", "CPU1", "Größe"] {
            let error = read(name, "uint64 1").unwrap_err().to_string();
            assert!(error.contains(PREFIX) && error.contains("three letters"), "{error}");
        }
        assert!(properties(None).unwrap().is_empty());
    }
}
