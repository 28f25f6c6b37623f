//! Is it isolated? The probe inside says what it sees, the host's /proc says what is so; a cell is green where both agree.
//!
//! Each row of the table is a pair of claims, one a side, judged apart: a container that shows its process a nice picture is
//! no isolation, and a setting on the host that the process does not feel is none either. Nothing here asks the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// What was asked of each container whose program knows limits.
pub(crate) const MEMORY: u64 = 64 << 20;
pub(crate) const CPUS: f64 = 0.5;
pub(crate) const PIDS: u64 = 32;
pub(crate) const WRITE_RATE: u64 = 1 << 20;
/// How much is tried. More than memory and swap together allow; twice the processes; what takes a second at that rate.
pub(crate) const ALLOCATED: u64 = 256 << 20;
pub(crate) const SPAWNED: u64 = 2 * PIDS;
pub(crate) const WRITTEN: u64 = WRITE_RATE;

/// The probe's report, as far as it is judged.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Seen {
    pub(crate) pid: i32,
    pub(crate) pids: Vec<i32>,
    pub(crate) hostname: String,
    pub(crate) root: Option<String>,
    pub(crate) uid_map: Option<Vec<[u32; 3]>>,
    pub(crate) namespaces: Option<BTreeMap<String, u64>>,
    pub(crate) mounts: Option<Vec<Mount>>,
    pub(crate) capabilities: BTreeMap<String, BTreeSet<String>>,
    pub(crate) seccomp: Option<Seccomp>,
    pub(crate) cgroups: Option<Vec<Cgroup>>,
    pub(crate) interfaces: Vec<Interface>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Mount {
    pub(crate) id: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Seccomp {
    pub(crate) mode: u32,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Cgroup {
    pub(crate) path: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Interface {
    pub(crate) loopback: bool,
    pub(crate) addresses: Vec<String>,
}

/// What the probe inside saw and tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inside {
    pub(crate) seen: Seen,
    /// `allocated`, `refused`, `killed`.
    pub(crate) allocation: Option<String>,
    /// How many processes there could be, and whether the kernel refused one.
    pub(crate) spawned: Option<(u64, bool)>,
    /// How many processors a busy thread got.
    pub(crate) cores: Option<f64>,
    /// How long the write took, in seconds.
    pub(crate) write: Option<f64>,
    /// Whether the change of a file could be read back.
    pub(crate) changed: bool,
    /// Whether the kernel refused a call that the filter names.
    pub(crate) call_refused: bool,
    /// What the listener in the world answered: `NAME ADDRESS:PORT`, the address that it saw.
    pub(crate) answer: Option<String>,
    /// The addresses that connections came from to the probe's own listener.
    pub(crate) listening: bool,
}

/// What the host's /proc says of the probe's process, and what was seen from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outside {
    pub(crate) pid: i32,
    /// The pid in the innermost pid namespace.
    pub(crate) inner_pid: i32,
    pub(crate) root: String,
    pub(crate) uid_map: Vec<[u32; 3]>,
    pub(crate) namespaces: BTreeMap<String, u64>,
    pub(crate) mounts: BTreeSet<u64>,
    /// The sets as numbers of bits.
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) seccomp: u32,
    pub(crate) cgroups: Vec<String>,
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
    /// The limit, and how often it was hit.
    pub(crate) memory: Option<(u64, u64)>,
    pub(crate) pids: Option<(u64, u64)>,
    /// Processors' worth of time, and how often it was used up.
    pub(crate) cpus: Option<(f64, u64)>,
    /// Bytes a second to the device that was written to.
    pub(crate) write_rate: Option<u64>,
    /// Whether the change is seen through the process's root, and whether the original has it too.
    pub(crate) change_seen: bool,
    pub(crate) original_changed: bool,
    /// The address from which the world was asked.
    pub(crate) asked_from: Option<Ipv4Addr>,
    /// What came back from the published port, asked from the world.
    pub(crate) published: Option<String>,
}

