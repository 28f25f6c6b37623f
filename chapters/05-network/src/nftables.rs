//! NAT, published ports and two guards, as rules of nftables.
//!
//! ```text
//! table ip sampan {
//!     map published    { type inet_proto . inet_service : ipv4_addr . inet_service }               # -p 8080:80
//!     map published_on { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service }   # -p 127.0.0.1:8080:80
//!     chain prerouting { type nat hook prerouting priority dstnat;     # what comes in, from outside and from containers
//!         fib daddr type local dnat to meta l4proto . ip daddr . th dport map @published_on
//!         fib daddr type local dnat to meta l4proto . th dport map @published }
//!     chain output     { type nat hook output priority dstnat; ... }   # what the host itself sends: the same two rules
//!     chain guard-sampan0   { type filter hook prerouting priority raw;
//!         iifname "sampan0" ip daddr 127.0.0.0/8 drop
//!         iifname "sampan0" ip saddr 127.0.0.0/8 drop }
//!     chain forward-sampan0 { type filter hook forward priority filter;
//!         iifname != "sampan0" oifname "sampan0" ct state ! established,related ct status ! dnat drop }
//!     chain nat-sampan0     { type nat hook postrouting priority srcnat;
//!         ip saddr 10.88.0.0/16 oifname != "sampan0" masquerade
//!         ip saddr 10.88.0.0/16 oifname "sampan0" ct status dnat masquerade
//!         ip saddr 127.0.0.0/8 oifname "sampan0" masquerade }
//! }
//! ```
//!
//! A container publishes its ports as *elements of a map*, so that a hundred containers make no rule more than one. The rules of a
//! network are in chains of its own, so that it goes without touching another's.
//!
//! The order in which a packet meets chains: guard (before connection tracking), prerouting, the choice of a route, forward, nat.
//! Of a connection only the first packet meets the chains of type nat; connection tracking repeats what they decided, backwards for
//! the answers.
//!
//! What it cannot do: an `accept` here does not overrule a `drop` elsewhere. Where another firewall drops forwarded packets (as
//! Docker's does), that firewall must be told to let `sampan0` through.
//!
//! See nft(8).

use std::net::Ipv4Addr;

use step::StepError;

use crate::netlink::{Channel, Request, half, pieces};
use crate::nft_expression::{Address, Expressions, Side, key, value};
use crate::nft_message::{APPEND, Attributes, CREATE, DUMP, Kind, change, message};
use crate::ports::PublishedPort;
use crate::subnet::Subnet;

/// The one table in which everything lies.
pub const TABLE: &str = "sampan";
const PUBLISHED: &str = "published";
const PUBLISHED_ON: &str = "published_on";
const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

