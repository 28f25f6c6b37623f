//! What to do when a step of the image store fails.

use nix::errno::Errno;
use step::Hint;

/// The hints of the image store.
pub const HINTS: &[Hint] = &[
    Hint {
        step: "mkdir",
        errno: Errno::EACCES,
        advice: "the store belongs to another user: run it as that user, or give a folder of your own by --root",
        page: "images.html#where-they-lie",
    },
    Hint {
        step: "mkdir",
        errno: Errno::EROFS,
        advice: "the store lies on a file system that is mounted read-only: give another folder by --root",
        page: "images.html#where-they-lie",
    },
    Hint {
        step: "write",
        errno: Errno::ENOSPC,
        advice: "the disk is full, and nothing was changed: `df -h` shows it; `sampan rmi` of an unused image frees its layers",
        page: "images.html#where-they-lie",
    },
    Hint {
        step: "setxattr",
        errno: Errno::EOPNOTSUPP,
        advice: "the store's file system keeps no extended attributes, in which whiteouts are written: give a folder on ext4, xfs, btrfs or tmpfs by --root",
        page: "images.html#where-they-lie",
    },
];
