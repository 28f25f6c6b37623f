//! `cargo kit tour`: every chapter's program and the engine, run for real and told; then what is isolated from which on.
//!
//! The tour stands in a network namespace of its own where root runs it, so that the machine's network is never touched, and in
//! a folder of its own below target/kit, which is removed at its end.
//!
//! In reading order: [`container`] (a container with the probe in it), [`outside`] (what the host's /proc says), [`world`]
//! (somebody to talk to), [`measure`] (both sides of each column), [`judge`] (is it isolated?), [`table`].

mod container;
mod judge;
mod measure;
mod outside;
mod table;
mod world;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use colored::Colorize;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use crate::{doctor, netlink, place, setup};

/// Run every chapter's program and the engine, and show what each isolates
///
/// Sets up all that it needs by itself. As root it stands in a network namespace of its own, so that your network stays as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo kit tour")]
pub(crate) struct Args {
    /// Only the isolation table, as JSON
    #[arg(long)]
    json: bool,
    /// No pauses
    #[arg(long)]
    fast: bool,
    /// Do not run Cargo: take the programs as they lie beside this one
    #[arg(long)]
    built: bool,
}

/// What is shown of one stop: a title, a sentence, and commands.
struct Stop {
    title: &'static str,
    text: &'static str,
    commands: &'static [&'static str],
}

const STOPS: [Stop; 6] = [
    Stop {
        title: "1  chroot: a root directory",
        text: "A folder with another system's files becomes \"/\". All else is still the host's, and root walks out.",
        commands: &[
            "01-chroot target/kit/rootfs /bin/ls /",
            "01-chroot --explain target/kit/rootfs /bin/true",
            "01-chroot target/kit/rootfs /kit/01-escape",
        ],
    },
    Stop {
        title: "2  namespaces: what a process sees",
        text: "One call makes a process with its own processes, mounts, names, users. The escape ends inside.",
        commands: &[
            "02-namespaces --hostname boat target/kit/rootfs /bin/sh -c 'hostname; ps'",
            "02-namespaces target/kit/rootfs /kit/01-escape",
            "02-namespaces target/kit/rootfs /kit/02-escape",
        ],
    },
    Stop {
        title: "3  cgroups: what a process may use",
        text: "The hogs of chapter 2 meet limits, which the kernel counts and enforces.",
        commands: &["03-cgroups --memory 64m --pids 64 target/kit/rootfs /kit/02-escape"],
    },
    Stop {
        title: "4  union file systems: layers",
        text: "Many containers share one folder, and each writes into a layer of its own.",
        commands: &[
            "04-unionfs --layer target/kit/rootfs /bin/sh -c 'rm /etc/os-release; echo new > /etc/new; ls /etc'",
            "ls target/kit/rootfs/etc",
        ],
    },
    Stop {
        title: "5  network: an address of its own",
        text: "A cable to a switch, an address, a route, and rules that translate: by netlink messages alone.",
        commands: &["05-network target/kit/rootfs /bin/sh -c 'ip address; ip route'"],
    },
    Stop {
        title: "6  sampan: the sum of the chapters",
        text: "Images, containers with a life, capabilities and a filter for system calls: the engine, on the same crates.",
        commands: &[
            "sampan import target/kit/busybox.tar busybox:latest",
            "sampan run --rm busybox:latest /bin/echo 'hello world'",
            "sampan run --rm busybox grep -E '^(CapBnd|Seccomp):' /proc/self/status",
        ],
    },
];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !args.json {
        println!("{}\n", "Looking at this machine (cargo kit doctor)".bold());
        doctor::show();
    }
    setup::make(&setup::Args { built: args.built, ..setup::Args::default() })?;
    if geteuid().is_root() {
        // Everything from here on, and nothing that runs beside.
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace for the tour")?;
        netlink::set_up("lo", None).context("set lo up")?;
    }
    let folder = Folder::make()?;
    let outcome = visit(args, &folder.path);
    folder.remove()?;
    outcome
}

fn visit(args: &Args, folder: &Path) -> Result<ExitCode> {
    if !args.json {
        let pause = !args.fast && io::stdout().is_terminal();
        for stop in &STOPS {
            show(stop, folder, pause)?;
        }
        println!("\n{}", "What is isolated".bold());
        println!(
            "Each cell is asked twice: of a probe inside, and of the host's /proc outside. ✓ where both agree that it is,\n· where neither says so, ? where only one does.\n"
        );
    }
    let columns = measure::all(folder)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&table::as_json(&columns))?);
    } else {
        print!("{}", table::text(&columns));
        println!("\nRead on: cargo kit book serve");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(stop: &Stop, folder: &Path, pause: bool) -> Result<()> {
    println!("\n{}\n{}", stop.title.bold(), stop.text);
    for command in stop.commands {
        println!("\n{} {command}", "$".dimmed());
        io::stdout().flush()?;
        // The engine's store is the tour's own.
        let store = "sampan() { command sampan --root \"$TOUR/data\" --run-root \"$TOUR/run\" \"$@\"; }";
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("{store}; {command}")]).env("PATH", path()).env("TOUR", folder);
        let status = shell.current_dir(place::repository()).status();
        let status = status.with_context(|| format!("run {command}"))?;
        // An attack that succeeds says so by its status, and is part of the story. So is what an ordinary user may not do here,
        // which the program has just told.
        if status.code().is_none_or(|code| code > 2) && geteuid().is_root() {
            return Err(anyhow!("{command}: {status}"));
        }
        if pause {
            sleep(Duration::from_millis(1500));
        }
    }
    Ok(())
}

/// The programs first on the path.
fn path() -> std::ffi::OsString {
    let mut path = place::kit().join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

/// The tour's folder, on the disk: what limits the disk's rate cannot be shown in memory.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make() -> Result<Self> {
        let path = place::kit().join("tour");
        let folder = Self { path };
        // Of a tour that was killed.
        folder.clear()?;
        fs::create_dir(&folder.path).with_context(|| format!("make {}", folder.path.display()))?;
        Ok(folder)
    }

    fn clear(&self) -> Result<()> {
        if self.path.exists() {
            let work = || {
                Ok(fs::remove_dir_all(&self.path)
                    .map_err(|error| step::StepError::new("rm", self.path.display(), error))?)
            };
            namespaces::as_root_of_the_files(work)?;
        }
        Ok(())
    }

    fn remove(self) -> Result<()> {
        self.clear()
    }
}
