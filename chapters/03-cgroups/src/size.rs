//! Read and write sizes as people do: `64m`, `1.5g`, `4096`.
//!
//! The suffixes are Docker's: `b`, `k`, `m`, `g`, `t`, each 1024 times the one before, with an optional `b` or `ib` after it
//! (`64mb` and `64MiB` are `64m`), in capitals or not.

/// The number of bytes that `text` means.
///
/// # Errors
/// A sentence that says what is wrong, for the command line's message.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("{suffix:?} is no unit of size: use b, k, m, g or t, as in 64m")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let wrong = || format!("{text:?} is no size: write a number and a unit, as in 64m or 1.5g");
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let too_large = || format!("{text:?} is more than 2^63 bytes");
    let bytes =
        whole.checked_mul(1 << shift).filter(|&bytes| bytes <= i64::MAX as u64).ok_or_else(too_large)?;
    if !number.contains('.') {
        return Ok(bytes);
    }
    // Six digits after the point are more than anybody types, and exact where a float would not be.
    let digits = fraction.get(..fraction.len().min(6)).unwrap_or("");
    let part: u64 = format!("{digits:0<6}").parse().map_err(|_| wrong())?;
    let part = (u128::from(part) << shift) / 1_000_000;
    Ok(bytes + u64::try_from(part).map_err(|_| too_large())?)
}

/// `bytes` in the largest unit of which there is at least one, with one digit after the point: `63.9m`.
pub fn human(bytes: u64) -> String {
    let mut unit = 0;
    while unit < 4 && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes}b");
    }
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    let letter = ["b", "k", "m", "g", "t"][unit];
    match tenths % 10 {
        0 => format!("{}{letter}", tenths / 10),
        part => format!("{}.{part}{letter}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("1b", 1),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1g", 1 << 30),
            ("1.5g", 3 << 29),
            ("0.5k", 512),
            ("2t", 2 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "m", "-1", "64x", "1.2.3m", ".5m", "9999999999999g", "9223372036854775808", "1e6"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(human(64 << 20), "64m");
        assert_eq!(human(3 << 29), "1.5g");
        assert_eq!(human(1023), "1023b");
        assert_eq!(parse(&human(1536)), Ok(1536));
    }
}
