//! The rules of the house that a compiler does not hold: which package may use which, how long a file may be, and what each
//! file begins with. ARCHITECTURE.md tells them in words.

// The whole file is a test; Clippy sees that of its functions with #[test] alone.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::transcript::{fences, markdown_files};

const CHAPTERS: [&str; 5] = ["chroot", "namespaces", "cgroups", "unionfs", "network"];
const LONGEST_FILE: usize = 400;
const LONGEST_MAIN: usize = 80;
const LONGEST_FUNCTION: usize = 60;
/// For a straight line of kernel calls, of which there must then be this many.
const LONGEST_LINE_OF_CALLS: (usize, usize) = (90, 4);
const MOST_VARIANTS: usize = 12;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All Rust sources below a folder, as paths relative to the repository, with their text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(repository()).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn all_sources() -> Vec<(PathBuf, String)> {
    ["chapters", "final", "kit", "tests", "book"].into_iter().flat_map(sources).collect()
}

/// A source without its tests at the end, and without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("\n#[cfg(test)]").unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Fails with all that is wrong at once.
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Which packages of ours each package of ours names in its Cargo.toml.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(repository())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let names = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().into_iter().flatten();
        all.map(name).filter(|dependency| *dependency != name(package)).collect()
    };
    packages.iter().map(|package| (name(package), names(package))).collect()
}

/// The floor on which a package stands; none for the tools beside the house, on which nothing stands.
fn floor(package: &str) -> Option<usize> {
    let chapter = CHAPTERS.iter().position(|chapter| *chapter == package);
    let floors = [
        "step",
        "",
        "",
        "",
        "",
        "",
        "sampan-runtime",
        "sampan-engine",
        "sampan-build",
        "sampan-api",
        "sampan",
    ];
    chapter.map(|chapter| chapter + 1).or(match package {
        "sampan-image" => Some(6),
        _ => floors.iter().position(|floor| !floor.is_empty() && *floor == package),
    })
}

#[test]
fn packages_use_only_those_below_them() {
    let all = dependencies();
    let mut problems = Vec::new();
    for (package, dependencies) in &all {
        for dependency in dependencies.iter().filter(|dependency| all.contains_key(*dependency)) {
            match (floor(package), floor(dependency)) {
                (_, None) if !(dependency == "tests" && package == "tests") => {
                    problems.push(format!("{package} uses {dependency}, on which nothing may stand"));
                }
                (Some(upper), Some(lower)) if lower >= upper => {
                    problems.push(format!("{package} uses {dependency}, which is not below it"));
                }
                _ => {}
            }
        }
    }
    none(&problems);
    assert!(all.len() > 12, "cargo metadata lists the packages");
}

#[test]
fn a_chapters_library_uses_no_other_chapter() {
    let mut problems = Vec::new();
    for (path, text) in sources("chapters") {
        let folder: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let crate_folder = repository().join("chapters").join(&*folder[1]).join("src");
        if folder[2] != "src" || belongs_to_the_binary(&crate_folder, &folder[3]) {
            continue;
        }
        let own = folder[1].split_once('-').map_or("", |(_, name)| name);
        for chapter in CHAPTERS.iter().filter(|chapter| **chapter != own) {
            // A module of that name, and a name that the file brings in from elsewhere, are not the package.
            let module = crate_folder.join(chapter);
            if module.is_dir() || module.with_extension("rs").is_file() {
                continue;
            }
            problems.extend(
                code(&text)
                    .filter(|(_, line)| names_crate(line, chapter))
                    .map(|(number, line)| format!("{}:{number}: {}", path.display(), line.trim())),
            );
        }
    }
    none(&problems);
}

/// Whether `src/PART` is main.rs, or a module that main.rs declares and lib.rs does not.
fn belongs_to_the_binary(src: &Path, part: &str) -> bool {
    let read = |name: &str| fs::read_to_string(src.join(name)).unwrap_or_default();
    let declared = format!("mod {};", part.trim_end_matches(".rs"));
    part == "main.rs" || (read("main.rs").contains(&declared) && !read("lib.rs").contains(&declared))
}

/// Whether the line holds a path that begins with this crate.
fn names_crate(line: &str, name: &str) -> bool {
    let at = line.match_indices(&format!("{name}::")).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || "_:\"".contains(before))
    });
    let used = line.trim().trim_start_matches("pub ").strip_prefix("use ");
    at || used.is_some_and(|rest| rest.trim_end_matches(';').trim_start_matches("::") == name)
}

