//! A veth pair: a cable whose two ends are links.
//!
//! What is sent into one end comes out of the other. One end stays on the host, as a port of the bridge; the other is the
//! container's `eth0`.
//!
//! The usual way is to make both ends on the host and to move one. Moving a link between namespaces makes the kernel wait until
//! nobody can still be using it in the old one: 35 ms. A message can say of the *peer* that it is to be born in another namespace
//! (`IFLA_NET_NS_PID` among the peer's own attributes), and there is nothing to wait for: 3 ms.
//!
//! For the same reason no end is ever removed: the kernel removes both with the container's namespace, behind everybody's back.
//!
//! What the kernel requires: 1. `CAP_NET_ADMIN` over both namespaces; 2. a name of at most 15 bytes; 3. no other link of the
//! name; 4. an alias, the mode in which IPv6 addresses are made, and what is special about the bridge's port, in a second message:
//! the first ignores them.
//!
//! See veth(4), rtnetlink(7).

use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::address::{alias, alias_at_the_end, hardware_address};
use crate::inside;
use crate::netlink::Request;

/// The name of the host's end: the address in it, so that the kernel itself refuses a second link of one address.
pub fn host_name(address: Ipv4Addr) -> String {
    format!("sampan{:08x}", u32::from(address))
}

/// The messages that lay the cable: the container's end in the network namespace of `pid`, the host's end on the bridge, up.
// ANCHOR: veth
pub(crate) fn create(address: Ipv4Addr, bridge: u32, pid: u32, owner: &str) -> [Request; 2] {
    let host = host_name(address);
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName(inside::NAME.to_owned()));
    peer.attributes.push(LinkAttribute::NetNsPid(pid));
    peer.attributes.push(LinkAttribute::Address(hardware_address(address)));
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(host.clone()));
    link.attributes.push(LinkAttribute::Controller(bridge));
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    [
        Request::route(
            "RTM_NEWLINK",
            format!("{host} type veth peer name {} netns {pid}", inside::NAME),
            "a cable between bridge and container; its far end is born inside, which spares moving it",
            RouteNetlinkMessage::NewLink(link),
            NLM_F_CREATE | NLM_F_EXCL,
        ),
        set(&host, &alias(address, owner), true, "the alias is the register of addresses"),
    ]
}
// ANCHOR_END: veth

/// The message that says of a link that its container is at its end.
pub(crate) fn mark_end(name: &str, address: Ipv4Addr) -> Request {
    let mut link = LinkMessage::default();
    let alias = alias_at_the_end(address);
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link.attributes.push(LinkAttribute::IfAlias(alias.clone()));
    let operands = format!("{name} alias {alias:?}");
    let why = "nobody's any more; the kernel removes it with the container's namespace";
    Request::route("RTM_SETLINK", operands, why, RouteNetlinkMessage::SetLink(link), 0)
}

/// Sets the alias, leaves the link without IPv6, which it would announce to its neighbours at once, and switches it on. A port of
/// a bridge may also send back where it came from (*hairpin*): a container that asks for its own published port asks itself.
pub(crate) fn set(name: &str, alias: &str, hairpin: bool, why: &'static str) -> Request {
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    link.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![
        AfSpecInet6::AddrGenMode(In6AddrGenMode::None),
    ])]));
    if hairpin {
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
        ]));
    }
    let port = if hairpin { " hairpin on" } else { "" };
    let operands = format!("{name} up alias {alias:?} addrgenmode none{port}");
    // Without NLM_F_CREATE it changes a link that is there. RTM_SETLINK would pass over the port's data.
    Request::route("RTM_NEWLINK", operands, why, RouteNetlinkMessage::NewLink(link), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_end_is_named_by_its_address_and_fits() {
        assert_eq!(host_name(Ipv4Addr::new(10, 88, 0, 2)), "sampan0a580002");
        assert!(host_name(Ipv4Addr::BROADCAST).len() <= 15);
    }

    #[test]
    fn the_peer_carries_its_namespace_inside_its_own_attributes() {
        let [make, _] = create(Ipv4Addr::new(10, 88, 0, 2), 7, 4711, "4711");
        // IFLA_NET_NS_PID is 19; it stands behind the peer's name, and nowhere in front of it.
        let pid = [&[8, 0, 19, 0][..], &4711u32.to_ne_bytes()].concat();
        let at = |part: &[u8]| make.bytes.windows(part.len()).position(|window| window == part);
        assert!(at(&pid).unwrap() > at(b"eth0\0").unwrap());
        assert_eq!(make.bytes.windows(8).filter(|window| *window == pid).count(), 1);
    }
}
