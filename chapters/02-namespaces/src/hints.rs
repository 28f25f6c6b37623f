//! What to do when a step of this chapter fails.

use nix::errno::Errno;
use step::Hint;

const CLONE: &str = "02-namespaces.html#the-clone";
const IDS: &str = "02-namespaces.html#the-id-maps";
const MOUNTS: &str = "02-namespaces.html#the-mounts";
const PIVOT: &str = "02-namespaces.html#the-new-root";
const JOIN: &str = "02-namespaces.html#join";

/// The hints of chapter 2.
pub const HINTS: &[Hint] = &[
    Hint {
        step: "clone3",
        errno: Errno::EPERM,
        advice: "an ordinary user makes namespaces within a user namespace alone: leave out `--share user`; a process in a chroot may make none, and some systems forbid them: `cargo kit doctor` names the sysctl, or run it as root",
        page: CLONE,
    },
    Hint {
        step: "clone3",
        errno: Errno::ENOSPC,
        advice: "a limit on namespaces is reached or 0, or they are nested more than 32 deep: look at /proc/sys/user/max_*_namespaces, as in `sudo sysctl -w user.max_user_namespaces=15000`",
        page: CLONE,
    },
    Hint {
        step: "clone3",
        errno: Errno::EINVAL,
        advice: "this kernel has not all the namespaces: `cargo kit doctor` names the missing one, to leave out by `--share` (time namespaces came with Linux 5.6)",
        page: CLONE,
    },
    Hint {
        step: "clone3",
        errno: Errno::ENOSYS,
        advice: "clone3 came with Linux 5.3, and a seccomp filter of an older container engine forbids it: run it outside that container",
        page: CLONE,
    },
    Hint {
        step: "write uid_map",
        errno: Errno::EPERM,
        advice: "this system lets ordinary users make a user namespace that has no rights: on Ubuntu `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run it as root; root needs CAP_SETUID",
        page: IDS,
    },
    Hint {
        step: "mount_setattr MOUNT_ATTR_IDMAP",
        errno: Errno::EPERM,
        advice: "the rootfs is shown under other ids already, or its file system belongs to another user namespace, as for every ordinary user: copy it to a disk, run it as root, or use `--share user`",
        page: IDS,
    },
    Hint {
        step: "mount",
        errno: Errno::ELOOP,
        advice: "the rootfs has a link where /proc, /sys or /dev is to be, or one that leads to /proc: what confines a container could be led astray by it, so this is refused; do not trust whoever made that rootfs",
        page: MOUNTS,
    },
    Hint {
        step: "mount --make-rprivate",
        errno: Errno::EACCES,
        advice: "a security module forbids mounts in a user namespace: on Ubuntu `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run it as root",
        page: MOUNTS,
    },
    Hint {
        step: "open_tree",
        errno: Errno::EINVAL,
        advice: "something is mounted under the rootfs that may not be shown without it: unmount it, or run it as root",
        page: PIVOT,
    },
    Hint {
        step: "mount proc",
        errno: Errno::EPERM,
        advice: "the host's /proc is covered in part, as in a container of Docker's, and the kernel gives no fuller view: use `--share pid`, or start that container with `--security-opt systempaths=unconfined`",
        page: MOUNTS,
    },
    Hint {
        step: "mount sysfs",
        errno: Errno::EPERM,
        advice: "the host's /sys is covered in part, as in a container of Docker's, and the kernel gives no fuller view: use `--share network`, or run it outside that container",
        page: MOUNTS,
    },
    Hint {
        step: "mount --bind /dev",
        errno: Errno::ENODEV,
        advice: "the host's node has other numbers than were asked for, and in a user namespace no other can be made: ask for the host's, or leave it out",
        page: MOUNTS,
    },
    Hint {
        step: "mount --bind /dev",
        errno: Errno::ENOENT,
        advice: "the host has no such device, and in a user namespace none can be made: leave it out, or run it as root",
        page: MOUNTS,
    },
    Hint {
        step: "mount --bind",
        errno: Errno::EINVAL,
        advice: "something is mounted beneath it that may not be shown without it: bind it with all beneath (`rbind`)",
        page: MOUNTS,
    },
    Hint {
        step: "mount --bind",
        errno: Errno::EPERM,
        advice: "the host has set an attribute on that mount (read-only, nosuid, how access times are kept) that nobody in a user namespace may change: do not ask for another",
        page: MOUNTS,
    },
    Hint {
        step: "mount",
        errno: Errno::EISDIR,
        advice: "a file is mounted on a file alone: name another place, or remove the directory",
        page: MOUNTS,
    },
    Hint {
        step: "mount",
        errno: Errno::EINVAL,
        advice: "the kernel does not take one of the options: its words, if any, stand above",
        page: MOUNTS,
    },
    Hint {
        step: "mount_setattr MOUNT_ATTR_IDMAP",
        errno: Errno::EINVAL,
        advice: "the file system cannot show owners under other ids: those on disks can, and tmpfs since Linux 6.3",
        page: MOUNTS,
    },
    Hint {
        step: "mount",
        errno: Errno::ENODEV,
        advice: "this kernel does not have the file system: `cat /proc/filesystems`",
        page: MOUNTS,
    },
    Hint {
        step: "mount",
        errno: Errno::EACCES,
        advice: "the directory is not in the rootfs, and you may not make it there: make it as the rootfs's owner, or copy the rootfs to yourself",
        page: MOUNTS,
    },
    Hint {
        step: "mount",
        errno: Errno::EROFS,
        advice: "the directory is not in the rootfs, which is read-only: make it where it can be written to",
        page: MOUNTS,
    },
    Hint {
        step: "mount",
        errno: Errno::ENOTDIR,
        advice: "the rootfs has a file where a directory must be",
        page: MOUNTS,
    },
    Hint { step: "pivot_root", errno: Errno::EINVAL, advice: "the reason stands above", page: PIVOT },
    Hint {
        step: "sethostname",
        errno: Errno::EINVAL,
        advice: "a host name has at most 64 bytes",
        page: "02-namespaces.html#the-host-name",
    },
    Hint {
        step: "setns",
        errno: Errno::EPERM,
        advice: "to enter a process's namespaces takes the rights over them: run it as root, or as the user who started the container",
        page: JOIN,
    },
    Hint {
        step: "readlink",
        errno: Errno::EACCES,
        advice: "the process belongs to another user: run it as root, or as the user who started the container",
        page: JOIN,
    },
    Hint {
        step: "open /dev/ptmx",
        errno: Errno::ENOENT,
        advice: "there is no devpts at /dev/pts inside, so no terminal can be made: leave out -t",
        page: "02-namespaces.html#the-terminal",
    },
];
