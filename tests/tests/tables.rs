//! The book's tables of attacks and of features say what the tests say.

// The whole file is a test; Clippy sees that of its functions with #[test] alone.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use tests::attacks::KNOWN;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn book(page: &str) -> String {
    fs::read_to_string(repository().join("book/src").join(page)).unwrap_or_default()
}

/// All sources below a folder of the black-box tests, one after another.
fn sources(folder: &str) -> String {
    let mut folders = vec![repository().join("tests/tests").join(folder)];
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        let entries: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    all
}

#[test]
fn the_table_of_attacks_is_true() {
    let (index, summary, all) = (book("attacks/index.md"), book("SUMMARY.md"), sources("runtime/attacks"));
    let mut problems = Vec::new();
    for known in KNOWN {
        let page = book(&format!("attacks/{}.md", known.page));
        let tests: Vec<_> = known.tests.iter().map(|name| format!("`{name}`")).collect();
        let row = format!(
            "| {} | [{}]({}.md) | {} |",
            known.id.join(", "),
            known.title,
            known.page,
            tests.join(", ")
        );
        let found = [
            (!page.is_empty(), "has no page"),
            (index.contains(&row), "is not in the book's table like this"),
            (summary.contains(&format!("(attacks/{}.md)", known.page)), "is not in the summary"),
            (
                known.id.iter().all(|id| !id.starts_with("CVE") || page.contains(id)),
                "is not named on its page",
            ),
            (tests.iter().all(|name| page.contains(name)), "has a test that its page does not name"),
            (!known.tests.is_empty(), "has no test"),
        ];
        problems
            .extend(found.iter().filter(|one| !one.0).map(|one| format!("{}: {}: {row}", known.page, one.1)));
        for name in known.tests {
            if !all.contains(&format!("\"runtime::attacks::{name}\"")) {
                problems.push(format!("{}: there is no test {name}", known.page));
            }
        }
    }
    let named = |name: &str| KNOWN.iter().any(|known| known.tests.contains(&name));
    let unnamed = all.split("\"runtime::attacks::").skip(1).filter_map(|rest| rest.split('"').next());
    problems.extend(unnamed.filter(|name| !named(name)).map(|name| format!("{name} is in no row")));
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// The second column is ours: `no`, or the tests that show it.
#[test]
fn the_table_of_features_is_true() {
    let (page, all) = (book("runtime.md"), sources("."));
    let rows: Vec<Vec<&str>> = page
        .lines()
        .skip_while(|line| !line.starts_with("| feature |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() > 30, "{} rows", rows.len());
    let mut problems = Vec::new();
    for row in rows {
        let [feature, ours, ..] = row[..] else { panic!("{row:?}") };
        let tests: Vec<_> = ours.split('`').skip(1).step_by(2).collect();
        if row.len() != 5 || (tests.is_empty() && !ours.starts_with("no")) {
            problems
                .push(format!("{feature}: {} columns, and ours is neither a test nor no: {ours}", row.len()));
        }
        for name in tests {
            if !all.contains(&format!("\"runtime::{name}\"")) && !all.contains(&format!("\"{name}\"")) {
                problems.push(format!("{feature}: there is no test {name}"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}
