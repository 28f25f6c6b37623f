//! What to do when a step of the runtime fails. A caller appends the chapters' tables: the steps are mostly theirs.

use nix::errno::Errno;
use step::Hint;

/// The runtime's own hints.
pub const HINTS: &[Hint] = &[
    Hint {
        step: "seccomp",
        errno: Errno::EACCES,
        advice: "without CAP_SYS_ADMIN a filter needs process.noNewPrivileges in config.json",
        page: "engine.html#system-calls",
    },
    Hint {
        step: "setrlimit",
        errno: Errno::EPERM,
        advice: "the hard limit of this host is lower: `ulimit -Hn` shows it for open files; ask for less, or raise it as root",
        page: "engine.html#the-process",
    },
    Hint {
        step: "write /proc/self/oom_score_adj",
        errno: Errno::EACCES,
        advice: "only CAP_SYS_RESOURCE may lower it below what the caller has: leave it out",
        page: "engine.html#the-process",
    },
    Hint {
        step: "setgroups",
        errno: Errno::EPERM,
        advice: "additional groups need subordinate group ids: install uidmap and see /etc/subgid",
        page: "engine.html#the-process",
    },
    Hint {
        step: "setresuid",
        errno: Errno::EINVAL,
        advice: "this user id is not mapped into the container: an ordinary user needs subordinate ids, from uidmap and /etc/subuid",
        page: "engine.html#the-process",
    },
    Hint {
        step: "setresgid",
        errno: Errno::EINVAL,
        advice: "this group id is not mapped into the container: an ordinary user needs subordinate ids, from uidmap and /etc/subgid",
        page: "engine.html#the-process",
    },
    Hint {
        step: "sched_setattr",
        errno: Errno::EPERM,
        advice: "a real-time policy or a lower nice value needs CAP_SYS_NICE on the host; and on cgroup v1 the cgroup needs time for it, in cpu.rt_runtime_us (linux.resources.cpu.realtimeRuntime)",
        page: "engine.html#the-process",
    },
    Hint {
        step: "ioprio_set",
        errno: Errno::EPERM,
        advice: "the real-time class needs CAP_SYS_ADMIN or CAP_SYS_NICE on the host: ask for IOPRIO_CLASS_BE",
        page: "engine.html#the-process",
    },
    Hint {
        step: "set_mempolicy",
        errno: Errno::EINVAL,
        advice: "no such node, or the cpuset does not allow it: /sys/devices/system/node/online lists the nodes",
        page: "engine.html#the-process",
    },
    Hint {
        step: "open_tree",
        errno: Errno::EPERM,
        advice: "to show owners under other ids (idmap) takes a right over the file system itself: run it as root, or leave it out",
        page: "engine.html#paths",
    },
    Hint {
        step: "mknod",
        errno: Errno::EEXIST,
        advice: "something else is there already: the image, or another entry of linux.devices, has that name",
        page: "engine.html#paths",
    },
    Hint {
        step: "mount_setattr",
        errno: Errno::ENOSYS,
        advice: "mount_setattr(2) came with Linux 5.12: a newer kernel is needed",
        page: "engine.html#paths",
    },
];
