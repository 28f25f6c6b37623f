//! What to do when a step of this chapter fails.

use nix::errno::Errno;
use step::Hint;

/// The hints of chapter 3.
pub const HINTS: &[Hint] = &[
    Hint {
        step: "write cgroup.subtree_control",
        errno: Errno::ENOENT,
        advice: "the controller is not delegated this far down: `cat cgroup.controllers` in that directory lists those that are",
        page: "03-cgroups.html#an-ordinary-user",
    },
    Hint {
        step: "write io.max",
        errno: Errno::ENODEV,
        advice: "the limit belongs to a whole disk and not to a partition: `lsblk` shows both",
        page: "03-cgroups.html#the-limits",
    },
    Hint {
        step: "write blkio.throttle.read_bps_device",
        errno: Errno::ENODEV,
        advice: "the limit belongs to a whole disk and not to a partition: `lsblk` shows both",
        page: "03-cgroups.html#the-limits",
    },
    Hint {
        step: "write blkio.throttle.write_bps_device",
        errno: Errno::ENODEV,
        advice: "the limit belongs to a whole disk and not to a partition: `lsblk` shows both",
        page: "03-cgroups.html#the-limits",
    },
    Hint {
        step: "write cpu.cfs_quota_us",
        errno: Errno::EINVAL,
        advice: "the quota is below 1 ms, or above that of the cgroup around it",
        page: "03-cgroups.html#the-limits",
    },
    Hint {
        step: "mkdir",
        errno: Errno::EROFS,
        advice: "cgroups are mounted read-only here, as inside a container: run it on the host",
        page: "03-cgroups.html#where-they-are",
    },
    Hint {
        step: "mkdir",
        errno: Errno::EEXIST,
        advice: "a container before this one was killed and left its cgroup: `cargo kit clean` removes it",
        page: "03-cgroups.html#the-end",
    },
    Hint {
        step: "fork",
        errno: Errno::EAGAIN,
        advice: "the limit on tasks is reached before the command runs: the init process is one too, so --pids 2 is the least, or 1 with --no-init",
        page: "03-cgroups.html#the-limits",
    },
];
