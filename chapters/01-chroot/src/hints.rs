//! What to do when a step of this chapter fails.

use nix::errno::Errno;
use step::Hint;

/// The hints of chapter 1.
pub const HINTS: &[Hint] = &[
    Hint {
        step: "chroot",
        errno: Errno::EPERM,
        advice: "chroot needs CAP_SYS_CHROOT: run it as root, or as an ordinary user where user namespaces are allowed (cargo kit doctor)",
        page: "01-chroot.html#an-ordinary-user",
    },
    Hint {
        step: "unshare CLONE_NEWUSER",
        errno: Errno::EPERM,
        advice: "a process in a chroot may not make a user namespace, and some systems forbid it to ordinary users: `cargo kit doctor` names the sysctl, or run it as root",
        page: "01-chroot.html#an-ordinary-user",
    },
    Hint {
        step: "unshare CLONE_NEWUSER",
        errno: Errno::ENOSPC,
        advice: "the limit on user namespaces is reached or 0: `sudo sysctl -w user.max_user_namespaces=15000`, or run it as root",
        page: "01-chroot.html#an-ordinary-user",
    },
    Hint {
        step: "write /proc/self/uid_map",
        errno: Errno::EPERM,
        advice: "this system lets ordinary users make a user namespace that has no rights: on Ubuntu `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run it as root",
        page: "01-chroot.html#an-ordinary-user",
    },
    Hint {
        step: "execve",
        errno: Errno::ENOEXEC,
        advice: "a program for another processor, or a script without #!: look with `file` on the host",
        page: "01-chroot.html#the-command",
    },
    Hint {
        step: "execve",
        errno: Errno::EACCES,
        advice: "the file has no x bit, is a directory, or lies on a file system that is mounted noexec",
        page: "01-chroot.html#the-command",
    },
    Hint {
        step: "fchownat",
        errno: Errno::EINVAL,
        advice: "no such user or group among this user's ids: have root lend it more in /etc/subuid and /etc/subgid, or do it as root",
        page: "images.html#where-they-lie",
    },
];
