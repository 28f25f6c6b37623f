//! `cargo kit book`: builds the book into `target/book`, and shows it with `serve`.
//!
//! mdBook renders an anchor that is missing as nothing, and a file that is missing as an error in its log alone. A book of
//! which a third is code cannot have that. So: 1. the sources and pages are [checked](check); 2. mdBook renders; 3. every link
//! of what it rendered is [followed](links), and those of the programs' hints too. Whatever is wrong, all of it is told, and the
//! exit status is 1.

mod anchors;
mod check;
mod links;
mod serve;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use mdbook_driver::MDBook;
use mdbook_driver::config::Config;

const USAGE: &str = "usage: book-builder [serve [PORT]]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("no repository")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let port = match words.as_slice() {
        [] => None,
        ["serve"] => Some(3000),
        ["serve", port] => Some(port.parse().context(USAGE)?),
        _ => bail!(USAGE),
    };
    let target = repository.join("target/book");
    let built = build(repository, &target);
    match port {
        None => {
            built?;
            println!("{}", target.join("index.html").display());
            Ok(())
        }
        Some(port) => {
            // Whoever writes a page wants to see it before all is right.
            if let Err(error) = built {
                eprintln!("warning: {error:#}");
            }
            serve::serve(&target, port)
        }
    }
}

/// Checks, renders, and checks what was rendered: all problems are told at once.
fn build(repository: &Path, target: &Path) -> anyhow::Result<()> {
    let mut problems = check::check(repository)?;
    render(&repository.join("book"), target)?;
    problems.extend(links::check(target)?);
    problems.extend(links::check_hints(repository, target)?);
    for problem in &problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        0 => Ok(()),
        number => bail!("the book has {number} problem(s)"),
    }
}

fn render(book: &Path, target: &Path) -> anyhow::Result<()> {
    let mut config = Config::from_disk(book.join("book.toml"))?;
    target.clone_into(&mut config.build.build_dir);
    MDBook::load_with_config(book, config)?.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_book_has_no_problems() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let folder = tempfile::tempdir().unwrap();
        build(repository, &folder.path().join("book")).unwrap();
    }
}
