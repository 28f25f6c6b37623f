//! The two ends of an include: anchors in sources, and the pages' lines that name them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// More than these in one file, and the page walks through a file that should be two.
const MOST_ANCHORS: usize = 6;

/// An include of a page: `{{#include PATH:ANCHOR}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Include {
    /// The line in the page, from 1.
    pub(crate) line: usize,
    /// As the page writes it, relative to the page.
    pub(crate) path: PathBuf,
    /// Empty for a whole file.
    pub(crate) anchor: String,
}

/// All includes of a page. One that is written with a backslash before it is text.
pub(crate) fn includes(page: &str) -> Vec<Include> {
    let mut found = Vec::new();
    for (number, line) in page.lines().enumerate() {
        for (start, _) in line.match_indices("{{#") {
            let Some((inner, _)) = line[start + 3..].split_once("}}") else { continue };
            let mut words = inner.split_whitespace();
            let kind = words.next().unwrap_or_default();
            let escaped = line[..start].ends_with('\\');
            if escaped || !["include", "rustdoc_include", "playground"].contains(&kind) {
                continue;
            }
            let target = words.next().unwrap_or_default();
            let (path, anchor) = target.split_once(':').unwrap_or((target, ""));
            found.push(Include { line: number + 1, path: path.into(), anchor: anchor.to_owned() });
        }
    }
    found
}

/// The anchors of a source, with the line at which each begins, and what is wrong with them.
pub(crate) fn anchors(file: &Path, source: &str) -> (BTreeMap<String, usize>, Vec<String>) {
    let mut found = BTreeMap::new();
    let mut open: Vec<(String, usize)> = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in source.lines().enumerate() {
        let mut wrong = |what: String| problems.push(format!("{}:{}: {what}", file.display(), number + 1));
        if let Some(name) = named(line, "ANCHOR:") {
            if found.insert(name.clone(), number + 1).is_some() {
                wrong(format!("a second anchor {name:?}"));
            }
            open.push((name, number + 1));
        } else if let Some(name) = named(line, "ANCHOR_END:") {
            match open.iter().position(|(begun, _)| *begun == name) {
                Some(place) => drop(open.remove(place)),
                None => wrong(format!("anchor {name:?} ends and never began")),
            }
        }
    }
    for (name, line) in open {
        problems.push(format!("{}:{line}: anchor {name:?} has no end", file.display()));
    }
    if found.len() > MOST_ANCHORS {
        problems.push(format!("{}: {} anchors, {MOST_ANCHORS} are the most", file.display(), found.len()));
    }
    (found, problems)
}

fn named(line: &str, marker: &str) -> Option<String> {
    let name = line.trim_start().trim_start_matches(['/', '#', '*', ' ']).strip_prefix(marker)?;
    Some(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_are_found_with_their_anchor() {
        let page =
            "a {{#include ../x.rs:main}}\n\n{{#rustdoc_include y.rs}} \\{{#include z.rs}} {{#title T}}";
        let found = includes(page);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Include { line: 1, path: "../x.rs".into(), anchor: "main".into() });
        assert_eq!(found[1], Include { line: 3, path: "y.rs".into(), anchor: String::new() });
    }

    #[test]
    fn balanced_anchors_are_right() {
        let source =
            "// ANCHOR: a\n    // ANCHOR: b\n// ANCHOR_END: b\n// ANCHOR_END: a\nlet x = \"ANCHOR: no\";";
        let (found, problems) = anchors(Path::new("x.rs"), source);
        assert_eq!(found.into_keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn unbalanced_anchors_are_told() {
        let (_, problems) = anchors(Path::new("x.rs"), "// ANCHOR: a\n// ANCHOR_END: b\n");
        assert_eq!(
            problems,
            ["x.rs:2: anchor \"b\" ends and never began", "x.rs:1: anchor \"a\" has no end"]
        );
        let (_, problems) =
            anchors(Path::new("x.rs"), "// ANCHOR: a\n// ANCHOR_END: a\n// ANCHOR: a\n// ANCHOR_END: a");
        assert_eq!(problems, ["x.rs:3: a second anchor \"a\""]);
    }

    #[test]
    fn too_many_anchors_are_told() {
        let source: String =
            (0..7).map(|number| format!("// ANCHOR: a{number}\n// ANCHOR_END: a{number}\n")).collect();
        assert_eq!(anchors(Path::new("x.rs"), &source).1, ["x.rs: 7 anchors, 6 are the most"]);
    }
}
