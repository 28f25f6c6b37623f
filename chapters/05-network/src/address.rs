//! Give each container an address that nobody else has.
//!
//! Who has which address is written down in one place, and that is the kernel: each container's link on the host carries an
//! alias, `sampan 10.88.0.2 4711`, the address and the owner. So there is no file that can disagree with what is really there,
//! and what a killed program leaves is its link, which goes with the container's namespace.
//!
//! Between choosing an address and making the link lies the time in which the container is cloned. For that long the address
//! is *reserved* by an abstract UNIX socket of its name: the kernel lets one process have a name, gives names to each network
//! namespace of its own, and takes them back when the process ends, however it ends.
//!
//! A range is checked against the host's routes and addresses before the first use. A route to a VPN that is shadowed by the
//! bridge's would cut the user off from it.
//!
//! See rtnetlink(7), unix(7) (abstract names), `ip-link`(8) (alias).

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use step::{StepError, step};

use crate::Error;
use crate::netlink::Channel;
use crate::subnet::Subnet;

/// The first word of the alias of every link that this crate makes.
const MARK: &str = "sampan";
/// The owner of a link whose container is at its end: the address stays taken until the kernel has removed the link.
const GONE: &str = "-";

/// A link of the host, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias; empty where it has none.
    pub alias: String,
    /// Whether it is up.
    pub up: bool,
    /// The number of the bridge that it is a port of.
    pub bridge: Option<u32>,
}

impl Link {
    fn from_message(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            alias: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            bridge: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::Controller(index) => link.bridge = Some(*index),
                _ => {}
            }
        }
        link
    }

    /// The address that this link's alias says is taken.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.words()?.0.parse().ok()
    }

    /// Whose link this is, while its container runs.
    pub fn owner(&self) -> Option<&str> {
        self.words().map(|(_, owner)| owner).filter(|owner| *owner != GONE)
    }

    fn words(&self) -> Option<(&str, &str)> {
        self.alias.strip_prefix(MARK)?.strip_prefix(' ')?.split_once(' ')
    }
}

/// The alias of a container's link.
pub fn alias(address: Ipv4Addr, owner: &str) -> String {
    format!("{MARK} {address} {owner}")
}

/// The alias of a link whose container has ended.
pub(crate) fn alias_at_the_end(address: Ipv4Addr) -> String {
    alias(address, GONE)
}

/// The alias of a bridge: its range.
pub(crate) fn bridge_alias(subnet: Subnet) -> String {
    format!("{MARK} {subnet}")
}

/// All links of this network namespace.
///
/// # Errors
/// The kernel's answer.
pub fn links(channel: &mut Channel) -> Result<Vec<Link>, StepError> {
    let mut question = LinkMessage::default();
    // The counters are three quarters of an answer, and nobody here reads them.
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let found = channel.ask_route("RTM_GETLINK", RouteNetlinkMessage::GetLink(question), true)?;
    Ok(found
        .iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(Link::from_message(link)),
            _ => None,
        })
        .collect())
}

/// An address that is ours until this value is dropped.
#[derive(Debug)]
pub struct Reserved {
    /// The address.
    pub address: Ipv4Addr,
    // Held for its name alone.
    _name: UnixListener,
}

/// Reserves the first address of the range that no link has and nobody else has reserved.
///
/// # Errors
/// [`Error::RangeFull`], or the step.
// ANCHOR: allocate
pub fn allocate(subnet: Subnet, bridge: &str, links: &[Link]) -> Result<Reserved, Error> {
    let taken: HashSet<_> = links.iter().filter_map(Link::address).collect();
    for address in subnet.hosts().filter(|address| !taken.contains(address)) {
        let name = format!("{MARK}/{bridge}/{address}");
        let reserved = step(
            "bind",
            format_args!("AF_UNIX @{name}"),
            "the address is ours until the link is there; the kernel gives a name to one process alone",
        )
        .run(|| match UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?) {
            Ok(name) => Ok(Some(Reserved { address, _name: name })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        })?;
        if let Some(reserved) = reserved {
            return Ok(reserved);
        }
    }
    Err(Error::RangeFull(subnet))
}
// ANCHOR_END: allocate

