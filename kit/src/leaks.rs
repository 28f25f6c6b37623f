//! `cargo kit leaks`: what the kit or the engine made on this machine and nobody uses any more.
//!
//! Everything that is made carries the name `sampan` and, in its name or beside it, its *owner*: the pid of a chapter's
//! program, or the id of the engine's container, whose shim left its mark. So nothing needs to be written down before it is
//! made, and nothing is forgotten when its maker is killed. What has a living owner is in use; what has none is a leak.
//!
//! | what | its name | its owner |
//! |---|---|---|
//! | process | `container=sampan` in its environment, or a program of ours in a pid namespace | a program of ours above it |
//! | mount | below one of the folders here | the folder's |
//! | cgroup | `sampan/NAME-PID`, `sampan/ID` in any hierarchy | PID, ID |
//! | link | `sampan0`, `sampan` and 8 hexadecimal digits | in its alias: `sampan ADDRESS OWNER` |
//! | nftables table | `ip sampan` | that of the links |
//! | directory | `sampan-PID-XXXXXX` in the folder for temporary files; ID in the engine's run folder | PID, ID |
//! | container of `sampan-runtime` | ID in `/run/sampan-runtime` | the process that its record names |
//!
//! Links and tables are those of this network namespace, mounts those of this mount namespace.
//!
//! In reading order: [`owner`], [`processes`], [`places`] (mounts, cgroups, directories), [`states`], [`network`].

mod network;
mod owner;
mod places;
mod processes;
mod states;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use nix::unistd::geteuid;
use serde::Serialize;

pub(crate) use network::TABLE;

/// List what the kit or the engine left on this machine
///
/// One line each; nothing is printed, and the exit status is 0, where nothing was left.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo kit leaks && echo clean")]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let leaks = find(&Roots::host());
    if args.json {
        println!("{}", serde_json::to_string_pretty(&leaks)?);
    } else {
        leaks.iter().for_each(|leak| println!("{leak}"));
    }
    Ok(if leaks.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The kinds, in the order in which they are removed: a process holds the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Process,
    Mount,
    Cgroup,
    Link,
    Table,
    Directory,
}

/// Something that was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Leak {
    pub(crate) kind: Kind,
    /// A path, a link's or a table's name, a pid.
    pub(crate) name: String,
    /// Why it is one.
    pub(crate) why: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Process => "process",
            Kind::Mount => "mount",
            Kind::Cgroup => "cgroup",
            Kind::Link => "link",
            Kind::Table => "nftables table",
            Kind::Directory => "directory",
        };
        write!(f, "{kind} {} ({})", self.name, self.why)
    }
}

/// Where is looked.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    /// `/proc`.
    pub(crate) proc: PathBuf,
    /// The folders for temporary files.
    pub(crate) temporary: Vec<PathBuf>,
    /// The engine's run folders.
    pub(crate) run: Vec<PathBuf>,
    /// The runtime's state folders.
    pub(crate) states: Vec<PathBuf>,
    /// Those that another engine gave it.
    pub(crate) foreign_states: Vec<PathBuf>,
}

impl Roots {
    /// This machine's. Root looks after every user's.
    pub(crate) fn host() -> Self {
        let mut temporary = vec![std::env::temp_dir(), PathBuf::from("/tmp")];
        temporary.dedup();
        let mut run = vec![PathBuf::from("/run/sampan")];
        run.extend(std::env::var_os("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("sampan")));
        if geteuid().is_root() {
            run.extend(
                places::names(Path::new("/run/user"))
                    .map(|user| Path::new("/run/user").join(user).join("sampan")),
            );
            for folder in &temporary {
                run.extend(
                    places::names(folder)
                        .filter(|name| name.starts_with("sampan-run-"))
                        .map(|name| folder.join(name)),
                );
            }
        } else {
            run.push(PathBuf::from(format!("/tmp/sampan-run-{}", geteuid())));
        }
        run.sort();
        run.dedup();
        let (states, foreign_states) = (states::folders(&run), states::foreign());
        Self { proc: "/proc".into(), temporary, run, states, foreign_states }
    }
}

/// Everything that was left, in the order of removal.
pub(crate) fn find(roots: &Roots) -> Vec<Leak> {
    let mut leaks = processes::find(roots);
    leaks.extend(places::find(roots));
    leaks.extend(states::find(roots));
    leaks.extend(network::find(roots));
    leaks.sort_by_key(|leak| leak.kind);
    leaks
}
