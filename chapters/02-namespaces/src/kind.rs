//! The eight namespaces.
//!
//! Each wraps one kind of what used to be one for the whole machine. A process is in exactly one namespace of each kind, and
//! its links under `/proc/PID/ns` name them: two processes share a namespace where the inode behind the link is the same.
//!
//! See namespaces(7).

use std::fmt;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

use nix::errno::Errno;
use nix::sched::CloneFlags;

/// A kind of namespace, in the words of the OCI runtime specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Process ids: the first process in it is pid 1. See pid_namespaces(7).
    Pid,
    /// Interfaces, routes, ports, firewall. See network_namespaces(7).
    Network,
    /// The mount table. See mount_namespaces(7).
    Mount,
    /// System V IPC and POSIX message queues. See ipc_namespaces(7).
    Ipc,
    /// Host name and NIS domain name. See uts_namespaces(7).
    Uts,
    /// User and group ids, and capabilities. See user_namespaces(7).
    User,
    /// The part of the cgroup tree that is shown as `/`. See cgroup_namespaces(7).
    Cgroup,
    /// The monotonic clock and the time since boot. See time_namespaces(7).
    Time,
}

impl Kind {
    /// All of them, in the order in which the specification lists them.
    pub const ALL: [Self; 8] =
        [Self::Pid, Self::Network, Self::Mount, Self::Ipc, Self::Uts, Self::User, Self::Cgroup, Self::Time];

    /// The flag by which clone3(2), unshare(2) and setns(2) mean this kind.
    pub const fn flag(self) -> CloneFlags {
        match self {
            Self::Pid => CloneFlags::CLONE_NEWPID,
            Self::Network => CloneFlags::CLONE_NEWNET,
            Self::Mount => CloneFlags::CLONE_NEWNS,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
            Self::User => CloneFlags::CLONE_NEWUSER,
            Self::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            // Lies in the byte that clone(2) reads as a signal: clone3, unshare and setns alone know it.
            Self::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
        }
    }

    /// Its link under `/proc/PID/ns`.
    pub const fn proc_name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Mount => "mnt",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// The specification's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Mount => "mount",
            _ => self.proc_name(),
        }
    }

    /// Of which kind the namespace is for which this file stands, a `/proc/PID/ns/*` or what that is bound at. See ioctl_nsfs(2).
    ///
    /// # Errors
    /// `ENOTTY` for any other file.
    pub fn of(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        let flag = crate::syscalls::namespace_type(file)?;
        Self::ALL.into_iter().find(|kind| kind.flag().bits() == flag).ok_or(Errno::EINVAL)
    }

    /// The end of the flag's name: `CLONE_NEWNS` is the oldest, from a time when one kind was thought enough.
    pub(crate) const fn flag_word(self) -> &'static str {
        match self {
            Self::Pid => "PID",
            Self::Network => "NET",
            Self::Mount => "NS",
            Self::Ipc => "IPC",
            Self::Uts => "UTS",
            Self::User => "USER",
            Self::Cgroup => "CGROUP",
            Self::Time => "TIME",
        }
    }

    /// The flags of several kinds in one.
    pub(crate) fn flags(kinds: &[Self]) -> CloneFlags {
        kinds.iter().map(|kind| kind.flag()).collect()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == word || kind.proc_name() == word).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(ToString::to_string).collect();
            format!("the kinds of namespaces are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_both_its_names() {
        assert_eq!("network".parse(), Ok(Kind::Network));
        assert_eq!("net".parse(), Ok(Kind::Network));
        assert!("disk".parse::<Kind>().unwrap_err().contains("pid, network, mount"));
    }

    #[test]
    fn a_file_tells_which_kind_it_stands_for() {
        use std::os::fd::AsFd as _;
        for kind in Kind::ALL {
            let file = std::fs::File::open(format!("/proc/self/ns/{}", kind.proc_name())).unwrap();
            assert_eq!(Kind::of(file.as_fd()), Ok(kind));
        }
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Kind::of(null.as_fd()), Err(Errno::ENOTTY));
    }

    #[test]
    fn the_flags_are_those_of_sched_h() {
        assert_eq!(Kind::flags(&Kind::ALL).bits(), 0x7e02_0080);
    }
}
