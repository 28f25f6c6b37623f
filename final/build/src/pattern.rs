//! Patterns for paths: the wildcards of COPY, and `.dockerignore`.
//!
//! `*` and `?` stand for characters of one name, `[a-z]` and `[^a-z]` for one of several, `\` takes a meaning away, and in
//! `.dockerignore` the name `**` stands for any number of names. There, the last line that fits decides; `!` takes back; and what
//! is in an excluded folder is excluded with it.
//!
//! See ".dockerignore file" in the Dockerfile reference, and filepath.Match of Go, whose rules these are.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether a pattern for one name has wildcards at all.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Whether a name fits a pattern.
pub fn fits(pattern: &str, name: &OsStr) -> bool {
    name_fits(pattern.as_bytes(), name.as_bytes())
}

fn name_fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last star stands, and what of the name it has taken: to come back to where it can take one more.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p == pattern.len() && n == name.len() {
            return true;
        }
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
            continue;
        }
        match one(&pattern[p..], name.get(n).copied()) {
            Some(length) => (p, n) = (p + length, n + 1),
            None => match star {
                Some((at, taken)) if taken < name.len() => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

/// The length of the pattern's first element, if the byte fits it.
fn one(pattern: &[u8], byte: Option<u8>) -> Option<usize> {
    let byte = byte?;
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', next, ..] => (*next == byte).then_some(2),
        [b'[', set @ ..] => {
            let end = set.iter().skip(1).position(|byte| *byte == b']')? + 1;
            let (negated, members) = match &set[..end] {
                [b'^', members @ ..] => (true, members),
                members => (false, members),
            };
            let mut inside = false;
            let mut rest = members;
            while let Some((&first, after)) = rest.split_first() {
                match after {
                    [b'-', last, after @ ..] => {
                        inside |= (first..=*last).contains(&byte);
                        rest = after;
                    }
                    _ => {
                        inside |= first == byte;
                        rest = after;
                    }
                }
            }
            (inside != negated).then_some(end + 2)
        }
        [first, ..] => (*first == byte).then_some(1),
        [] => None,
    }
}

/// What a `.dockerignore` says.
#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<(bool, Vec<String>)>,
}

impl Ignore {
    /// Reads the lines.
    pub fn parse(text: &str) -> Self {
        let rule = |line: &str| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            let (taken_back, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
            let mut names: Vec<String> = Vec::new();
            for name in line.split('/') {
                match name {
                    "" | "." => {}
                    ".." => drop(names.pop()),
                    name => names.push(name.to_owned()),
                }
            }
            (!names.is_empty()).then_some((taken_back, names))
        };
        Self { rules: text.trim_start_matches('\u{feff}').lines().filter_map(rule).collect() }
    }

    /// Whether a path of the context is left out.
    pub fn excludes(&self, path: &Path) -> bool {
        let names: Vec<&OsStr> = path.iter().collect();
        let mut excluded = false;
        for (taken_back, rule) in &self.rules {
            // A rule for a folder is one for all that is in it.
            if excluded == *taken_back && (1..=names.len()).any(|length| path_fits(rule, &names[..length])) {
                excluded = !excluded;
            }
        }
        excluded
    }

    /// Whether something in an excluded folder may be taken back.
    pub fn may_take_back(&self) -> bool {
        self.rules.iter().any(|(taken_back, _)| *taken_back)
    }
}

fn path_fits(rule: &[String], names: &[&OsStr]) -> bool {
    match (rule.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            // Nothing, or one name more. At the end it stands for all that is below, but not for the folder itself.
            let nothing = path_fits(rest, names) && !(rest.is_empty() && names.is_empty());
            nothing
                || names
                    .split_first()
                    .is_some_and(|(_, names)| path_fits(rule, names) || (rest.is_empty() && names.is_empty()))
        }
        (Some((first, rest)), Some((name, names))) => fits(first, name) && path_fits(rest, names),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_characters_of_one_name() {
        for (pattern, name, expected) in [
            ("*", "abc", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt.gz", false),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[]", "x", false),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("abc", "abc", true),
            ("", "", true),
            ("**", "abc", true),
        ] {
            assert_eq!(fits(pattern, OsStr::new(name)), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_last_line_that_fits_decides() {
        let ignore = Ignore::parse(
            "# comment\n*.md\n!README.md\n/target/\n**/cache\nsrc/*/tmp\nnode/**\n!node/keep\n",
        );
        for (path, excluded) in [
            ("a.md", true),
            ("README.md", false),
            ("docs/a.md", false),
            ("target", true),
            ("target/debug/x", true),
            ("sub/target", false),
            ("cache", true),
            ("a/b/cache/c", true),
            ("src/one/tmp/file", true),
            ("src/one/two/tmp", false),
            ("node/x", true),
            ("node/keep", false),
            ("# comment", false),
        ] {
            assert_eq!(ignore.excludes(Path::new(path)), excluded, "{path}");
        }
    }
}
