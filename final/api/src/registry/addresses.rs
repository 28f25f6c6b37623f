//! Under which addresses others reach this machine.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// The addresses of version 4 that others may use: of interfaces that are up, without loopback and without our own bridges.
pub fn of_this_machine() -> Vec<IpAddr> {
    let mut found = Vec::new();
    for interface in getifaddrs().into_iter().flatten() {
        let ours = ["sampan", "docker", "br-", "veth", "podman"];
        let others = interface.flags.contains(InterfaceFlags::IFF_UP)
            && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
            && !ours.iter().any(|prefix| interface.interface_name.starts_with(prefix));
        let address = interface.address.as_ref().and_then(|address| address.as_sockaddr_in());
        if let Some(address) = address.filter(|_| others) {
            found.push(IpAddr::V4(address.ip()));
        }
    }
    found.dedup();
    found
}
