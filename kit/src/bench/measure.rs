//! Time from the start of a program to its end, everybody in turn.
//!
//! One round starts each contestant once, or as often together as the case says, and takes the time until all have ended. The
//! first round warms the caches and is not counted.

use std::ffi::OsString;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::bundle::Bundles;
use super::contestant::{Contestant, FLOOR, Slot};
use super::place;
use super::result::Row;
use super::start::Case;

/// Whole containers' lives.
pub(crate) fn run(
    case: &Case,
    rounds: u32,
    contestants: &[Contestant],
    bundles: &Bundles,
) -> Result<Vec<Row>> {
    let slots = slots(case, contestants, bundles)?;
    let mut turns = Vec::new();
    for contestant in contestants {
        let commands: Option<Vec<_>> = slots.iter().map(|slot| contestant.run(case, slot)).collect();
        if let Some(commands) = commands {
            turns.push((contestant.name, commands));
        }
    }
    in_turn(case, rounds, turns)
}

/// One more process in a container that runs; beside it the same program without any container.
pub(crate) fn exec(
    case: &Case,
    rounds: u32,
    contestants: &[Contestant],
    bundles: &Bundles,
) -> Result<Vec<Row>> {
    let (mut turns, mut deletes) = (Vec::new(), Vec::new());
    let mut made = || -> Result<()> {
        for (number, contestant) in contestants.iter().enumerate() {
            let slot = bundles.slot(case, number, &["sleep", "1000"])?;
            if contestant.name == FLOOR {
                turns.push(("fork and exec", vec![vec![slot.rootfs.join("bin/true").into()]]));
                continue;
            }
            let commands = (contestant.run_detached(case, &slot), contestant.exec(case, &slot));
            if let (Some(run), Some(exec)) = commands {
                deletes.extend(contestant.delete(case, &slot));
                together(contestant.name, std::slice::from_ref(&run))?;
                turns.push((contestant.name, vec![exec]));
            }
        }
        Ok(())
    };
    let outcome = made().and_then(|()| in_turn(case, rounds, turns));
    for delete in deletes {
        together("delete", &[delete])?;
    }
    outcome
}

fn in_turn(case: &Case, rounds: u32, turns: Vec<(&'static str, Vec<Vec<OsString>>)>) -> Result<Vec<Row>> {
    let mut samples = vec![Vec::new(); turns.len()];
    for round in 0..=rounds {
        for ((name, commands), samples) in turns.iter().zip(&mut samples) {
            let milliseconds = together(name, commands)?;
            if round > 0 {
                samples.push(milliseconds);
            }
        }
    }
    let rows = turns.into_iter().zip(samples);
    Ok(rows.map(|((name, _), samples)| Row::new(case.name, name, samples)).collect())
}

/// Starts all, waits for all, and gives the milliseconds from the first start to the last end.
fn together(name: &str, commands: &[Vec<OsString>]) -> Result<f64> {
    let mut prepared: Vec<_> = commands.iter().map(|command| quiet(command)).collect();
    let begin = Instant::now();
    let children: Vec<_> =
        prepared.iter_mut().map(|command| command.spawn().with_context(|| format!("run {name}"))).collect();
    let outcomes: Vec<_> =
        children.into_iter().map(|child| child.and_then(|child| end(name, child))).collect();
    let took = begin.elapsed();
    outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(took.as_secs_f64() * 1000.0)
}

fn end(name: &str, mut child: Child) -> Result<()> {
    let status = child.wait().with_context(|| format!("wait for {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status}): try it by itself");
    }
    Ok(())
}

/// Its messages go where ours go; a container's own end does not hold this program's output open.
fn quiet(command: &[OsString]) -> Command {
    let mut prepared = Command::new(&command[0]);
    prepared.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).env_remove("RUST_BACKTRACE");
    prepared
}

/// A slot for each container that runs at a time, with the cgroup that the floor is to make for it.
fn slots(case: &Case, contestants: &[Contestant], bundles: &Bundles) -> Result<Vec<Slot>> {
    let asking = bundles.slot(case, case.at_once, &["cat", "/proc/self/cgroup"])?;
    let folders = if case.cgroups { cgroups(case, contestants, &asking)? } else { Vec::new() };
    (0..case.at_once)
        .map(|number| {
            let mut slot = bundles.slot(case, number, &["true"])?;
            slot.cgroups = folders.iter().map(|folder| folder.join(&slot.id)).collect();
            Ok(slot)
        })
        .collect()
}

/// The hierarchies in which `sampan-runtime` makes a cgroup: it is asked, and the floor does the same work.
fn cgroups(case: &Case, contestants: &[Contestant], slot: &Slot) -> Result<Vec<std::path::PathBuf>> {
    let ours = contestants.iter().find(|contestant| contestant.name == super::contestant::SAMPAN);
    let command = ours.and_then(|ours| ours.run(case, slot)).context("sampan-runtime is not there")?;
    let output = quiet(&command).stdout(Stdio::piped()).output().context("run sampan-runtime")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("sampan-runtime failed: {}", output.status);
    }
    let own = format!("/{}", slot.id);
    let used: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .filter(|(_, path)| *path == own)
        .map(|(controllers, _)| controllers.to_owned())
        .collect();
    let is_used = |hierarchy: &place::Hierarchy| {
        used.iter().any(|names| {
            names.is_empty() && hierarchy.version2
                || !hierarchy.version2
                    && names.split(',').all(|name| hierarchy.options.split(',').any(|option| option == name))
        })
    };
    Ok(place::hierarchies()?.into_iter().filter(is_used).map(|hierarchy| hierarchy.path).collect())
}
