//! The command line of `03-cgroups`.

use std::ffi::OsString;
use std::path::PathBuf;

use cgroups::{IoMax, Limits, size};
use clap::{Args, Parser, Subcommand};
use namespaces::Kind;

/// Run a command in a container that may use so much and no more
///
/// ROOTFS becomes its root file system, namespaces hide the host from it, and a cgroup holds it to the limits. What the limits
/// did is told at the end.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example, after `cargo kit setup`:\n  03-cgroups --memory 64m --pids 64 --cpus 0.5 target/kit/rootfs /bin/sh -c 'cat /proc/self/cgroup'"
)]
pub(crate) struct Arguments {
    /// Something to do with a container that runs
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    #[command(flatten)]
    pub(crate) run: Run,
}

/// The limits.
#[derive(Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArguments {
    /// Memory, page cache included: 64m, 1.5g
    #[arg(long, short, value_name = "SIZE", value_parser = size::parse)]
    memory: Option<u64>,
    /// Memory and swap together, -1 for no limit; not given: twice the memory
    #[arg(long, value_name = "SIZE", value_parser = swap, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Processors' worth of time: 0.5 is half of one
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Share of contended processors, 1 to 10000; everybody has 100
    #[arg(long, value_name = "N")]
    cpu_weight: Option<u64>,
    /// The processors to run on: 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset: Option<String>,
    /// Processes and threads
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids: Option<i64>,
    /// Rate of a block device: /dev/vda:rbps=1m,wbps=1m,riops=100,wiops=100
    #[arg(long, value_name = "DEV:LIMITS")]
    io_max: Vec<IoMax>,
    /// Huge pages of one size: 2MB=4m
    #[arg(long, value_name = "PAGE=SIZE", value_parser = huge_pages)]
    hugetlb: Vec<(String, u64)>,
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
    /// Tell each step and why it is made, on standard error
    #[arg(long, global = true)]
    pub(crate) explain: bool,
    /// The folder that becomes the root file system
    #[arg(required = true)]
    rootfs: Option<PathBuf>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "/bin/sh")]
    pub(crate) command: Vec<OsString>,
}

/// What can be done with a container that runs.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Print what a running container uses
    Stats {
        /// The pid of its 03-cgroups, the pid of a process in it, or the name of its cgroup
        container: String,
    },
    /// Change the limits of a running container; those that are not given stay
    Update {
        /// As for stats
        container: String,
        #[command(flatten)]
        limits: LimitArguments,
    },
    /// Stop all its processes where they are
    Freeze {
        /// As for stats
        container: String,
    },
    /// Let them run on
    Thaw {
        /// As for stats
        container: String,
    },
}

impl LimitArguments {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            memory: self.memory,
            memory_swap: self.memory_swap,
            cpus: self.cpus,
            cpu_weight: self.cpu_weight,
            cpuset: self.cpuset.clone(),
            pids: self.pids,
            io_max: self.io_max.clone(),
            hugetlb: self.hugetlb.clone(),
            ..Limits::default()
        }
    }
}

impl Run {
    /// clap has seen to it that there is one.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.rootfs.clone().unwrap_or_default()
    }
}

fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    size::parse(text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn huge_pages(text: &str) -> Result<(String, u64), String> {
    let (page, bytes) = text.split_once('=').ok_or("write the page's size and the limit, as in 2MB=4m")?;
    Ok((page.to_owned(), size::parse(bytes)?))
}
