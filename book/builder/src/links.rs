//! The links of the rendered book, and of the programs' hints into it: each is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::check::files;

/// Made by mdBook out of the other pages, or shown under any address.
const MADE: &[&str] = &["print.html", "404.html", "toc.html"];

/// Everything that is wrong in the pages below `book`.
///
/// # Errors
/// Where a file that is there cannot be read.
pub(crate) fn check(book: &Path) -> io::Result<Vec<String>> {
    let mut problems = Vec::new();
    let pages = pages(book)?;
    for (page, text) in &pages {
        let name = page.strip_prefix(book).unwrap_or(page).display().to_string();
        if MADE.contains(&name.as_str()) {
            continue;
        }
        if text.contains("{{#include") {
            problems.push(format!("{name}: mdBook left an include as it was"));
        }
        let folder = page.parent().unwrap_or(book);
        for link in ["href", "src"].into_iter().flat_map(|attribute| attributes(text, attribute)) {
            let outside = link.contains("://") || link.starts_with("data:") || link.starts_with("mailto:");
            if !outside && let Some(wrong) = follow(&pages, page, folder, link) {
                problems.push(format!("{name}: {wrong}"));
            }
        }
    }
    Ok(problems)
}

/// Everything that is wrong with the `page` of a hint in the sources.
///
/// # Errors
/// As for [`check`].
pub(crate) fn check_hints(repository: &Path, book: &Path) -> io::Result<Vec<String>> {
    let pages = pages(book)?;
    let mut problems = BTreeSet::new();
    for folder in ["chapters", "final"] {
        for source in files(&repository.join(folder), "rs")? {
            let text = fs::read_to_string(&source)?;
            let hints = text.split("page: \"").skip(1).filter_map(|rest| rest.split('"').next());
            for hint in hints {
                if let Some(wrong) = follow(&pages, &book.join("index.html"), book, hint) {
                    let name = source.strip_prefix(repository).unwrap_or(&source);
                    problems.insert(format!("{}: a hint's page: {wrong}", name.display()));
                }
            }
        }
    }
    Ok(problems.into_iter().collect())
}

fn pages(book: &Path) -> io::Result<BTreeMap<PathBuf, String>> {
    files(book, "html")?.into_iter().map(|path| Ok((path.clone(), fs::read_to_string(path)?))).collect()
}

/// What is wrong with a link; none where it leads somewhere.
fn follow(pages: &BTreeMap<PathBuf, String>, page: &Path, folder: &Path, link: &str) -> Option<String> {
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { page.to_owned() } else { folder.join(path) };
    let target = if target.is_dir() { target.join("index.html") } else { target };
    if !target.is_file() {
        return Some(format!("{link:?} leads nowhere"));
    }
    let text = pages.get(&target);
    let there = text.is_none_or(|text| attributes(text, "id").any(|id| id == fragment));
    (!fragment.is_empty() && !there).then(|| format!("{link:?}: no such heading there"))
}

/// The values of an attribute, wherever it stands in a tag.
fn attributes<'a>(html: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let tags = html.split('<').skip(1).filter_map(|rest| rest.split('>').next());
    tags.flat_map(move |tag| {
        let mut parts = tag.split('"');
        let mut values = Vec::new();
        while let (Some(before), Some(value)) = (parts.next(), parts.next()) {
            let attribute = before.trim_end().strip_suffix('=');
            if attribute.is_some_and(|text| text.split_whitespace().last() == Some(name)) {
                values.push(value);
            }
        }
        values
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(page: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("other.html"), "<h2 id=\"there\">x</h2>").unwrap();
        fs::write(folder.path().join("one.html"), page).unwrap();
        check(folder.path()).unwrap()
    }

    #[test]
    fn links_that_lead_somewhere_are_right() {
        let page = "<a href=\"other.html\"></a><a class=\"x\" href=\"other.html#there\"></a><a href=\"#here\"></a>\
                    <p id=\"here\"></p><a href=\"https://example.org/nothing\"></a>";
        assert_eq!(problems(page), [""; 0]);
    }

    #[test]
    fn dead_links_are_told() {
        assert_eq!(problems("<img src=\"gone.svg\">"), ["one.html: \"gone.svg\" leads nowhere"]);
        assert_eq!(
            problems("<a href=\"other.html#gone\"></a>"),
            ["one.html: \"other.html#gone\": no such heading there"]
        );
        assert_eq!(problems("<a href=\"#gone\"></a>"), ["one.html: \"#gone\": no such heading there"]);
        assert_eq!(problems("{{#include x.rs:a}}"), ["one.html: mdBook left an include as it was"]);
    }

    #[test]
    fn a_hint_to_no_page_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("chapters/01-x/src");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("hints.rs"), "Hint { page: \"one.html#here\" }, Hint { page: \"two.html\" }")
            .unwrap();
        let book = folder.path().join("target");
        fs::create_dir(&book).unwrap();
        fs::write(book.join("one.html"), "<h2 id=\"here\">").unwrap();
        assert_eq!(
            check_hints(folder.path(), &book).unwrap(),
            ["chapters/01-x/src/hints.rs: a hint's page: \"two.html\" leads nowhere"]
        );
    }
}
