//! The descriptors that this process was started with.

#![allow(unsafe_code)]

use std::fs;
use std::os::fd::BorrowedFd;

use nix::fcntl::{FcntlArg, fcntl};
use serde::Serialize;

/// Beyond what anybody opens by accident.
const HIGHEST: i32 = 4096;

/// An open descriptor.
#[derive(Clone, Serialize)]
pub(crate) struct Descriptor {
    number: i32,
    /// What `/proc/self/fd/N` points to; none without a `/proc`.
    target: Option<String>,
}

/// Asks for each number, not `/proc/self/fd`: reading that opens one more, and there may be no `/proc`.
pub(crate) fn open() -> Vec<Descriptor> {
    (0..HIGHEST)
        .filter(|&number| {
            // SAFETY: the descriptor need not be open: F_GETFD only looks it up, and `borrowed` ends with this closure.
            let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl(borrowed, FcntlArg::F_GETFD).is_ok()
        })
        .map(|number| Descriptor {
            number,
            target: fs::read_link(format!("/proc/self/fd/{number}"))
                .ok()
                .map(|target| target.display().to_string()),
        })
        .collect()
}
