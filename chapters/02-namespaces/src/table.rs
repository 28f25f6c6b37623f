//! The table of namespaces: the host's inode beside the container's.

use std::fmt;

use nix::unistd::Pid;

use crate::Kind;

/// The inodes of two processes' namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Kind, this process's inode, the other's; none where it may not be read.
    pub rows: Vec<(Kind, Option<u64>, Option<u64>)>,
}

impl Table {
    /// This process beside process `pid`.
    pub fn beside(pid: Pid) -> Self {
        let _ = pid;
        unimplemented!()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        unimplemented!()
    }
}
