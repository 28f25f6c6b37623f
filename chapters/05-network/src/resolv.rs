//! `/etc/resolv.conf` and `/etc/hosts` for a container.
//!
//! Names are looked up by a library inside the container, which asks the servers that its `/etc/resolv.conf` lists. The host's
//! own list would do, but for one thing: many hosts ask a resolver of their own on 127.0.0.53, and 127.0.0.53 inside is the
//! container itself. So loopback servers are left out; systemd-resolved keeps the list of those that it asks in a second file.
//!
//! See resolv.conf(5), hosts(5).

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

/// The text of a container's `/etc/resolv.conf`: the host's, without the servers that only the host can reach.
// ANCHOR: resolv_conf
pub fn resolv_conf(host: &str) -> String {
    let mut kept = String::new();
    for line in host.lines() {
        let server = line.strip_prefix("nameserver").and_then(|rest| {
            // An IPv6 address may name its link: fe80::1%eth0. That link is the host's.
            rest.trim().split('%').next()?.parse::<IpAddr>().ok()
        });
        if !server.is_some_and(|server| server.is_loopback()) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}
// ANCHOR_END: resolv_conf

/// Whether the text names a server at all.
pub fn has_server(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("nameserver"))
}

/// The host's own text: of the two files that it can have the one that names a server other than the host itself.
pub fn host_text() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let usual = read("/etc/resolv.conf");
    if has_server(&resolv_conf(&usual)) {
        return usual;
    }
    let behind = read("/run/systemd/resolve/resolv.conf");
    if has_server(&resolv_conf(&behind)) { behind } else { usual }
}

/// The text of a container's `/etc/hosts`: itself by the names `localhost` and, where it has an address, its host name.
pub fn hosts(hostname: &str, address: Option<Ipv4Addr>) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    if !hostname.is_empty() {
        text.push_str(&format!("{}\t{hostname}\n", address.unwrap_or(Ipv4Addr::LOCALHOST)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_only_the_host_reaches_are_left_out() {
        let host =
            "# by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver ::1\nsearch example.org\n";
        assert_eq!(resolv_conf(host), "# by hand\nnameserver 192.0.2.1\nsearch example.org\n");
        assert!(!has_server(&resolv_conf("nameserver 127.0.0.53\n")));
    }

    #[test]
    fn a_container_knows_its_own_name() {
        let text = hosts("box", Some(Ipv4Addr::new(10, 88, 0, 2)));
        assert!(text.ends_with("10.88.0.2\tbox\n"));
        assert!(hosts("", None).starts_with("127.0.0.1\tlocalhost\n"));
    }
}
