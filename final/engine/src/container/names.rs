//! Names: the user's, checked, or one that is made from the id.

use crate::Error;

const ADJECTIVES: [&str; 32] = [
    "amber", "bold", "brisk", "calm", "clear", "coral", "deft", "eager", "early", "fair", "fleet", "fond",
    "gentle", "glad", "hardy", "jade", "keen", "light", "lively", "lucid", "mellow", "misty", "nimble",
    "noble", "placid", "quiet", "rapid", "steady", "sunny", "swift", "tidal", "warm",
];
const NOUNS: [&str; 32] = [
    "anchor", "barge", "bay", "bowsprit", "buoy", "canal", "cove", "current", "delta", "dock", "ferry",
    "harbour", "hull", "junk", "keel", "lagoon", "lock", "mast", "mooring", "oar", "plank", "quay", "raft",
    "reef", "river", "rudder", "sail", "sampan", "shoal", "sound", "strait", "tide",
];

/// A name made from the id, with enough of the id that two do not meet.
pub fn made(id: &str) -> String {
    let digits = |from: usize| {
        id.get(from..from + 4).and_then(|text| usize::from_str_radix(text, 16).ok()).unwrap_or(0)
    };
    let suffix = id.get(8..12).unwrap_or_default();
    format!("{}_{}_{suffix}", ADJECTIVES[digits(0) % ADJECTIVES.len()], NOUNS[digits(4) % NOUNS.len()])
}

/// The name, if a container may bear it: Docker's rule `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
///
/// # Errors
/// [`Error::Invalid`] with the rule.
pub fn checked(name: &str) -> Result<&str, Error> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first
        && name.len() >= 2
        && name.len() <= 128
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    {
        Ok(name)
    } else {
        Err(Error::Invalid(format!(
            "the name {name:?} cannot be: 2 to 128 letters, digits, underscores, dots and hyphens, a letter or digit first"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_may_be_borne() {
        assert!(checked(&made(&"0123456789abcdef".repeat(4))).is_ok());
    }

    #[test]
    fn a_name_is_no_path() {
        for name in ["", "a", "../x", "a/b", ".ab", "-ab", "a b"] {
            assert!(checked(name).is_err(), "{name:?}");
        }
    }
}
