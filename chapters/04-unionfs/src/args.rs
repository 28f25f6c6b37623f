//! The command line of `04-unionfs`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cgroups::{Cgroup, Hierarchies, Limits, size};
use clap::{Args, Parser, Subcommand};
use namespaces::Kind;

/// Run a command over layers that it cannot change
///
/// The layers are shown as one root file system. What the command writes goes into another directory, and every container over
/// the same layers begins with the same files.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Example, after `cargo kit setup`:\n  04-unionfs --layer target/kit/rootfs /bin/sh -c 'rm -r /bin; echo /*'\n  ls target/kit/rootfs"
)]
pub(crate) struct Arguments {
    /// Something to do with what a container wrote
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    #[command(flatten)]
    pub(crate) stack: Stack,
    #[command(flatten)]
    pub(crate) run: Run,
    /// Tell each step and why it is made, on standard error
    #[arg(long, global = true)]
    pub(crate) explain: bool,
}

/// The layers.
#[derive(Args)]
#[command(next_help_heading = "Layers")]
pub(crate) struct Stack {
    /// A directory, or a tar archive with whiteouts; may be repeated, the lowest first
    #[arg(long = "layer", value_name = "DIR_OR_TAR")]
    pub(crate) layers: Vec<PathBuf>,
    /// Where to put what is written, made if it is not there; DIR.work beside it is the kernel's. Not given: a temporary one
    #[arg(long, value_name = "DIR")]
    pub(crate) upper: Option<PathBuf>,
    /// Let the kernel keep an index in DIR.work: hard links stay together, and it refuses DIR with other layers (needs --share user)
    #[arg(long, requires = "upper")]
    pub(crate) index: bool,
}

/// The container.
#[derive(Args)]
#[command(next_help_heading = "Container")]
pub(crate) struct Run {
    /// Leave the process in the host's namespace of this kind: pid, network, ipc, uts, user, cgroup or time; may be repeated
    #[arg(long, value_name = "KIND")]
    pub(crate) share: Vec<Kind>,
    /// Give the command a terminal of its own
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Let the command be pid 1 itself, without an init process
    #[arg(long)]
    pub(crate) no_init: bool,
    /// The host name inside, "sampan" if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Memory, page cache included: 64m, 1.5g
    #[arg(long, short, value_name = "SIZE", value_parser = size::parse)]
    memory: Option<u64>,
    /// Processors' worth of time: 0.5 is half of one
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Processes and threads
    #[arg(long, value_name = "N")]
    pids: Option<i64>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "/bin/sh")]
    pub(crate) command: Vec<OsString>,
}

/// What can be done with an upper directory.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// List what was added (A), modified (C) and deleted (D), as `docker diff` does
    #[command(
        after_help = "Example:\n  04-unionfs --layer target/kit/rootfs --upper /tmp/upper /bin/rm /bin/ls\n  04-unionfs changes --layer target/kit/rootfs --upper /tmp/upper"
    )]
    Changes(Look),
    /// Write the changes to standard output as a layer: a tar archive with whiteouts
    #[command(
        after_help = "Example:\n  04-unionfs diff --layer target/kit/rootfs --upper /tmp/upper >layer.tar"
    )]
    Diff(Look),
}

/// What to look at.
#[derive(Args)]
pub(crate) struct Look {
    /// The layers over which it was written, the lowest first
    #[arg(long = "layer", value_name = "DIR_OR_TAR", required = true)]
    pub(crate) layers: Vec<PathBuf>,
    /// The directory that took what was written
    #[arg(long, value_name = "DIR")]
    pub(crate) upper: PathBuf,
    /// The container was run with --share user, so that the overlay's notes are in trusted. attributes
    #[arg(long)]
    pub(crate) trusted: bool,
}

impl Run {
    /// A cgroup with the limits; none where no limit was given.
    pub(crate) fn cgroup(&self) -> Result<Option<Cgroup>, cgroups::Error> {
        let limits = Limits { memory: self.memory, cpus: self.cpus, pids: self.pids, ..Limits::default() };
        if limits.is_empty() {
            return Ok(None);
        }
        let name = format!("04-unionfs-{}", std::process::id());
        Cgroup::create(&Hierarchies::find(Path::new("/proc/self"))?, &name, &limits).map(Some)
    }
}
