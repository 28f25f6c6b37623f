//! `cargo kit bench start`: from nothing to `true` in a container, and back to nothing.
//!
//! Order: build everything -> for each case a place of its own ([`super::place`]), in which all contestants run it in turn -> memory
//! -> table, and what else is asked for.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use super::bundle::Bundles;
use super::contestant::{self, Contestant};
use super::result::{Machine, Report, Row};
use super::{measure, memory, place};
use crate::{place as kit, setup};

/// Measure how long a container takes, from nothing to `true` and back
///
/// Each runtime that is installed runs the same bundle, in turn with the others and with the floor: a C program of the system
/// calls alone. Needs root and a C compiler, and some minutes in which nothing else should run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo kit bench start --rounds 10")]
pub(crate) struct Args {
    /// How often each runs, one at a time
    #[arg(long, default_value_t = 40, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Leave out what runs 20 and 100 at once
    #[arg(long)]
    single: bool,
    /// The results as JSON, in place of the table
    #[arg(long)]
    json: bool,
    /// Also write the chart and the table that the book shows
    #[arg(long)]
    book: bool,
    /// Do not run Cargo: take sampan-runtime as it lies beside this program
    #[arg(long)]
    built: bool,
}

/// One thing that is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) cgroups: bool,
    pub(crate) network: bool,
    pub(crate) seccomp: bool,
    /// How many containers are started together.
    pub(crate) at_once: usize,
    pub(crate) what: What,
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A whole container's life.
    Run,
    /// One more process in a container that runs already.
    Exec,
}

const PLAIN: Case = Case {
    name: "runc's default",
    cgroups: true,
    network: true,
    seccomp: false,
    at_once: 1,
    what: What::Run,
};

pub(crate) const CASES: [Case; 7] = [
    PLAIN,
    Case { name: "with a seccomp filter", seccomp: true, ..PLAIN },
    Case { name: "without cgroups", cgroups: false, ..PLAIN },
    Case { name: "without a network namespace", network: false, ..PLAIN },
    Case { name: "exec", what: What::Exec, ..PLAIN },
    Case { name: "20 at once", at_once: 20, ..PLAIN },
    Case { name: "100 at once", at_once: 100, ..PLAIN },
];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can measure this: `runc` and the floor need it. Try: sudo -E cargo kit bench start");
    }
    setup::make(&setup::Args { built: args.built, ..setup::Args::default() })?;
    let sampan = program("sampan-runtime", args.built)?;
    let bundles = Bundles::new(&sampan)?;
    let contestants = contestant::find(floor()?, sampan);
    let measured = everything(args, &contestants, &bundles);
    bundles.remove()?;
    let (rows, memory) = measured?;
    let report = Report { machine: Machine::this(), rows, memory };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.text());
    }
    if args.book {
        write_book("start", &report.markdown(), &report.chart())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The chart, and the table between two marks in the page.
pub(super) fn write_book(bench: &str, table: &str, chart: &str) -> Result<()> {
    let mark = format!("<!-- table: cargo kit bench {bench} --book -->\n");
    let end = "<!-- end of table -->\n";
    let book = kit::repository().join("book/src");
    let page = book.join("bench.md");
    let text = fs::read_to_string(&page).with_context(|| format!("read {}", page.display()))?;
    let marked = text.split_once(&mark).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = marked.with_context(|| format!("{} has no marks for the table", page.display()))?;
    let text = format!("{before}{mark}\n{table}\n{end}{after}");
    let picture = book.join(format!("img/bench-{bench}.svg"));
    for (path, text) in [(page, text.as_str()), (picture, chart)] {
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn everything(
    args: &Args,
    contestants: &[Contestant],
    bundles: &Bundles,
) -> Result<(Vec<Row>, Vec<memory::Memory>)> {
    let mut rows = Vec::new();
    for case in CASES.iter().filter(|case| case.at_once == 1 || !args.single) {
        eprintln!("{} ...", case.name);
        rows.extend(measured(case, args.rounds, contestants, bundles)?);
    }
    eprintln!("memory ...");
    Ok((rows, place::inside(true, || memory::measure(contestants, bundles))?))
}

/// Runs one case, everybody in turn.
fn measured(case: &Case, rounds: u32, contestants: &[Contestant], bundles: &Bundles) -> Result<Vec<Row>> {
    // Many at once take long, and are a mean in themselves.
    let rounds = if case.at_once == 1 { rounds } else { rounds.div_ceil(8) };
    place::inside(case.cgroups, || match case.what {
        What::Run => measure::run(case, rounds, contestants, bundles),
        What::Exec => measure::exec(case, rounds, contestants, bundles),
    })
}

/// The release build: nobody measures a debug build, but a test that this program works.
pub(super) fn program(name: &str, built: bool) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let folder = own.parent().context("this program lies nowhere")?;
    if built {
        return Ok(folder.join(name));
    }
    let status = kit::cargo()
        .args(["build", "--release", "--quiet", "--package", name])
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("cargo build --release failed");
    }
    let target = folder.parent().context("this program lies in no target folder")?;
    Ok(target.join("release").join(name))
}

/// The floor, compiled.
pub(super) fn floor() -> Result<PathBuf> {
    let folder = kit::kit().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let program = folder.join("floor");
    let status = Command::new("cc")
        .args(["-O2", "-static", "-o"])
        .arg(&program)
        .arg(kit::repository().join("tests/floor.c"))
        .status()
        .context("run cc, the C compiler")?;
    if !status.success() {
        bail!("cc cannot compile tests/floor.c: a static C library is needed (Debian: libc6-dev)");
    }
    Ok(program)
}