/// The host itself: what a container's process must not see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    pub(crate) root: String,
    pub(crate) hostname: String,
    pub(crate) namespaces: BTreeMap<String, u64>,
    pub(crate) mounts: BTreeSet<u64>,
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
}

/// What each side says of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Cell {
    pub(crate) inside: bool,
    pub(crate) outside: bool,
}

impl Cell {
    pub(crate) fn is_green(self) -> bool {
        self.inside && self.outside
    }
}

type Judge = fn(&Inside, &Outside, &Host) -> Cell;

/// The rows: one for each thing that can be isolated.
pub(crate) const ROWS: [(&str, Judge); 19] = [
    ("root directory", root),
    ("processes", processes),
    ("mounts", mounts),
    ("host name", hostname),
    ("IPC", |inside, outside, host| namespace("ipc", inside, outside, host)),
    ("network", network),
    ("users", users),
    ("cgroup view", cgroup_view),
    ("time", |inside, outside, host| namespace("time", inside, outside, host)),
    ("memory limit", memory),
    ("cpu limit", cpu),
    ("pids limit", pids),
    ("io limit", io),
    ("copy-on-write", copy_on_write),
    ("own address", own_address),
    ("NAT", nat),
    ("published port", published),
    ("capabilities", capabilities),
    ("system calls", system_calls),
];

/// A namespace is the process's own where its inode is not the host's; both sides must name the same inode.
fn namespace(kind: &str, inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    let theirs = inside.seen.namespaces.as_ref().and_then(|all| all.get(kind));
    let ours = outside.namespaces.get(kind);
    let hosts = host.namespaces.get(kind);
    let agree = theirs.is_some() && theirs == ours && hosts.is_some();
    Cell { inside: agree && theirs != hosts, outside: agree && ours != hosts }
}

impl Cell {
    /// The same cell, where each side has one more thing to say.
    fn and(self, inside: bool, outside: bool) -> Self {
        Self { inside: self.inside && inside, outside: self.outside && outside }
    }
}

fn root(inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    let theirs = inside.seen.root.as_deref().unwrap_or_default();
    Cell {
        inside: !theirs.is_empty() && theirs != host.root,
        outside: outside.root != host.root && outside.root == theirs,
    }
}

fn processes(inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    namespace("pid", inside, outside, host).and(
        inside.seen.pids.contains(&inside.seen.pid),
        outside.inner_pid == inside.seen.pid && outside.pid != outside.inner_pid,
    )
}

fn mounts(inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    let theirs: BTreeSet<u64> = inside.seen.mounts.iter().flatten().map(|mount| mount.id).collect();
    namespace("mount", inside, outside, host).and(
        !theirs.is_empty() && theirs.is_disjoint(&host.mounts),
        outside.mounts == theirs && outside.mounts.is_disjoint(&host.mounts),
    )
}

fn hostname(inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    let other = inside.seen.hostname != host.hostname && !inside.seen.hostname.is_empty();
    namespace("uts", inside, outside, host).and(other, true)
}

fn network(inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    let theirs = addresses(&inside.seen);
    namespace("network", inside, outside, host)
        .and(theirs.is_disjoint(&host.addresses), outside.addresses.is_disjoint(&host.addresses))
}

/// The IPv4 addresses that the probe has, without loopback's.
fn addresses(seen: &Seen) -> BTreeSet<Ipv4Addr> {
    let others = seen.interfaces.iter().filter(|interface| !interface.loopback);
    let texts = others.flat_map(|interface| &interface.addresses);
    texts.filter_map(|text| text.split('/').next()?.parse().ok()).collect()
}

fn users(inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    // Read from inside, the second column is the number in the reader's parent; the first and the third are the same anywhere.
    let shape = |map: &[[u32; 3]]| map.iter().map(|[inside, _, count]| (*inside, *count)).collect::<Vec<_>>();
    let theirs = inside.seen.uid_map.as_deref().unwrap_or_default();
    let same = !theirs.is_empty() && shape(theirs) == shape(&outside.uid_map);
    namespace("user", inside, outside, host).and(same, same)
}

