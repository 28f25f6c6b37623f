//! `cargo kit doctor`: can this machine, and this user, run every chapter? And if not, what mends it?
//!
//! One check a function; the [table](CHECKS) says what each is for. A check tries the thing where that is safe, in a child
//! with namespaces of its own ([`crate::trial`]): what a kernel has, a distribution may still forbid.
//!
//! A check ends in one of three ways. ✓: it is there. !: every chapter runs without it, but something less is possible (mostly:
//! what an ordinary user may do, while root asks). ✗: a chapter cannot run as its page says; the chapters are named, and the
//! command that mends it stands below.
//!
//! In reading order: [`kernel`], [`users`], [`cgroups`], [`network`], [`place`].

mod cgroups;
mod kernel;
mod network;
mod place;
mod users;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::Result;
use colored::Colorize;
use nix::unistd::geteuid;
use serde::Serialize;
use serde_json::{Value, json};

use crate::host;

/// Say whether this machine can run every chapter, and what mends it if not
///
/// The exit status is 0 only where all chapters can run. Nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo kit doctor || echo not yet")]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It is there.
    Works,
    /// All chapters run, but something less is possible.
    Limited,
    /// A chapter cannot run as its page says.
    Missing,
}

/// A check's finding.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    state: State,
    /// What was found, in a few words.
    fact: String,
    /// The same for programs.
    data: Value,
    /// The commands that mend it, one a line.
    mend: Option<String>,
}

impl Finding {
    fn works(fact: impl Into<String>) -> Self {
        Self { state: State::Works, fact: fact.into(), data: Value::Null, mend: None }
    }

    fn limited(fact: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { state: State::Limited, mend: Some(mend.into()), ..Self::works(fact) }
    }

    fn missing(fact: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { state: State::Missing, ..Self::limited(fact, mend) }
    }

    /// For what root does without and an ordinary user does not.
    fn missing_unless_root(fact: impl Into<String>, mend: impl Into<String>) -> Self {
        if geteuid().is_root() { Self::limited(fact, mend) } else { Self::missing(fact, mend) }
    }

    fn with(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
}

/// A check, and the chapters that cannot do without what it looks for.
struct Check {
    name: &'static str,
    chapters: &'static [&'static str],
    look: fn() -> Finding,
}

const ALL: &[&str] = &["1", "2", "3", "4", "5", "engine"];
const FROM_2: &[&str] = &["2", "3", "4", "5", "engine"];
const FROM_3: &[&str] = &["3", "engine"];
const FROM_4: &[&str] = &["4", "engine"];
const FROM_5: &[&str] = &["5", "engine"];

