//! `cargo kit test`: set up, then run every test of the workspace, and add them up.
//!
//! Cargo prints a result for each of some forty test programs, and a test that was skipped stands somewhere between. This
//! prints the same as it comes, and at the end one line for each skip, with its reason, each failure, and the sum.

use std::io::{BufRead, BufReader, Write};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::{place, setup};

/// Run all tests, and say how many passed, failed and were skipped
///
/// The last line is `N passed, N failed, N skipped`; the exit status is 0 where none failed. Every skip is named, with its
/// reason. Run as root to test what root may do; as an ordinary user, the rest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo kit test --quick")]
pub(crate) struct Args {
    /// Leave out what needs minutes: the book's builder, random kills
    #[arg(long)]
    quick: bool,
    /// Only tests whose names contain one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::make(&setup::Args::default())?;
    let mut cargo = place::cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]).env("KIT_DIR", place::kit()).stdin(Stdio::null());
    if args.quick {
        cargo.args(["--exclude", "book-builder"]).env("KIT_QUICK", "1");
    }
    cargo.arg("--").args(&args.names);
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("run cargo")?;
    let mut tally = Tally::default();
    let mut out = std::io::stdout().lock();
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(|reader| reader.split(b'\n')) {
        // A failing test may print anything.
        let line = String::from_utf8_lossy(&line?).into_owned();
        tally.read(&line);
        // A reader that is gone does not keep the tests from being counted.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
    let passed = child.wait().context("wait for cargo")?.success();
    tally.finish(passed);
    writeln!(out, "\n{}", tally.text())?;
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What the test programs have said so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: Vec<String>,
    /// Name and reason.
    skipped: Vec<(String, String)>,
    /// Failures by the programs' own sums, to find those that were not named.
    failures: usize,
}

impl Tally {
    /// `test NAME ... ignored, REASON`, and `test result: ok. 3 passed; 1 failed; ...`.
    fn read(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test ") else { return };
        if let Some(result) = rest.strip_prefix("result: ") {
            self.passed += number_before(result, " passed");
            self.failures += usize::try_from(number_before(result, " failed")).unwrap_or(usize::MAX);
            return;
        }
        let Some((name, outcome)) = rest.split_once(" ... ") else { return };
        if let Some(reason) = outcome.strip_prefix("ignored") {
            // libtest says `ignored, REASON`, libtest-mimic `ignored (REASON)`.
            let reason = reason.trim_start_matches([',', ' ']);
            let reason =
                reason.strip_prefix('(').and_then(|reason| reason.strip_suffix(')')).unwrap_or(reason);
            let reason = if reason.is_empty() { "no reason given" } else { reason };
            self.skipped.push((name.trim().to_owned(), reason.to_owned()));
        } else if outcome.starts_with("FAILED") {
            self.failed.push(name.trim().to_owned());
        }
    }

    /// A test program that dies, or does not compile, has no sum of its own.
    fn finish(&mut self, passed: bool) {
        while self.failed.len() < self.failures {
            self.failed.push("a test whose name is further up".to_owned());
        }
        if !passed && self.failed.is_empty() {
            self.failed.push("cargo test itself: see further up".to_owned());
        }
    }

    fn text(&self) -> String {
        let mut lines: Vec<String> =
            self.skipped.iter().map(|(name, reason)| format!("skipped: {name}: {reason}")).collect();
        lines.extend(self.failed.iter().map(|name| format!("failed: {name}")));
        let (failed, skipped) = (self.failed.len(), self.skipped.len());
        lines.push(format!("{} passed, {failed} failed, {skipped} skipped", self.passed));
        lines.join("\n")
    }
}

/// The number that stands before a word.
fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str, success: bool) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally.finish(success);
        tally
    }

    #[test]
    fn programs_are_added_up_and_skips_keep_their_reasons() {
        let output = "running 3 tests\ntest a::b ... ok\ntest a::c ... ignored, needs root\ntest a::d ... FAILED\n\
            test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
            test k::e ... ignored (root: no)\ntest src/lib.rs - x (line 3) ... ignored\ntest result: ok. 4 passed; 0 failed; 2 ignored; 0 measured\n";
        assert_eq!(
            tally(output, false).text(),
            "skipped: a::c: needs root\nskipped: k::e: root: no\nskipped: src/lib.rs - x (line 3): no reason given\nfailed: a::d\n5 passed, 1 failed, 3 skipped"
        );
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        assert!(tally("test a ... ok\n", false).text().ends_with("0 passed, 1 failed, 0 skipped"));
        assert!(
            tally("test result: FAILED. 0 passed; 2 failed; 0 ignored", false).text().contains("2 failed")
        );
        assert_eq!(tally("", true).text(), "0 passed, 0 failed, 0 skipped");
    }
}
