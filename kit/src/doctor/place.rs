//! What the kit itself needs: a root file system, what to make it of, and room for it.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use serde_json::json;

use super::Finding;
use crate::host::Manager;
use crate::place;
use crate::setup::installed_busybox;

const GIBIBYTE: u64 = 1 << 30;
/// A build of everything, with the tests and the book, and an image or two.
const WANTED: u64 = 4 * GIBIBYTE;
const NEEDED: u64 = GIBIBYTE;

pub(super) fn rootfs() -> Finding {
    let kit = place::kit();
    let shown = place::shown(&kit.join("rootfs"));
    if kit.join("rootfs/bin/busybox").exists() && kit.join("busybox.tar").exists() {
        return Finding::works(shown);
    }
    Finding::missing(format!("{shown} was not made yet"), "cargo kit setup")
}

pub(super) fn busybox() -> Finding {
    let kept = place::kit().join("busybox");
    if let Some(busybox) = Some(kept).filter(|kept| kept.exists()).or_else(installed_busybox) {
        return Finding::works(place::shown(&busybox));
    }
    match Manager::find() {
        Some(Manager::Apt) => Finding::limited(
            "no static one here yet: setup downloads Debian's, without installing it",
            "cargo kit setup",
        ),
        Some(manager) => Finding::missing("no static one here", manager.install(&crate::host::BUSYBOX)),
        None => Finding::missing("no static one here", "cargo kit setup --busybox FILE"),
    }
}

pub(super) fn disk() -> Finding {
    let kit = place::kit();
    let Some(folder) = kit.ancestors().find(|folder| folder.exists()) else {
        return Finding::missing(format!("{} has no folder above it", kit.display()), "cd to the repository");
    };
    let free = statvfs(folder).map_or(0, |data| data.blocks_available() * data.fragment_size());
    let fact =
        format!("{}.{} GiB free in {}", free / GIBIBYTE, free % GIBIBYTE * 10 / GIBIBYTE, mounted(folder));
    let data = json!({ "free": free });
    let advice = "cargo clean   # or make room: 4 GiB are enough for all";
    if free < NEEDED {
        Finding::missing(fact, advice)
    } else if free < WANTED {
        Finding::limited(fact, advice)
    } else {
        Finding::works(fact)
    }
    .with(data)
}

/// No chapter needs it: it shows cgroup version 2 where this machine has version 1.
pub(super) fn virtual_machine() -> Finding {
    let missing = crate::vm::missing();
    if missing.is_empty() {
        return Finding::works("cargo kit vm can boot one, with cgroup version 2 alone");
    }
    let fact = missing.iter().map(|(fact, _)| fact.as_str()).collect::<Vec<_>>().join("; ");
    let mend: Vec<&str> = missing.iter().filter_map(|(_, mend)| mend.as_deref()).collect();
    Finding::limited(fact, mend.join("\n"))
}

fn mounted(folder: &Path) -> String {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).display().to_string()
}