/// From inside, the own cgroup is the top of the tree.
fn cgroup_view(inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    let theirs = inside.seen.cgroups.as_deref().unwrap_or_default();
    let top = !theirs.is_empty() && theirs.iter().all(|cgroup| cgroup.path == "/");
    namespace("cgroup", inside, outside, host).and(top, outside.cgroups.iter().any(|path| path != "/"))
}

fn memory(inside: &Inside, outside: &Outside, _: &Host) -> Cell {
    Cell {
        inside: matches!(inside.allocation.as_deref(), Some("killed" | "refused")),
        outside: outside.memory.is_some_and(|(limit, hits)| limit == MEMORY && hits > 0),
    }
}

fn cpu(inside: &Inside, outside: &Outside, _: &Host) -> Cell {
    Cell {
        // A period more or less, for the measurement is short.
        inside: inside.cores.is_some_and(|cores| cores < CPUS * 1.4),
        outside: outside.cpus.is_some_and(|(limit, throttled)| (limit - CPUS).abs() < 0.01 && throttled > 0),
    }
}

fn pids(inside: &Inside, outside: &Outside, _: &Host) -> Cell {
    Cell {
        inside: inside.spawned.is_some_and(|(count, refused)| refused && count < PIDS),
        outside: outside.pids.is_some_and(|(limit, hits)| limit == PIDS && hits > 0),
    }
}

fn io(inside: &Inside, outside: &Outside, _: &Host) -> Cell {
    Cell {
        inside: inside.write.is_some_and(|seconds| seconds > 0.7),
        outside: outside.write_rate == Some(WRITE_RATE),
    }
}

fn copy_on_write(inside: &Inside, outside: &Outside, _: &Host) -> Cell {
    Cell { inside: inside.changed, outside: outside.change_seen && !outside.original_changed }
}

fn own_address(inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    let theirs = addresses(&inside.seen);
    Cell {
        inside: !theirs.is_empty() && theirs.is_disjoint(&host.addresses),
        outside: !theirs.is_empty()
            && theirs.is_subset(&outside.addresses)
            && outside.addresses.is_disjoint(&host.addresses),
    }
}

/// The world was reached, and saw another address than the process has: the host's. The answer says which it saw.
fn nat(inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    let own = addresses(&inside.seen);
    let told =
        inside.answer.as_deref().and_then(|answer| answer.split(' ').nth(1)?.split(':').next()?.parse().ok());
    Cell {
        inside: told.is_some_and(|address: Ipv4Addr| !own.is_empty() && !own.contains(&address)),
        outside: outside
            .asked_from
            .is_some_and(|address| host.addresses.contains(&address) && !own.contains(&address)),
    }
}

/// Whoever answered on the host's port is this container: it says its name, and it has one of its own.
fn published(inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    let who = outside.published.as_deref().and_then(|answer| answer.split(' ').next());
    let own = own_address(inside, outside, host).is_green();
    Cell {
        inside: inside.listening && own,
        outside: own && who == Some(inside.seen.hostname.as_str()) && who != Some(""),
    }
}

fn capabilities(inside: &Inside, outside: &Outside, _: &Host) -> Cell {
    const SYS_ADMIN: u32 = 21;
    let set = |name: &str| inside.seen.capabilities.get(name);
    let agree = |name: &str, bits: u64| {
        set(name).is_some_and(|names| names.len() as u64 == u64::from(bits.count_ones()))
    };
    let same = agree("bounding", outside.bounding) && agree("effective", outside.effective);
    let without = |name: &str| set(name).is_some_and(|names| !names.contains("CAP_SYS_ADMIN"));
    Cell {
        inside: same && without("bounding") && without("effective"),
        outside: same && (outside.bounding | outside.effective) & (1 << SYS_ADMIN) == 0,
    }
}

fn system_calls(inside: &Inside, outside: &Outside, _: &Host) -> Cell {
    const FILTER: u32 = 2;
    Cell {
        inside: inside.call_refused
            && inside.seen.seccomp.as_ref().is_some_and(|seccomp| seccomp.mode == FILTER),
        outside: outside.seccomp == FILTER,
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
