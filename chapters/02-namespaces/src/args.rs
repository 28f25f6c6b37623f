//! The command line of `02-namespaces`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use namespaces::Kind;

/// Run a command in namespaces of its own
///
/// The process sees the tree under ROOTFS as "/", and processes, mounts, host name, network, users, IPC, cgroups and clocks of
/// its own.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Example, after `cargo kit setup`:\n  02-namespaces -t target/kit/rootfs /bin/sh")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
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
    /// Show the inodes of the host's namespaces beside the container's, on standard error
    #[arg(long)]
    pub(crate) table: bool,
    /// Tell each step and why it is made, on standard error
    #[arg(long, global = true)]
    pub(crate) explain: bool,
    /// The folder that becomes the root directory
    #[arg(required = true)]
    pub(crate) rootfs: Option<PathBuf>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "/bin/sh")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Run a command in the namespaces of a running process
    #[command(
        after_help = "Example, while a container runs:\n  02-namespaces join $(pgrep -o sampan-init) /bin/ps"
    )]
    Join {
        /// Give the command a terminal of its own
        #[arg(short = 't', long)]
        tty: bool,
        /// A process inside, by its pid on the host
        pid: i32,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "/bin/sh")]
        command: Vec<OsString>,
    },
}
