//! The bridge: a switch on the host that all containers of a network are plugged into.
//!
//! A bridge passes frames between the links that are its ports, by the hardware addresses that it has seen behind each. It is also
//! a link of the host's own, and with an address it is the host's place in that network, and the containers' gateway.
//!
//! What the kernel requires: 1. a name of at most 15 bytes, and no other link of it; 2. the address before anybody routes; 3. the
//! bridge up.
//!
//! Order: range free -> link -> alias -> address -> rules -> sysctls -> **up, last**. So a bridge that is up is complete, and one
//! that a killed program left behind half made is not up, and is finished by the next.
//!
//! It goes with the last container. That costs the kernel 30 to 80 ms, in which it waits for everybody who might still look at
//! the link: whoever starts many containers one after another calls [`crate::sweep`] a little later instead.
//!
//! See rtnetlink(7), `ip-link`(8), the kernel's Documentation/networking/bridge.rst.

use std::path::PathBuf;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use crate::address::{self, Link};
use crate::netlink::{Channel, Request};
use crate::nft_message::transaction;
use crate::subnet::Subnet;
use crate::{Error, forwarding, inside, nftables, veth};

/// A network of containers: its bridge and its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The bridge's name, at most 15 bytes; it begins with `sampan`, so that `cargo kit leaks` knows it.
    pub name: String,
    /// The range of addresses. The first is the bridge's own.
    pub subnet: Subnet,
    /// The directory for the lock file.
    pub run: PathBuf,
}

impl Default for BridgeConfig {
    /// `sampan0` with 10.88.0.0/16, and its lock in `/run/sampan`.
    fn default() -> Self {
        let subnet = Subnet::new([10, 88, 0, 0].into(), 16);
        Self {
            name: "sampan0".to_owned(),
            subnet: subnet.unwrap_or_else(|| unreachable!("16 is at most 32")),
            run: PathBuf::from("/run/sampan"),
        }
    }
}

/// A bridge that is up, with its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge {
    /// Its link's number.
    pub index: u32,
    /// Whether the host was made a router for it: the user should be told.
    pub forwarding_enabled: bool,
}

impl Bridge {
    /// Makes the bridge, or finds it. The caller holds the lock, and has just read `links`.
    ///
    /// # Errors
    /// [`Error::AddressRangeInUse`] and [`Error::BridgeInUse`] before anything is changed; else the step.
    // ANCHOR: bridge
    pub fn setup(
        config: &BridgeConfig,
        links: &[Link],
        route: &mut Channel,
        netfilter: &mut Channel,
    ) -> Result<Self, Error> {
        let there = find(config, links)?;
        if let Some(link) = there
            && link.up
            && nftables::is_there(netfilter, &config.name)?
        {
            return Ok(Self { index: link.index, forwarding_enabled: false });
        }
        let index = match there {
            Some(link) => link.index,
            None => {
                address::require_free(route, config.subnet)?;
                route.batch(&[create(config)])?;
                inside::index_of(route, &config.name)?
            }
        };
        let (gateway, prefix) = (config.subnet.gateway(), config.subnet.prefix());
        let why = "the host's place in the network, and the containers' gateway";
        match route.batch(&[inside::add_address(index, &config.name, gateway, prefix, why)]) {
            Err(error) if error.errno() == Some(nix::errno::Errno::EEXIST) => {}
            done => done?,
        }
        netfilter.batch(&transaction(nftables::network(&config.name, config.subnet)))?;
        forwarding::route_loopback(&config.name)?;
        let forwarding_enabled = forwarding::enable()?;
        let alias = address::bridge_alias(config.subnet);
        route.batch(&[veth::set(
            &config.name,
            &alias,
            false,
            "up at last: a bridge that is up is complete",
        )])?;
        Ok(Self { index, forwarding_enabled })
    }
    // ANCHOR_END: bridge

    /// Removes the bridge and its rules, unless a container is on it. The caller holds the lock. Says whether it did.
    ///
    /// # Errors
    /// The step. A bridge that is not there is no error.
    // ANCHOR: teardown
    pub fn teardown(
        config: &BridgeConfig,
        links: &[Link],
        route: &mut Channel,
        netfilter: &mut Channel,
    ) -> Result<bool, Error> {
        let Some(bridge) = links.iter().find(|link| link.name == config.name) else { return Ok(false) };
        let used = |link: &Link| link.bridge == Some(bridge.index) && link.owner().is_some();
        if links.iter().any(used) {
            return Ok(false);
        }
        let others = links.iter().any(|link| link.index != bridge.index && is_bridge(link));
        if nftables::is_there(netfilter, &config.name)? {
            netfilter.batch(&transaction(nftables::remove_network(&config.name, !others)))?;
        }
        let mut link = LinkMessage::default();
        link.header.index = bridge.index;
        route.batch(&[Request::route(
            "RTM_DELLINK",
            config.name.clone(),
            "the last container is gone",
            RouteNetlinkMessage::DelLink(link),
            0,
        )])?;
        Ok(true)
    }
    // ANCHOR_END: teardown
}

/// Whether the link is a bridge of ours: its alias is a range.
fn is_bridge(link: &Link) -> bool {
    link.alias.strip_prefix("sampan ").is_some_and(|range| range.parse::<Subnet>().is_ok())
}

fn find<'a>(config: &BridgeConfig, links: &'a [Link]) -> Result<Option<&'a Link>, Error> {
    let in_use = |what: String| Err(Error::BridgeInUse { name: config.name.clone(), what });
    match links.iter().find(|link| link.name == config.name) {
        // Without an alias it was made by a program that was killed right then: it is finished, under the name that is ours.
        Some(link) if link.alias.is_empty() && link.up => in_use("none of sampan's".to_owned()),
        Some(link) if !link.alias.is_empty() && link.alias != address::bridge_alias(config.subnet) => {
            in_use(format!("another network's ({})", link.alias))
        }
        found => Ok(found),
    }
}

fn create(config: &BridgeConfig) -> Request {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(config.name.clone()));
    // Without an address of its own a bridge takes on that of a port, and changes it with its ports.
    let own = address::hardware_address(config.subnet.gateway());
    link.attributes.push(LinkAttribute::Address(own));
    link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    Request::route(
        "RTM_NEWLINK",
        format!("{} type bridge", config.name),
        "a switch that the containers are plugged into",
        RouteNetlinkMessage::NewLink(link),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, alias: &str, up: bool) -> Link {
        Link { index: 2, name: name.into(), alias: alias.into(), up, bridge: None }
    }

    #[test]
    fn somebody_elses_bridge_is_not_taken() {
        let config = BridgeConfig::default();
        let found = |alias, up| find(&config, &[link("sampan0", alias, up)]).map(|found| found.is_some());
        assert!(matches!(found("sampan 10.88.0.0/16", true), Ok(true)));
        assert!(matches!(found("", false), Ok(true)));
        assert!(matches!(found("", true), Err(Error::BridgeInUse { .. })));
        assert!(matches!(found("sampan 10.99.0.0/16", true), Err(Error::BridgeInUse { .. })));
        assert!(matches!(find(&config, &[link("eth0", "", true)]), Ok(None)));
    }

    #[test]
    fn a_bridge_is_told_from_a_containers_link_by_its_alias() {
        assert!(is_bridge(&link("sampan1", "sampan 10.99.0.0/16", true)));
        assert!(!is_bridge(&link("sampan0a580002", "sampan 10.88.0.2 4711", true)));
    }
}