#[test]
fn chapters_know_no_json_no_http_and_no_oci() {
    let strangers =
        ["serde_json", "oci_spec", "oci-spec", "serde", "hyper", "axum", "ureq", "tokio", "sampan"];
    let mut problems = Vec::new();
    for (package, dependencies) in dependencies() {
        let known = CHAPTERS.contains(&package.as_str());
        for dependency in dependencies.iter().filter(|_| known) {
            if strangers.iter().any(|stranger| dependency.starts_with(stranger)) {
                problems.push(format!("{package} uses {dependency}"));
            }
        }
    }
    for (path, text) in sources("chapters") {
        for (number, line) in code(&text) {
            if strangers.iter().any(|stranger| names_crate(line, stranger)) {
                problems.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    none(&problems);
}

#[test]
fn the_core_is_synchronous() {
    let asynchronous = ["tokio", "async-std", "smol", "futures"];
    let mut problems = Vec::new();
    for (package, dependencies) in dependencies() {
        if package != "sampan-api" {
            let found = dependencies.iter().filter(|name| asynchronous.contains(&name.as_str()));
            problems.extend(found.map(|name| format!("{package} uses {name}: only sampan-api may")));
        }
    }
    none(&problems);
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let mut problems = Vec::new();
    for (path, text) in all_sources() {
        let lines = text.lines().count();
        let main = path.ends_with("src/main.rs") && path.starts_with("chapters");
        let most = if main { LONGEST_MAIN } else { LONGEST_FILE };
        if lines > most {
            problems.push(format!("{}: {lines} lines, {most} are the most", path.display()));
        }
    }
    none(&problems);
}

#[test]
fn functions_can_be_seen_at_once() {
    let mut problems = Vec::new();
    for (path, text) in all_sources() {
        for function in functions(&text) {
            let (most, calls) = LONGEST_LINE_OF_CALLS;
            let straight = function.steps >= calls && function.lines <= most;
            if function.lines > LONGEST_FUNCTION && !straight {
                let (line, name, lines) = (function.line, function.name, function.lines);
                problems.push(format!("{}:{line}: fn {name} has {lines} lines", path.display()));
            }
        }
    }
    none(&problems);
}

/// A function as rustfmt lays it out: from its `fn` to the brace in the same column.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    line: usize,
    name: String,
    lines: usize,
    /// How many kernel calls it makes.
    steps: usize,
}

fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let words = body.split_once("fn ").filter(|(before, _)| {
            let allowed = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
            before.split_whitespace().all(|word| allowed.contains(&word))
        });
        let Some((_, rest)) = words else { continue };
        let name = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
        let end = format!("{}}}", " ".repeat(indent));
        let last = lines[number..].iter().position(|line| *line == end);
        let length = if line.ends_with('}') || line.ends_with(';') { 0 } else { last.unwrap_or(0) };
        let steps = lines[number..=number + length].iter().filter(|line| line.contains("step(")).count();
        found.push(Function { line: number + 1, name, lines: length + 1, steps });
    }
    found
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut problems = Vec::new();
    for (path, text) in ["chapters", "final", "kit"].into_iter().flat_map(sources) {
        if path.iter().any(|part| part == "tests" || part == "tests.rs") {
            continue;
        }
        let found = code(&text).filter(|(_, line)| {
            [".unwrap()", "todo!(", "dbg!(", "unimplemented!("].iter().any(|word| line.contains(word))
        });
        problems.extend(found.map(|(number, line)| format!("{}:{number}: {}", path.display(), line.trim())));
    }
    none(&problems);
}

#[test]
fn every_file_says_what_it_is() {
    let all = all_sources();
    let problems: Vec<_> = all
        .iter()
        .filter(|(_, text)| !text.starts_with("//! ") || text.starts_with("//! Stub"))
        .map(|(path, _)| format!("{}: begins with no //! that says what it is", path.display()))
        .collect();
    none(&problems);
}

#[test]
fn errors_have_few_variants() {
    let mut problems = Vec::new();
    for (path, text) in ["chapters", "final"].into_iter().flat_map(sources) {
        for part in text.split("thiserror::Error").skip(1) {
            let body = part.split("\n}").next().unwrap_or_default();
            let variants = body.matches("#[error(").count();
            if variants > MOST_VARIANTS {
                problems.push(format!("{}: an error of {variants} variants", path.display()));
            }
        }
    }
    none(&problems);
}

#[test]
fn every_fence_is_labelled() {
    let mut files: Vec<_> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
        .into_iter()
        .map(|name| repository().join(name))
        .collect();
    files.extend(markdown_files(&repository().join("book/src")));
    let mut problems = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for fence in fences(&text).iter().filter(|fence| fence.label.is_empty() || !fence.closed) {
            problems.push(format!("{}:{}: no label, or no end", file.display(), fence.line));
        }
    }
    none(&problems);
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() {
    let mut problems = Vec::new();
    for folder in ["chapters", "final", "kit", "tests", "book"] {
        for entry in walk(&repository().join(folder)) {
            let text = fs::read_to_string(&entry).unwrap();
            if !text.contains("[lints]\nworkspace = true") {
                problems.push(entry.display().to_string());
            }
        }
    }
    none(&problems);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.ends_with("target") {
            found.extend(walk(&path));
        } else if path.ends_with("Cargo.toml") {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_rules_themselves_are_right() {
    assert!(names_crate("use chroot::Command;", "chroot"));
    assert!(names_crate("    let x = network::attach();", "network"));
    assert!(names_crate("pub use cgroups;", "cgroups"));
    assert!(!names_crate("use nix::unistd::{chroot};", "chroot"));
    assert!(!names_crate("use nix::unistd::chroot::x;", "chroot"));
    assert!(!names_crate("my_network::x()", "network"));
    let text =
        "fn a() {}\n\npub(crate) fn b<T>(\n    x: T,\n) {\n    step(\"x\");\n}\nlet f = \"fn c() {\";\n";
    let seen: Vec<_> =
        functions(text).into_iter().map(|function| (function.name, function.lines, function.steps)).collect();
    assert_eq!(seen, [("a".to_owned(), 1, 0), ("b".to_owned(), 5, 1)]);
    assert_eq!(code("a\n// b\nc\n\n#[cfg(test)]\nd").map(|line| line.1).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(floor("step"), Some(0));
    assert!(floor("sampan-image") == floor("sampan-runtime") && floor("kit").is_none());
}