/// Makes sure that no route and no address of the host lies in the range.
///
/// # Errors
/// [`Error::AddressRangeInUse`] with the route or address that does.
// ANCHOR: range
pub fn require_free(channel: &mut Channel, subnet: Subnet) -> Result<(), Error> {
    let mut addresses = AddressMessage::default();
    addresses.header.family = AddressFamily::Inet;
    let mut routes = RouteMessage::default();
    routes.header.address_family = AddressFamily::Inet;
    let mut found = channel.ask_route("RTM_GETADDR", RouteNetlinkMessage::GetAddress(addresses), true)?;
    found.extend(channel.ask_route("RTM_GETROUTE", RouteNetlinkMessage::GetRoute(routes), true)?);
    match found.iter().find_map(|message| claims(message, subnet)) {
        Some(by) => Err(Error::AddressRangeInUse { subnet, by }),
        None => Ok(()),
    }
}
// ANCHOR_END: range

/// Whether the address or route claims a part of the range, and how `ip` would show it.
fn claims(message: &RouteNetlinkMessage, subnet: Subnet) -> Option<String> {
    match message {
        RouteNetlinkMessage::NewAddress(address) => {
            let own = address.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(own)) => Some(*own),
                _ => None,
            })?;
            let range = Subnet::new(own, address.header.prefix_len)?;
            range.overlaps(subnet).then(|| format!("address {own}/{}", range.prefix()))
        }
        // The default route is for all that nobody else claims. The table `local` repeats the addresses.
        RouteNetlinkMessage::NewRoute(route)
            if route.header.destination_prefix_length > 0 && route.header.table != LOCAL_TABLE =>
        {
            let destination = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(destination)) => Some(*destination),
                _ => None,
            })?;
            let range = Subnet::new(destination, route.header.destination_prefix_length)?;
            range.overlaps(subnet).then(|| format!("route {range}"))
        }
        _ => None,
    }
}

const LOCAL_TABLE: u8 = RouteHeader::RT_TABLE_MAIN + 1;

/// The hardware address that belongs to an address: `02` says that no maker gave it, and the rest repeats the address, so that
/// one that is used again needs no neighbour to learn anything.
pub fn hardware_address(address: Ipv4Addr) -> Vec<u8> {
    [&[0x02, 0x53], &address.octets()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(alias: &str) -> Link {
        Link { index: 3, name: "x".into(), alias: alias.into(), up: true, bridge: Some(2) }
    }

    #[test]
    fn an_alias_says_address_and_owner() {
        let address = Ipv4Addr::new(10, 88, 0, 2);
        assert_eq!(link(&alias(address, "4711")).address(), Some(address));
        assert_eq!(link(&alias(address, "4711")).owner(), Some("4711"));
        assert_eq!(link(&alias_at_the_end(address)).owner(), None);
        assert_eq!(link(&alias_at_the_end(address)).address(), Some(address));
        assert_eq!(link("sampan 10.88.0.0/16").owner(), None);
        assert_eq!(link("my uplink").address(), None);
    }

    #[test]
    fn two_reservations_are_never_of_one_address() {
        let subnet: Subnet = "10.254.0.0/29".parse().unwrap();
        let bridge = format!("test-{}", std::process::id());
        let taken = [link("sampan 10.254.0.3 1")];
        let all: Vec<_> = (0..4).map(|_| allocate(subnet, &bridge, &taken).unwrap()).collect();
        let numbers: Vec<_> = all.iter().map(|reserved| reserved.address.octets()[3]).collect();
        assert_eq!(numbers, [2, 4, 5, 6]);
        assert!(matches!(allocate(subnet, &bridge, &taken), Err(Error::RangeFull(_))));
        drop(all);
        assert_eq!(allocate(subnet, &bridge, &taken).unwrap().address.octets()[3], 2);
    }

    #[test]
    fn a_route_or_address_in_the_range_is_found_and_the_default_route_is_not() {
        let subnet: Subnet = "10.88.0.0/16".parse().unwrap();
        let route = |destination: [u8; 4], prefix: u8| {
            let mut route = RouteMessage::default();
            route.header.destination_prefix_length = prefix;
            route.header.table = RouteHeader::RT_TABLE_MAIN;
            route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(destination.into())));
            claims(&RouteNetlinkMessage::NewRoute(route), subnet)
        };
        assert_eq!(route([10, 0, 0, 0], 8).as_deref(), Some("route 10.0.0.0/8"));
        assert_eq!(route([10, 88, 7, 0], 24).as_deref(), Some("route 10.88.7.0/24"));
        assert_eq!(route([10, 89, 0, 0], 16), None);
        assert_eq!(route([0, 0, 0, 0], 0), None);
    }
}
