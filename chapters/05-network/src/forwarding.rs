//! Let the host pass packets on.
//!
//! A host takes packets that are for itself and drops all others, unless `ip_forward` makes it a router. A container's packets
//! are for others, so it must be 1. It is the host's own setting: it is written only where it is 0, and the user is told; it is
//! not taken back, for somebody else may have come to rely on it.
//!
//! `route_localnet` is set on our own bridge alone: without it the kernel drops every packet from 127.0.0.1 that leaves by
//! another link than `lo`, and `curl 127.0.0.1:8080` on the host could not reach a published port. What it opens in the other
//! direction, the host's 127.0.0.1 for containers, [a rule](crate::nftables) closes again.
//!
//! See ip(7), the kernel's Documentation/networking/ip-sysctl.rst.

use std::fs;
use std::path::{Path, PathBuf};

use step::{StepError, step};

/// Makes the host a router where it is none. Says whether anything was changed.
///
/// # Errors
/// The step: see [`crate::HINTS`].
// ANCHOR: forwarding
pub fn enable() -> Result<bool, StepError> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    let already = fs::read_to_string(path).is_ok_and(|value| value.trim() == "1");
    if !already {
        write(path, "the host must pass packets on between the containers and the world")?;
    }
    Ok(!already)
}
// ANCHOR_END: forwarding

/// Lets packets between 127.0.0.1 and the bridge's containers pass.
///
/// # Errors
/// The step.
pub fn route_loopback(bridge: &str) -> Result<(), StepError> {
    let path = PathBuf::from(format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet"));
    write(&path, "a published port is to be reached on the host's own 127.0.0.1 too")
}

fn write(path: &Path, why: &'static str) -> Result<(), StepError> {
    step("write", format_args!("{} 1", path.display()), why).run(|| fs::write(path, "1"))
}
