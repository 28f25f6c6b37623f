//! What chapter 5 needs: links, nftables, forwarding; and, without root, a helper and its device.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use serde_json::json;

use super::Finding;
use crate::host::{self, PASTA, as_root};
use crate::netlink;
use crate::trial::{enter_user_namespace, in_child, told};

const TUN: &str = "/dev/net/tun";

pub(super) fn bridge() -> Finding {
    in_network("a bridge", "modprobe bridge", || netlink::new_link("sampan0", "bridge"))
}

pub(super) fn veth() -> Finding {
    in_network("a veth pair", "modprobe veth", || netlink::new_link("sampan00000000", "veth"))
}

pub(super) fn nftables() -> Finding {
    in_network("a table that masquerades", "modprobe -a nf_tables nft_chain_nat nft_masq", || {
        netlink::new_masquerading_table("sampan")
    })
}

/// Makes something in a network namespace that ends with the trial.
fn in_network(what: &str, module: &str, make: fn() -> nix::Result<()>) -> Finding {
    let outcome = in_child(|| {
        if !geteuid().is_root() {
            enter_user_namespace()?;
        }
        told("unshare network namespace", unshare(CloneFlags::CLONE_NEWNET))?;
        told(&format!("make {what}"), make()).map(|()| "")
    });
    match outcome {
        Ok(_) => Finding::works(format!("{what} can be made")),
        // An ordinary user's container gets its network from a helper, without any of these.
        Err(error) if !geteuid().is_root() => Finding::limited(error, as_root(module)),
        Err(error) => Finding::missing(error, as_root(module)),
    }
}

/// Only this machine's owner should decide that it forwards packets; chapter 5 says so when it turns it on.
pub(super) fn ip_forward() -> Finding {
    let value = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
    let on = value.trim() == "1";
    let data = json!({ "on": on });
    if on || !geteuid().is_root() {
        return Finding::works(if on { "on" } else { "off, and not needed without root" }).with(data);
    }
    let mend = as_root("sysctl -w net.ipv4.ip_forward=1");
    Finding::limited("off: 05-network turns it on, and says so", mend).with(data)
}

/// Distributions have it open to everybody; on a bare machine it can be root's alone.
pub(super) fn tun() -> Finding {
    let mode = fs::metadata(TUN).ok().map(|data| data.permissions().mode() & 0o777);
    let data = json!({ "mode": mode.map(|mode| format!("{mode:04o}")) });
    match mode {
        Some(mode) if mode & 0o006 == 0o006 => Finding::works(format!("open to everybody ({mode:04o})")),
        Some(mode) => Finding::missing_unless_root(
            format!("root's alone ({mode:04o}): pasta and slirp4netns fail for ordinary users"),
            as_root(&format!("chmod 0666 {TUN}")),
        ),
        None => Finding::missing_unless_root("not there", as_root("modprobe tun")),
    }
    .with(data)
}

pub(super) fn rootless_helper() -> Finding {
    match ["pasta", "slirp4netns"].into_iter().find_map(host::program) {
        Some(program) => {
            let data = json!({ "program": Path::new(&program) });
            Finding::works(program.display().to_string()).with(data)
        }
        None => Finding::missing_unless_root(
            "neither is installed: a rootless container has loopback only",
            host::install(&PASTA),
        ),
    }
}
