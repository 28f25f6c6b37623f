//! `cargo kit test`: set up, then run every test of the workspace, and add them up.
//!
//! Cargo prints a result for each of some forty test programs, and a test that was skipped stands somewhere between. This
//! prints the same as it comes, and at the end one line for each skip, with its reason, each failure, and the sum.
//!
//! What this machine cannot show, the virtual machine may: with `--with-vm`, a test that was skipped here and passed there
//! counts as passed, and is named. What needs systemd is run there in a second one, whose first process that is.

use std::io::{BufRead, BufReader, Write};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::{place, setup, vm};

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
    /// Run them in a virtual machine that has cgroup version 2 alone: see `cargo kit vm`
    #[arg(long)]
    vm: bool,
    /// Run them here, and in the virtual machine too: there only those with one of these names, if any is given
    #[arg(long, value_name = "NAME,...", num_args = 0..=1, require_equals = true, conflicts_with = "vm")]
    with_vm: Option<Option<String>>,
    #[command(flatten, next_help_heading = "The virtual machine")]
    machine: vm::Options,
    /// Only tests whose names contain one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::make(&setup::Args::default())?;
    let mut tally = if args.vm { inside(args, &args.machine, &args.names)? } else { here(args)? };
    if let Some(names) = &args.with_vm {
        println!("\nThe same, in a virtual machine with cgroup version 2 alone:");
        let names = names.as_ref().map(|names| names.split(',').map(str::to_owned).collect::<Vec<_>>());
        tally.add(inside(args, &args.machine, names.as_ref().unwrap_or(&args.names))?);
        let names = tally.skipped_for("systemd");
        if !names.is_empty() {
            println!("\nWhat needs systemd, in a virtual machine whose first process that is:");
            tally.add(inside(args, &args.machine.with_systemd(), &names)?);
        }
    }
    writeln!(std::io::stdout(), "\n{}", tally.text())?;
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// On this machine, by Cargo.
fn here(args: &Args) -> Result<Tally> {
    let mut cargo = place::cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]).env("KIT_DIR", place::kit()).stdin(Stdio::null());
    if args.quick {
        cargo.args(["--exclude", "book-builder"]).env("KIT_QUICK", "1");
    }
    cargo.arg("--").args(&args.names);
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("run cargo")?;
    let mut tally = Tally::default();
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(|reader| reader.split(b'\n')) {
        // A failing test may print anything.
        let line = String::from_utf8_lossy(&line?).into_owned();
        tally.read(&line);
        show(&line);
    }
    let passed = child.wait().context("wait for cargo")?.success();
    tally.finish(passed);
    Ok(tally)
}

/// In the virtual machine.
fn inside(args: &Args, machine: &vm::Options, names: &[String]) -> Result<Tally> {
    let tally = Arc::new(Mutex::new(Tally { suffix: IN_VM, ..Tally::default() }));
    let reader = Arc::clone(&tally);
    let passed = vm::suite::run(machine, names, args.quick, move |line| {
        reader.lock().unwrap_or_else(PoisonError::into_inner).read(line);
        show(line);
    })?;
    let mut tally = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
    tally.finish(passed);
    Ok(tally)
}

/// A reader that is gone does not keep the tests from being counted.
fn show(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What is added to the name of a test that ran there.
const IN_VM: &str = " (vm)";

/// What the test programs have said so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// What is added to each name, to tell where the test ran.
    suffix: &'static str,
    passed: u64,
    /// Their names, as far as the programs tell them.
    passed_names: Vec<String>,
    failed: Vec<String>,
    /// Name and reason.
    skipped: Vec<(String, String)>,
    /// Skipped here, but passed in the virtual machine: name and reason.
    elsewhere: Vec<(String, String)>,
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
            self.skipped.push((format!("{}{}", name.trim(), self.suffix), reason.to_owned()));
        } else if outcome.starts_with("FAILED") {
            self.failed.push(format!("{}{}", name.trim(), self.suffix));
        } else if outcome.starts_with("ok") {
            self.passed_names.push(name.trim().to_owned());
        }
    }

    /// The tests that were skipped for want of this, by their bare names.
    fn skipped_for(&self, need: &str) -> Vec<String> {
        let lacks = |reason: &str| reason.strip_prefix(need).is_some_and(|rest| rest.starts_with(':'));
        let mut names: Vec<String> =
            self.skipped.iter().filter(|(_, reason)| lacks(reason)).map(|(name, _)| bare(name)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Adds what came of the same tests elsewhere. What was skipped in one place and passed in the other is skipped no more.
    fn add(&mut self, other: Self) {
        self.skipped.retain(|(name, reason)| {
            let passed = other.passed_names.contains(&bare(name));
            if passed && !name.ends_with(IN_VM) {
                self.elsewhere.push((name.clone(), reason.clone()));
            }
            !passed
        });
        let passed_here = |name: &str| self.passed_names.contains(&bare(name));
        self.skipped.extend(other.skipped.iter().filter(|(name, _)| !passed_here(name)).cloned());
        self.passed += other.passed;
        self.failed.extend(other.failed);
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
        let ran = |(name, reason): &(String, String)| {
            format!("passed in the virtual machine alone: {name}: {reason}")
        };
        let mut lines: Vec<String> = self.elsewhere.iter().map(ran).collect();
        lines.extend(self.skipped.iter().map(|(name, reason)| format!("skipped: {name}: {reason}")));
        lines.extend(self.failed.iter().map(|name| format!("failed: {name}")));
        let (failed, skipped) = (self.failed.len(), self.skipped.len());
        lines.push(format!("{} passed, {failed} failed, {skipped} skipped", self.passed));
        lines.join("\n")
    }
}

/// The name without the place where it ran.
fn bare(name: &str) -> String {
    name.trim_end_matches(IN_VM).to_owned()
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
    fn what_was_skipped_here_and_passed_there_is_named_and_no_skip() {
        let mut here = tally(
            "test a ... ok\ntest b ... ignored (cgroup_v2: none)\ntest result: ok. 1 passed; 0 failed",
            true,
        );
        let mut there = Tally { suffix: " (vm)", ..Tally::default() };
        for line in [
            "test a ... ignored, x",
            "test b ... ok",
            "test c ... ignored, y",
            "test result: ok. 1 passed; 0 failed",
        ] {
            there.read(line);
        }
        here.add(there);
        assert_eq!(
            here.text(),
            "passed in the virtual machine alone: b: cgroup_v2: none\nskipped: c (vm): y\n2 passed, 0 failed, 1 skipped"
        );
    }

    #[test]
    fn what_needs_systemd_is_known_by_its_reason() {
        let mut here = tally("test s ... ignored (systemd: the first process is not)", true);
        let mut there = Tally { suffix: IN_VM, ..Tally::default() };
        there.read("test s ... ignored (systemd: no)");
        here.add(there);
        assert_eq!((here.skipped_for("systemd"), here.skipped.len()), (vec!["s".to_owned()], 2));
        let mut second = Tally { suffix: IN_VM, ..Tally::default() };
        second.read("test s ... ok");
        here.add(second);
        assert_eq!((here.skipped.len(), here.elsewhere.len()), (0, 1));
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
