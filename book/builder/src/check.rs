//! What must be right before mdBook renders: anchors, includes, fences, and that each page is in the table of contents.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::anchors::{anchors, includes};

/// Where sources lie that the book may show.
const SOURCES: &[&str] = &["chapters", "final", "kit/step"];

/// Everything that is wrong, as `file:line: what`.
///
/// # Errors
/// Where a file that is there cannot be read.
pub(crate) fn check(repository: &Path) -> io::Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut sources = BTreeMap::new();
    for folder in SOURCES {
        for path in files(&repository.join(folder), "rs")? {
            let name = path.strip_prefix(repository).unwrap_or(&path).to_owned();
            let (anchors, wrong) = anchors(&name, &fs::read_to_string(&path)?);
            problems.extend(wrong);
            sources.insert(name, anchors);
        }
    }
    let mut used = BTreeSet::new();
    let pages = repository.join("book/src");
    let contents = fs::read_to_string(pages.join("SUMMARY.md"))?;
    for page in files(&pages, "md")? {
        let name = page.strip_prefix(repository).unwrap_or(&page);
        let text = fs::read_to_string(&page)?;
        problems.extend(fences(name, &text));
        let in_book = page.strip_prefix(&pages).unwrap_or(&page);
        if in_book != Path::new("SUMMARY.md") && !contents.contains(&format!("({})", in_book.display())) {
            problems.push(format!("{}: not in SUMMARY.md", name.display()));
        }
        for include in includes(&text) {
            let path = plain(&name.parent().unwrap_or(Path::new("")).join(&include.path));
            let mut wrong =
                |what: &str| problems.push(format!("{}:{}: {what}", name.display(), include.line));
            if !repository.join(&path).is_file() {
                wrong(&format!("no such file: {}", path.display()));
            } else if include.anchor.is_empty() {
                if path.extension().is_some_and(|kind| kind == "rs") {
                    wrong("a whole source: name an anchor");
                }
            } else if include.anchor.starts_with(|first: char| first.is_ascii_digit() || first == ':') {
                wrong("lines by their numbers, which the next change moves: name an anchor");
            } else if !sources.get(&path).is_some_and(|anchors| anchors.contains_key(&include.anchor)) {
                wrong(&format!("no anchor {:?} in {}", include.anchor, path.display()));
            }
            used.insert((path, include.anchor));
        }
    }
    for (path, anchors) in sources {
        for (anchor, line) in anchors {
            if !used.contains(&(path.clone(), anchor.clone())) {
                problems.push(format!("{}:{line}: no page shows anchor {anchor:?}", path.display()));
            }
        }
    }
    Ok(problems)
}

/// Fences without a label, and without an end.
fn fences(page: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut open: Option<(&str, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let fence = &line[..line.len() - line.trim_start_matches('`').len()];
        match open {
            Some((begun, _)) if line == begun => open = None,
            None if fence.len() >= 3 => {
                open = Some((fence, number + 1));
                if line == fence {
                    problems.push(format!(
                        "{}:{}: a fence without a label: `text` is one",
                        page.display(),
                        number + 1
                    ));
                }
            }
            _ => {}
        }
    }
    problems.extend(open.map(|(_, line)| format!("{}:{line}: a fence without an end", page.display())));
    problems
}

/// The path without `..`: both sides of a comparison are written alike.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// All files of a kind below a folder, sorted; none where there is no such folder.
///
/// # Errors
/// Where a folder cannot be read.
pub(crate) fn files(folder: &Path, kind: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, kind)?);
        } else if path.extension().is_some_and(|extension| extension == kind) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository of one chapter with one source, and one page.
    fn problems(source: &str, page: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("chapters/01-x/src/x.rs", source);
        write("book/src/SUMMARY.md", "- [One](one.md)\n");
        write("book/src/one.md", page);
        check(folder.path()).unwrap()
    }

    const ANCHOR: &str = "// ANCHOR: a\nfn a() {}\n// ANCHOR_END: a\n";
    const SHOWS: &str = "```rust\n{{#include ../../chapters/01-x/src/x.rs:a}}\n```\n";

    #[test]
    fn a_page_that_is_right_has_no_problem() {
        assert_eq!(problems(ANCHOR, SHOWS), [""; 0]);
    }

    #[test]
    fn an_unused_anchor_is_told() {
        assert_eq!(problems(ANCHOR, "Text\n"), ["chapters/01-x/src/x.rs:1: no page shows anchor \"a\""]);
    }

    #[test]
    fn a_missing_anchor_is_told() {
        assert_eq!(
            problems("fn a() {}\n", SHOWS),
            ["book/src/one.md:2: no anchor \"a\" in chapters/01-x/src/x.rs"]
        );
    }

    #[test]
    fn an_unbalanced_anchor_is_told() {
        assert_eq!(problems("// ANCHOR: a\n", SHOWS), ["chapters/01-x/src/x.rs:1: anchor \"a\" has no end"]);
    }

    #[test]
    fn a_missing_file_is_told() {
        assert_eq!(
            problems("", "{{#include gone.rs:a}}"),
            ["book/src/one.md:1: no such file: book/src/gone.rs"]
        );
    }

    #[test]
    fn code_without_an_anchor_is_told() {
        let page =
            "{{#include ../../chapters/01-x/src/x.rs}}\n{{#include ../../chapters/01-x/src/x.rs:1:2}}\n";
        assert_eq!(problems("", page).len(), 2);
    }

    #[test]
    fn a_fence_without_label_or_end_is_told() {
        assert_eq!(
            problems("", "```\nx\n```\n"),
            ["book/src/one.md:1: a fence without a label: `text` is one"]
        );
        assert_eq!(problems("", "```sh\nx\n"), ["book/src/one.md:1: a fence without an end"]);
        assert_eq!(problems("", "````text\n```\n````\n"), [""; 0]);
    }

    #[test]
    fn a_page_outside_the_contents_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("book/src")).unwrap();
        fs::write(folder.path().join("book/src/SUMMARY.md"), "").unwrap();
        fs::write(folder.path().join("book/src/lost.md"), "").unwrap();
        assert_eq!(check(folder.path()).unwrap(), ["book/src/lost.md: not in SUMMARY.md"]);
    }
}
