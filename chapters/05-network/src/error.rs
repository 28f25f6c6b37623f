//! What can go wrong in this chapter, besides a kernel call.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use step::StepError;

use crate::ports::PublishedPort;
use crate::subnet::Subnet;

/// An error of chapter 5.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed.
    #[error("{0}")]
    Step(#[from] StepError),
    /// The bridge's range belongs to somebody else.
    #[error("the address range {subnet} is in use on this host: {by}")]
    AddressRangeInUse {
        /// The range that was asked for.
        subnet: Subnet,
        /// The route or address that lies in it, as `ip` shows it.
        by: String,
    },
    /// A link of the bridge's name is there, and is not the bridge that was asked for.
    #[error("{name} is there already and is {what}")]
    BridgeInUse {
        /// The bridge's name.
        name: String,
        /// What is different.
        what: String,
    },
    /// Every address of the range is taken.
    #[error("no address is left in {0}: stop a container, or use a larger range")]
    RangeFull(Subnet),
    /// A published port is taken, by a program of the host or by another container.
    #[error("port {port} is in use on this host by {by}")]
    PortInUse {
        /// The port that was asked for.
        port: PublishedPort,
        /// Who has it, as far as can be told.
        by: &'static str,
    },
    /// The host address of a published port is none of this host's.
    #[error("no address {0} on this host to publish a port on")]
    NoSuchAddress(Ipv4Addr),
    /// The lock file cannot be made.
    #[error("cannot lock {path:?}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// The helper that gives an ordinary user a network did not start.
    #[error("{program} gives this container no network: {reason}")]
    Helper {
        /// `pasta` or `slirp4netns`.
        program: &'static str,
        /// Its last words.
        reason: String,
    },
}

impl Error {
    /// The exit status that Docker gives for it: 125, for the command was never run.
    pub fn exit_code(&self) -> u8 {
        125
    }
}
