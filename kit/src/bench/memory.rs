//! Memory: the most that one of the runtime's processes held, and what stays while a container runs.
//!
//! *Peak* is the kernel's own count (`ru_maxrss` of wait4(2)) of the largest process, the container's own among them. It is taken by the
//! floor's small program, for a process that is forked begins with its parent's count. *Resident* is the proportional set size of
//! what `run` leaves beside the container while that runs, out of `smaps_rollup`: pages that are shared are divided.
//!
//! See getrusage(2), proc_pid_smaps(5).

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::bundle::Bundles;
use super::contestant::{Contestant, FLOOR};
use super::start::CASES;

/// One contestant's, in KiB.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) who: &'static str,
    pub(crate) peak: u64,
    pub(crate) resident: u64,
}

/// Measures each once: memory does not vary as time does.
pub(crate) fn measure(contestants: &[Contestant], bundles: &Bundles) -> Result<Vec<Memory>> {
    let floor =
        contestants.iter().find(|contestant| contestant.name == FLOOR).context("there is no floor")?;
    contestants
        .iter()
        .enumerate()
        .map(|(number, contestant)| {
            let peak = peak(floor, contestant, bundles, number)?;
            Ok(Memory { who: contestant.name, peak, resident: resident(contestant, bundles, number)? })
        })
        .collect()
}

fn peak(floor: &Contestant, contestant: &Contestant, bundles: &Bundles, number: usize) -> Result<u64> {
    let slot = bundles.slot(&CASES[0], number, &["true"])?;
    let command = contestant.run(&CASES[0], &slot).context("it cannot run a container")?;
    let command = Contestant::peak(floor.program(), command);
    let output = Command::new(&command[0]).args(&command[1..]).output().context("run the floor")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number =
        text.split_whitespace().next().and_then(|word| word.parse().ok()).filter(|_| output.status.success());
    number.with_context(|| format!("{} failed: {}", contestant.name, String::from_utf8_lossy(&output.stderr)))
}

fn resident(contestant: &Contestant, bundles: &Bundles, number: usize) -> Result<u64> {
    let slot = bundles.slot(&CASES[0], number, &["sleep", "1000"])?;
    let command = contestant.run(&CASES[0], &slot).context("it cannot run a container")?;
    let mut runtime = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("run {}", contestant.name))?;
    let outcome = beside_container(&mut runtime);
    let ended = runtime.wait().context("wait for the runtime")?;
    outcome.with_context(|| format!("{} ({ended})", contestant.name))
}

/// Waits until the container sleeps, counts, and ends it.
fn beside_container(runtime: &mut Child) -> Result<u64> {
    for _ in 0..500 {
        let processes = family(runtime.id());
        let sleeper = processes.iter().copied().find(|&pid| is_sleeper(pid));
        if let Some(sleeper) = sleeper {
            // The runtime may still be about to do away with what it needed for the start.
            std::thread::sleep(Duration::from_millis(200));
            let sum = family(runtime.id()).into_iter().filter(|&pid| !is_sleeper(pid)).map(pss).sum();
            kill(sleeper)?;
            return Ok(sum);
        }
        if runtime.try_wait()?.is_some() {
            bail!("its container did not stay");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // Nothing of a container that never came must stay.
    runtime.kill()?;
    bail!("its container did not come")
}

fn kill(pid: u32) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).context("end the container")
}

/// A process and all that descend from it.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(&pid) = family.get(at) {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        at += 1;
    }
    family
}

fn is_sleeper(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0")
}

fn pss(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}
