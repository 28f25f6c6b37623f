//! What to do when a step of this chapter fails. Each was provoked, and is provoked again by the tests.

use nix::errno::Errno;
use step::Hint;

const REFUSED: &str = "04-unionfs.html#what-the-kernel-refuses";

/// The hints of chapter 4.
pub const HINTS: &[Hint] = &[
    Hint {
        step: "fsopen overlay",
        errno: Errno::ENODEV,
        advice: "this kernel has no overlay: `sudo modprobe overlay`",
        page: REFUSED,
    },
    Hint {
        step: "fsopen overlay",
        errno: Errno::EPERM,
        advice: "mounting needs CAP_SYS_ADMIN over the mount namespace: root, or a user namespace of one's own",
        page: "04-unionfs.html#an-ordinary-user",
    },
    Hint {
        step: "fsconfig lowerdir+",
        errno: Errno::ENOENT,
        advice: "a layer is named that is not there: look at the path, as the init process sees it",
        page: REFUSED,
    },
    Hint {
        step: "fsconfig lowerdir+",
        errno: Errno::EACCES,
        advice: "every folder on the way to a layer must let the container's root through (chmod o+x)",
        page: "04-unionfs.html#an-ordinary-user",
    },
    Hint {
        step: "fsconfig lowerdir+",
        errno: Errno::EINVAL,
        advice: "at most 500 layers, each a directory: melt several small ones into one, or build with fewer steps",
        page: REFUSED,
    },
    Hint {
        step: "fsconfig",
        errno: Errno::EINVAL,
        advice: "upper and work must be two directories side by side on one disk file system that is no overlay; an upper that was volatile is not used again: give a new one with --upper",
        page: REFUSED,
    },
    Hint {
        step: "fsconfig",
        errno: Errno::ELOOP,
        advice: "give each directory once, and none that lies inside another of them",
        page: REFUSED,
    },
    Hint {
        step: "fsconfig",
        errno: Errno::ESTALE,
        advice: "give the layers with which this --upper was used first, or a new --upper, or leave --index out",
        page: REFUSED,
    },
    Hint {
        step: "fsconfig",
        errno: Errno::EBUSY,
        advice: "a running container writes there (findmnt -t overlay): give another --upper",
        page: REFUSED,
    },
    Hint {
        step: "fsconfig",
        errno: Errno::EPERM,
        advice: "in a user namespace overlay needs kernel 5.11 and userxattr: run it as root",
        page: "04-unionfs.html#an-ordinary-user",
    },
    Hint {
        step: "mount overlay",
        errno: Errno::EINVAL,
        advice: "upper and work must be two directories side by side on one disk file system that is no overlay; `dmesg | tail -1` has the kernel's reason",
        page: REFUSED,
    },
    Hint {
        step: "mount overlay",
        errno: Errno::ELOOP,
        advice: "give each directory once, and none that lies inside another of them",
        page: REFUSED,
    },
    Hint {
        step: "mount overlay",
        errno: Errno::ESTALE,
        advice: "give the layers with which this --upper was used first, or a new --upper, or leave --index out",
        page: REFUSED,
    },
    Hint {
        step: "mount overlay",
        errno: Errno::EBUSY,
        advice: "a running container writes there (findmnt -t overlay): give another --upper",
        page: REFUSED,
    },
    Hint {
        step: "mount overlay",
        errno: Errno::EPERM,
        advice: "in a user namespace overlay needs kernel 5.11 and userxattr: run it as root",
        page: "04-unionfs.html#an-ordinary-user",
    },
    Hint {
        step: "fsetxattr",
        errno: Errno::EOPNOTSUPP,
        advice: "this file system keeps no such attributes (tmpfs does from kernel 6.6): set TMPDIR to a disk",
        page: REFUSED,
    },
    Hint {
        step: "mknodat",
        errno: Errno::EPERM,
        advice: "an ordinary user may make whiteouts from kernel 5.8 on: run it as root",
        page: "04-unionfs.html#an-ordinary-user",
    },
    Hint {
        step: "mount_setattr MOUNT_ATTR_IDMAP",
        errno: Errno::EINVAL,
        advice: "the file system of a layer, or this kernel (before 5.19), cannot show its files under other ids: run it with --share user",
        page: "04-unionfs.html#whose-files",
    },
];