/// Where a base chain is hooked in: type, hook, priority.
struct Hook(&'static str, u32, i32);

const PREROUTING: Hook = Hook("nat", 0, -100);
const OUTPUT: Hook = Hook("nat", 3, -100);
const GUARD: Hook = Hook("filter", 0, -300);
const FORWARD: Hook = Hook("filter", 2, 0);
const POSTROUTING: Hook = Hook("nat", 4, 100);

/// The changes that make the table and the chains of one network. They can be repeated: each chain is emptied before it is
/// filled.
// ANCHOR: rules
pub(crate) fn network(bridge: &str, subnet: Subnet) -> Vec<Request> {
    let mut changes =
        vec![table(Kind::NewTable, "everything of ours lies in one table, and nothing else does")];
    changes.push(map(PUBLISHED, &[PROTOCOL, PORT]));
    changes.push(map(PUBLISHED_ON, &[PROTOCOL, ADDRESS, PORT]));
    for (name, hook) in [("prerouting", PREROUTING), ("output", OUTPUT)] {
        chain(
            &mut changes,
            name,
            &hook,
            "published ports lead to containers",
            vec![
                rule().local_destination().destination_from_map(PUBLISHED_ON, true),
                rule().local_destination().destination_from_map(PUBLISHED, false),
            ],
        );
    }
    let loopback = Subnet::new(LOOPBACK.0, LOOPBACK.1).unwrap_or(subnet);
    chain(
        &mut changes,
        &format!("guard-{bridge}"),
        &GUARD,
        "the host's 127.0.0.1 stays the host's",
        vec![
            rule().link(Side::In, true, bridge).address_in(Address::Destination, loopback).drop(),
            rule().link(Side::In, true, bridge).address_in(Address::Source, loopback).drop(),
        ],
    );
    chain(
        &mut changes,
        &format!("forward-{bridge}"),
        &FORWARD,
        "from outside, published ports and answers only",
        vec![
            rule()
                .link(Side::In, false, bridge)
                .link(Side::Out, true, bridge)
                .answer(false)
                .destination_rewritten(false)
                .drop(),
        ],
    );
    chain(
        &mut changes,
        &format!("nat-{bridge}"),
        &POSTROUTING,
        "the world answers to the host's address",
        vec![
            rule().address_in(Address::Source, subnet).link(Side::Out, false, bridge).masquerade(),
            // To a neighbour by a published port: he would answer straight to the sender, who asked the host and not him.
            rule()
                .address_in(Address::Source, subnet)
                .link(Side::Out, true, bridge)
                .destination_rewritten(true)
                .masquerade(),
            rule().address_in(Address::Source, loopback).link(Side::Out, true, bridge).masquerade(),
        ],
    );
    changes
}
// ANCHOR_END: rules

fn rule() -> Expressions {
    Expressions::default()
}

/// The changes that remove one network's chains, or the table with the last network.
pub(crate) fn remove_network(bridge: &str, last: bool) -> Vec<Request> {
    if last {
        return vec![table(Kind::DelTable, "the last network is gone")];
    }
    let names = ["guard", "forward", "nat"].map(|kind| format!("{kind}-{bridge}"));
    let removed = names.iter().map(|name| {
        change(Kind::DelChain, 0, format!("ip {TABLE} {name}"), "the network is gone", &chain_named(name))
    });
    removed.collect()
}

/// Whether the chains of this network are there.
///
/// # Errors
/// What the kernel answered, other than that there are none.
pub(crate) fn is_there(channel: &mut Channel, bridge: &str) -> Result<bool, StepError> {
    let question = message(Kind::GetChain, 0, &chain_named(&format!("nat-{bridge}")));
    match channel.ask("NFT_MSG_GETCHAIN", &question) {
        Ok(found) => Ok(!found.is_empty()),
        Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn table(kind: Kind, why: &'static str) -> Request {
    let flags = if kind == Kind::NewTable { CREATE } else { 0 };
    change(kind, flags, format!("ip {TABLE}"), why, &Attributes::default().text(1, TABLE))
}

fn chain_named(name: &str) -> Attributes {
    Attributes::default().text(1, TABLE).text(3, name)
}

fn chain(changes: &mut Vec<Request>, name: &str, hook: &Hook, why: &'static str, rules: Vec<Expressions>) {
    let Hook(kind, number, priority) = *hook;
    let place = Attributes::default().number(1, number).bytes(2, &priority.to_be_bytes());
    let operands = || format!("ip {TABLE} {name}");
    let body = chain_named(name).nest(4, &place).text(7, kind);
    changes.push(change(Kind::NewChain, CREATE, operands(), why, &body));
    let all = Attributes::default().text(1, TABLE).text(2, name);
    changes.push(change(Kind::DelRule, 0, operands(), "empty it, should it have been there", &all));
    for rule in rules {
        let body = all.clone().nest(4, rule.attributes());
        changes.push(change(Kind::NewRule, CREATE | APPEND, operands(), why, &body));
    }
}

/// A part of a map's key: nft's number for the type, which it needs to print it.
type Part = u32;
const ADDRESS: Part = 7;
const PROTOCOL: Part = 12;
const PORT: Part = 13;

fn map(name: &str, parts: &[Part]) -> Request {
    const MAP: u32 = 0x8;
    let joined = |parts: &[Part]| parts.iter().fold(0, |joined, part| joined << 6 | part);
    let length = |parts: &[Part]| u32::try_from(parts.len() * 4).unwrap_or(0);
    let to = [ADDRESS, PORT];
    let body = Attributes::default()
        .text(1, TABLE)
        .text(2, name)
        .number(3, MAP)
        .number(4, joined(parts))
        .number(5, length(parts))
        .number(6, joined(&to))
        .number(7, length(&to))
        // A number of our own within the transaction, which the kernel wants and nobody uses.
        .number(10, length(parts));
    change(
        Kind::NewSet,
        CREATE,
        format!("ip {TABLE} {name}"),
        "published ports are elements of a map: no rule more for a container more",
        &body,
    )
}

/// A published port as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) map: &'static str,
    pub(crate) key: Vec<u8>,
    /// Who published it: kept with the element, as the comment that `nft list` shows.
    pub(crate) owner: String,
}

impl Element {
    pub(crate) fn new(port: &PublishedPort, owner: &str) -> Self {
        let on = (!port.host_ip.is_unspecified()).then_some(port.host_ip);
        let map = if on.is_some() { PUBLISHED_ON } else { PUBLISHED };
        Self { map, key: key(port.protocol.number(), on, port.host_port), owner: owner.to_owned() }
    }
}

/// The changes that publish a container's ports.
// ANCHOR: publish
pub(crate) fn publish(ports: &[PublishedPort], to: Ipv4Addr, owner: &str) -> Vec<Request> {
    // A comment: type 0, its length, the text with its NUL.
    let text = [owner.as_bytes(), b"\0"].concat();
    let comment = [&[0, u8::try_from(text.len()).unwrap_or(0)], &text[..]].concat();
    let items = ports.iter().map(|port| {
        let element = Element::new(port, owner);
        let item = Attributes::default()
            .nest(1, &Attributes::default().bytes(1, &element.key))
            .nest(2, &Attributes::default().bytes(1, &value(to, port.container_port)))
            .bytes(6, &comment);
        (element.map, format!("{port} : {to}:{}", port.container_port), item)
    });
    let why = "who asks the host on this port is led to the container";
    in_maps(Kind::NewSetElem, CREATE, why, &items.collect::<Vec<_>>())
}
// ANCHOR_END: publish

/// The changes that take published ports back.
pub(crate) fn unpublish(elements: &[Element]) -> Vec<Request> {
    let items = elements.iter().map(|element| {
        let item = Attributes::default().nest(1, &Attributes::default().bytes(1, &element.key));
        (element.map, format!("of {}", element.owner), item)
    });
    in_maps(Kind::DelSetElem, 0, "the port is the host's again", &items.collect::<Vec<_>>())
}

/// So many elements go in one message: one for each would fill the socket with answers when somebody publishes a range.
const TOGETHER: usize = 200;

fn in_maps(
    kind: Kind,
    flags: u16,
    why: &'static str,
    items: &[(&'static str, String, Attributes)],
) -> Vec<Request> {
    let mut changes = Vec::new();
    for map in [PUBLISHED, PUBLISHED_ON] {
        let of_map: Vec<_> = items.iter().filter(|item| item.0 == map).collect();
        for chunk in of_map.chunks(TOGETHER) {
            let list = chunk.iter().fold(Attributes::default(), |list, item| list.nest(1, &item.2));
            let body = Attributes::default().text(1, TABLE).text(2, map).nest(3, &list);
            let more = if chunk.len() > 1 { format!(" and {} more", chunk.len() - 1) } else { String::new() };
            changes.push(change(kind, flags, format!("ip {TABLE} {map} {}{more}", chunk[0].1), why, &body));
        }
    }
    changes
}

/// All ports that are published, none where there is no table.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn published(channel: &mut Channel) -> Result<Vec<Element>, StepError> {
    let mut found = Vec::new();
    for map in [PUBLISHED, PUBLISHED_ON] {
        let question = message(Kind::GetSetElem, DUMP, &Attributes::default().text(1, TABLE).text(2, map));
        match channel.ask("NFT_MSG_GETSETELEM", &question) {
            Ok(messages) => {
                for message in &messages {
                    elements(map, message.get(20..).unwrap_or_default(), &mut found);
                }
            }
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn elements(map: &'static str, attributes: &[u8], found: &mut Vec<Element>) {
    let Some(list) = attribute(attributes, 3) else { return };
    for (_, item) in pieces(list, 4) {
        let key = attribute(item, 1).and_then(|key| attribute(key, 1)).unwrap_or_default();
        let comment = attribute(item, 6).and_then(|data| data.get(2..)).unwrap_or_default();
        let owner = String::from_utf8_lossy(comment).trim_end_matches('\0').to_owned();
        found.push(Element { map, key: key.to_vec(), owner });
    }
}

fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    pieces(bytes, 4).find(|(piece, _)| half(piece, 2) & 0x3fff == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_made_and_removed_by_name() {
        let subnet: Subnet = "10.88.0.0/16".parse().unwrap();
        let made: Vec<_> = network("sampan0", subnet).iter().map(|change| change.operands.clone()).collect();
        for chain in ["guard-sampan0", "forward-sampan0", "nat-sampan0", "prerouting", "output"] {
            assert!(made.contains(&format!("ip sampan {chain}")), "{chain}");
        }
        assert_eq!(remove_network("sampan0", false).len(), 3);
        assert_eq!(remove_network("sampan0", true)[0].call, "NFT_MSG_DELTABLE");
    }

    #[test]
    fn a_range_goes_in_few_messages() {
        let ports = crate::ports::parse("8000-8449:8000-8449").unwrap();
        let requests = publish(&ports, Ipv4Addr::new(10, 88, 0, 2), "4711");
        assert_eq!(requests.len(), 3);
        let mut found = Vec::new();
        for request in &requests {
            elements(PUBLISHED, &request.bytes[20..], &mut found);
        }
        assert_eq!(found, ports.iter().map(|port| Element::new(port, "4711")).collect::<Vec<_>>());
    }

    #[test]
    fn an_element_is_read_back_with_its_owner() {
        let port: PublishedPort = "127.0.0.1:8080:80".parse().unwrap();
        let request = &publish(&[port], Ipv4Addr::new(10, 88, 0, 2), "4711")[0];
        let mut found = Vec::new();
        elements(PUBLISHED_ON, &request.bytes[20..], &mut found);
        assert_eq!(found, [Element::new(&port, "4711")]);
    }
}