const CHECKS: [Check; 28] = [
    Check { name: "kernel", chapters: ALL, look: kernel::version },
    Check { name: "pid namespace", chapters: FROM_2, look: || kernel::namespace("pid") },
    Check { name: "network namespace", chapters: FROM_2, look: || kernel::namespace("net") },
    Check { name: "mount namespace", chapters: FROM_2, look: || kernel::namespace("mnt") },
    Check { name: "ipc namespace", chapters: FROM_2, look: || kernel::namespace("ipc") },
    Check { name: "uts namespace", chapters: FROM_2, look: || kernel::namespace("uts") },
    Check { name: "user namespace", chapters: FROM_2, look: || kernel::namespace("user") },
    Check { name: "cgroup namespace", chapters: FROM_2, look: || kernel::namespace("cgroup") },
    Check { name: "time namespace", chapters: FROM_2, look: || kernel::namespace("time") },
    Check { name: "pivot_root", chapters: FROM_2, look: kernel::pivot_root },
    Check { name: "rootless: user namespace", chapters: ALL, look: users::user_namespace },
    Check { name: "rootless: subordinate ids", chapters: FROM_2, look: users::subordinate_ids },
    Check { name: "rootless: newuidmap", chapters: FROM_2, look: users::newuidmap },
    Check { name: "cgroup hierarchies", chapters: FROM_3, look: cgroups::hierarchies },
    Check { name: "cgroup controllers", chapters: FROM_3, look: cgroups::controllers },
    Check { name: "cgroup for this user", chapters: FROM_3, look: cgroups::writable },
    Check { name: "overlay", chapters: FROM_4, look: kernel::overlay },
    Check { name: "rootless: overlay with userxattr", chapters: FROM_4, look: kernel::overlay_userxattr },
    Check { name: "bridge", chapters: FROM_5, look: network::bridge },
    Check { name: "veth", chapters: FROM_5, look: network::veth },
    Check { name: "nftables", chapters: FROM_5, look: network::nftables },
    Check { name: "ip_forward", chapters: FROM_5, look: network::ip_forward },
    Check { name: "rootless: /dev/net/tun", chapters: FROM_5, look: network::tun },
    Check { name: "rootless: pasta or slirp4netns", chapters: FROM_5, look: network::rootless_helper },
    Check { name: "root file system", chapters: ALL, look: place::rootfs },
    Check { name: "busybox", chapters: ALL, look: place::busybox },
    Check { name: "disk space", chapters: ALL, look: place::disk },
    Check { name: "virtual machine", chapters: &[], look: place::virtual_machine },
];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let findings = examine();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&as_json(&findings))?);
    } else {
        tell(&findings);
    }
    Ok(if is_ready(&findings) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Looks, and tells: how the tour begins.
pub(crate) fn show() {
    tell(&examine());
}

/// Makes all checks, in the order of the table.
fn examine() -> Vec<(&'static Check, Finding)> {
    CHECKS.iter().map(|check| (check, (check.look)())).collect()
}

fn is_ready(findings: &[(&Check, Finding)]) -> bool {
    findings.iter().all(|(_, finding)| finding.state != State::Missing)
}

fn tell(findings: &[(&Check, Finding)]) {
    colored::control::set_override(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let width = findings.iter().map(|(check, _)| check.name.len()).max().unwrap_or(0);
    for (check, finding) in findings {
        let sign = match finding.state {
            State::Works => "✓".green(),
            State::Limited => "!".yellow(),
            State::Missing => "✗".red(),
        };
        println!("{sign} {:width$}  {}", check.name, finding.fact);
        if finding.state == State::Missing {
            println!("  {:width$}  touches {}", "", chapters(check.chapters));
        }
        for line in finding.mend.iter().flat_map(|mend| mend.lines()) {
            println!("  {:width$}  mend: {}", "", line.cyan());
        }
    }
    println!();
    if is_ready(findings) {
        println!("Every chapter can run here, as {}.", host::user_name());
    } else {
        println!("Not every chapter can run here yet: each ✗ says which, and what mends it.");
    }
    colored::control::unset_override();
}

/// `chapters 2 3 and the engine`.
fn chapters(names: &[&str]) -> String {
    let numbers: Vec<&str> = names.iter().copied().filter(|name| *name != "engine").collect();
    let plural = if numbers.len() == 1 { "" } else { "s" };
    let engine = if names.contains(&"engine") { " and the engine" } else { "" };
    format!("chapter{plural} {}{engine}", numbers.join(" "))
}

fn as_json(findings: &[(&Check, Finding)]) -> Value {
    let checks: Vec<Value> = findings
        .iter()
        .map(|(check, finding)| {
            let mut object = json!({ "name": check.name, "chapters": check.chapters });
            if let (Value::Object(object), Ok(Value::Object(more))) =
                (&mut object, serde_json::to_value(finding))
            {
                object.extend(more);
            }
            object
        })
        .collect();
    let runs = |chapter: &str| {
        findings
            .iter()
            .all(|(check, finding)| finding.state != State::Missing || !check.chapters.contains(&chapter))
    };
    let chapters: serde_json::Map<String, Value> =
        ALL.iter().map(|chapter| ((*chapter).to_owned(), json!(runs(chapter)))).collect();
    json!({
        "user": host::user_name(),
        "uid": geteuid().as_raw(),
        "ready": is_ready(findings),
        "chapters": chapters,
        "checks": checks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Check = Check { name: "some", chapters: FROM_4, look: || Finding::works("") };

    #[test]
    fn what_is_missing_stops_its_own_chapters_only_and_a_limit_stops_none() {
        let missing = [(&SOME, Finding::missing("not there", "get it"))];
        let json = as_json(&missing);
        assert_eq!(
            (&json["ready"], &json["chapters"]["4"], &json["chapters"]["5"]),
            (&json!(false), &json!(false), &json!(true))
        );
        assert_eq!(json["checks"][0]["mend"], "get it");
        let limited = [(&SOME, Finding::limited("less", "get it"))];
        assert!(is_ready(&limited));
        assert_eq!(as_json(&limited)["chapters"]["4"], json!(true));
    }

    #[test]
    fn chapters_are_named_as_people_do() {
        assert_eq!(chapters(FROM_5), "chapter 5 and the engine");
        assert_eq!(chapters(&["2", "3"]), "chapters 2 3");
    }
}
