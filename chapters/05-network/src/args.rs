//! The command line of `05-network`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use cgroups::{Limits, size};
use clap::Parser;
use network::{PublishedPort, Subnet, ports};

/// Run a command in a container with a network of its own
///
/// ROOTFS becomes its root file system, namespaces hide the host from it, a cgroup holds it to the limits. It gets an address on
/// the bridge sampan0, reaches the world in the host's name, and is reached on the ports that -p publishes.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example, after `cargo kit setup`:\n  05-network -p 8080:80 target/kit/rootfs /bin/busybox httpd -f -h /etc &\n  curl 127.0.0.1:8080/os-release"
)]
pub(crate) struct Args {
    /// bridge, none (loopback alone), host (the host's own), or container:PID (that of a process inside a running container)
    #[arg(long, value_name = "MODE", default_value = "bridge")]
    pub(crate) network: Mode,
    /// Lead a port of the host to a port of the container, or a range to a range; may be repeated
    #[arg(short, long, value_name = "[IP:]HOST:CONTAINER[/udp]", value_parser = Published::from_str)]
    publish: Vec<Published>,
    /// The bridge's range of addresses
    #[arg(long, value_name = "RANGE", default_value = "10.88.0.0/16")]
    pub(crate) subnet: Subnet,
    /// A directory to lay over ROOTFS, which is then not written; may be repeated, lowest first
    #[arg(long, value_name = "DIR")]
    pub(crate) layer: Vec<PathBuf>,
    /// Memory, page cache included: 64m, 1.5g
    #[arg(long, short, value_name = "SIZE", value_parser = size::parse)]
    memory: Option<u64>,
    /// Processors' worth of time: 0.5 is half of one
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Processes and threads
    #[arg(long, value_name = "N")]
    pids: Option<i64>,
    /// The host name inside
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Give the command a terminal of its own
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Let the command be pid 1 itself, without an init process
    #[arg(long)]
    pub(crate) no_init: bool,
    /// Tell each step and why it is made, on standard error
    #[arg(long)]
    pub(crate) explain: bool,
    /// The folder that becomes the root file system
    pub(crate) rootfs: PathBuf,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "/bin/sh")]
    pub(crate) command: Vec<OsString>,
}

impl Args {
    /// Refuses what cannot become a root file system, before anything of the host's is changed.
    pub(crate) fn check(&self) -> Result<(), namespaces::Error> {
        match std::iter::once(&self.rootfs).chain(&self.layer).find(|dir| !dir.is_dir()) {
            Some(missing) => Err(namespaces::Error::NoRootfs(missing.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { memory: self.memory, cpus: self.cpus, pids: self.pids, ..Limits::default() }
    }

    pub(crate) fn ports(&self) -> Vec<PublishedPort> {
        self.publish.iter().flat_map(|published| published.0.clone()).collect()
    }
}

/// Whose network the container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Its own, on the bridge.
    Bridge,
    /// Its own, with nothing in it.
    None,
    /// The host's.
    Host,
    /// That of the container of a process.
    Container(i32),
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("container:").map(str::parse)) {
            ("bridge", _) => Ok(Self::Bridge),
            ("none", _) => Ok(Self::None),
            ("host", _) => Ok(Self::Host),
            (_, Some(Ok(pid))) => Ok(Self::Container(pid)),
            _ => Err("one of bridge, none, host, container:PID".to_owned()),
        }
    }
}

/// What one `-p` publishes.
#[derive(Debug, Clone)]
struct Published(Vec<PublishedPort>);

impl FromStr for Published {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ports::parse(text).map(Self)
    }
}
