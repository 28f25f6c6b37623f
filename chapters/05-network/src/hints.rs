//! What to do when a step of this chapter fails.

use nix::errno::Errno;
use step::Hint;

/// The hints of chapter 5.
pub const HINTS: &[Hint] = &[
    Hint {
        step: "open /proc",
        errno: Errno::ENOENT,
        advice: "no such process: give the pid of a process inside the container, as `ps` on the host shows it",
        page: "05-network.html#modes",
    },
    Hint {
        step: "RTM_NEWLINK",
        errno: Errno::EOPNOTSUPP,
        advice: "this kernel has no bridge or no veth: `sudo modprobe bridge veth`, or use --network none",
        page: "05-network.html#the-bridge",
    },
    Hint {
        step: "RTM_NEWLINK",
        errno: Errno::EPERM,
        advice: "a bridge needs CAP_NET_ADMIN on the host: run it as root; an ordinary user gets a network from pasta or slirp4netns",
        page: "05-network.html#an-ordinary-user",
    },
    Hint {
        step: "socket AF_NETLINK",
        errno: Errno::EPROTONOSUPPORT,
        advice: "this kernel has no nftables: `sudo modprobe nf_tables`, or use --network host or none",
        page: "05-network.html#nat",
    },
    Hint {
        step: "NFT_MSG_NEWTABLE",
        errno: Errno::EOPNOTSUPP,
        advice: "this kernel has no nftables for IPv4: `sudo modprobe nf_tables`, or use --network host or none",
        page: "05-network.html#nat",
    },
    Hint {
        step: "NFT_MSG_NEWCHAIN",
        errno: Errno::ENOENT,
        advice: "this kernel has no NAT for nftables: `sudo modprobe nft_chain_nat`, or use --network host or none",
        page: "05-network.html#nat",
    },
    Hint {
        step: "NFT_MSG_NEWRULE",
        errno: Errno::ENOENT,
        advice: "this kernel lacks an expression of nftables: `sudo modprobe -a nft_masq nft_nat nft_fib_ipv4 nft_ct`",
        page: "05-network.html#nat",
    },
    Hint {
        step: "write /proc/sys/net",
        errno: Errno::EROFS,
        advice: "/proc/sys is read-only here, as it is inside a container: run it on the host, or use --network none",
        page: "05-network.html#forwarding",
    },
    Hint {
        step: "write /proc/sys/net",
        errno: Errno::EACCES,
        advice: "the host's network settings are root's: an ordinary user gets a network from pasta or slirp4netns",
        page: "05-network.html#forwarding",
    },
    Hint {
        step: "setns",
        errno: Errno::EPERM,
        advice: "joining a container's network needs CAP_SYS_ADMIN in the user namespace that owns it: be root, or the user who started it",
        page: "05-network.html#modes",
    },
];
