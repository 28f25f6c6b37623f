//! The table of namespaces: the host's inode beside the container's.
//!
//! Where both inodes are the same, the namespace is shared. See namespaces(7).

use std::fmt;
use std::fs;
use std::io;

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
        let other = pid.to_string();
        let row = |kind| (kind, inode("self", kind).ok(), inode(&other, kind).ok());
        Self { rows: Kind::ALL.into_iter().map(row).collect() }
    }
}

/// The inode of a process's namespace: the link reads `net:[4026531840]`.
pub(crate) fn inode(process: &str, kind: Kind) -> io::Result<u64> {
    let link = fs::read_link(format!("/proc/{process}/ns/{}", kind.proc_name()))?;
    let text = link.to_string_lossy();
    let number = text.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("{text} names no namespace")))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |inode: Option<u64>| inode.map_or_else(|| "?".into(), |inode| inode.to_string());
        writeln!(f, "{:<10}{:<12}container", "namespace", "host")?;
        for &(kind, host, container) in &self.rows {
            let verdict = if host == container { "shared" } else { "its own" };
            writeln!(f, "{kind:<10}{:<12}{:<12}{verdict}", shown(host), shown(container))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_shares_all_namespaces_with_itself() {
        let table = Table::beside(nix::unistd::getpid());
        assert!(table.rows.iter().all(|(_, host, other)| host.is_some() && host == other));
    }

    #[test]
    fn the_table_says_what_is_shared() {
        let table = Table {
            rows: vec![
                (Kind::Network, Some(1), Some(2)),
                (Kind::User, Some(3), Some(3)),
                (Kind::Pid, None, Some(1)),
            ],
        };
        assert_eq!(
            table.to_string(),
            "namespace host        container\nnetwork   1           2           its own\nuser      3           3           shared\npid       ?           1           its own\n"
        );
    }
}
