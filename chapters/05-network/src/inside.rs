//! The container's side: what the init process does in its own network namespace.
//!
//! A new network namespace holds one link, `lo`, and it is down: not even 127.0.0.1 answers. The other, `eth0`, was put there by the
//! host. What is still missing is the same on every machine: an address on the link, the link up, and a route to everywhere
//! else by way of the bridge.
//!
//! What the kernel requires: 1. the address before the route, for a gateway must be reachable; 2. the link up before the route;
//! 3. links named by their number: that of `lo` is always 1, that of `eth0` is asked for.
//!
//! See rtnetlink(7), network_namespaces(7).

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use step::StepError;

use crate::netlink::{Channel, Request};
use crate::subnet::Subnet;

/// The name of a container's link, as Docker has it.
pub const NAME: &str = "eth0";
const LO: u32 = 1;

/// What the init process must know of its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The container's address.
    pub address: Ipv4Addr,
    /// How many of its bits name the network.
    pub prefix: u8,
    /// The bridge's address, by which everything else is reached.
    pub gateway: Ipv4Addr,
}

/// Sets up `lo` alone: for a container with no network.
///
/// # Errors
/// The step.
pub fn loopback_only() -> Result<(), StepError> {
    Channel::route()?.batch(&[up(LO, "lo", "a new namespace's own 127.0.0.1 is down")])
}

/// Sets up `lo` and `eth0`. The host must have made `eth0` by then.
///
/// # Errors
/// The step; `RTM_GETLINK` with `ENODEV` where there is no `eth0`.
// ANCHOR: configure
pub fn configure(interface: &Interface) -> Result<(), StepError> {
    let mut channel = Channel::route()?;
    let eth0 = index_of(&mut channel, NAME)?;
    let Interface { address, prefix, gateway } = *interface;
    channel.batch(&[
        up(LO, "lo", "a new namespace's own 127.0.0.1 is down"),
        add_address(eth0, NAME, address, prefix, "the address that the host's side has chosen"),
        up(eth0, NAME, "and from now on packets pass"),
        default_route(gateway),
    ])
}
// ANCHOR_END: configure

/// The number of the link of that name.
///
/// # Errors
/// `ENODEV` where there is none.
pub(crate) fn index_of(channel: &mut Channel, name: &str) -> Result<u32, StepError> {
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let found = channel.ask_route("RTM_GETLINK", RouteNetlinkMessage::GetLink(question), false);
    let found = found.map_err(|error| match error.errno() {
        Some(errno) => StepError::new("RTM_GETLINK", name, errno),
        None => error,
    })?;
    match found.first() {
        Some(RouteNetlinkMessage::NewLink(link)) => Ok(link.header.index),
        _ => Err(StepError::new("RTM_GETLINK", name, Errno::ENODEV)),
    }
}

/// Switches a link on.
pub(crate) fn up(index: u32, name: &str, why: &'static str) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    Request::route("RTM_SETLINK", format!("{name} up"), why, RouteNetlinkMessage::SetLink(link), 0)
}

/// Gives a link an address, and by it a route to the other addresses of its network.
pub(crate) fn add_address(
    index: u32,
    name: &str,
    address: Ipv4Addr,
    prefix: u8,
    why: &'static str,
) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
    if let Some(subnet) = Subnet::new(address, prefix) {
        message.attributes.push(AddressAttribute::Broadcast(subnet.broadcast()));
    }
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let operands = format!("{address}/{prefix} dev {name}");
    Request::route("RTM_NEWADDR", operands, why, RouteNetlinkMessage::NewAddress(message), flags)
}

fn default_route(gateway: Ipv4Addr) -> Request {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Boot;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    route.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    let (flags, why) = (NLM_F_CREATE | NLM_F_EXCL, "all other addresses are reached by way of the bridge");
    let operands = format!("default via {gateway}");
    Request::route("RTM_NEWROUTE", operands, why, RouteNetlinkMessage::NewRoute(route), flags)
}
