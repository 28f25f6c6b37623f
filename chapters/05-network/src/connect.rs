//! A container's place in a network, from the first check to the end.
//!
//! ```text
//!   runtime process                                   init process
//!   prepare: ports free? bridge there? address ours
//!   clone ------------------------------------------> mounts ...
//!   attach: cable, ports                              (meanwhile)
//!   proceed ----------------------------------------> inside::configure: lo, address, eth0, route
//!   ...                                               exec
//!   detach: ports, address, the bridge with the last <--- ends; its namespace takes the cable along
//! ```
//!
//! Each verb on the host's side is one turn under the lock. Nothing is held in between but the reservation, so that twenty
//! containers that start at once wait for each other only as long as a cable takes, and the address is known before the clone.
//!
//! An *owner* is a word without spaces that names who answers for the container: here the runtime process's pid, in the engine the
//! container's id. It stands in the link's alias and beside each published port, so that whoever cleans up knows whose they are.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use nix::unistd::Pid;

use crate::address::{self, Link, Reserved};
use crate::bridge::{Bridge, BridgeConfig};
use crate::inside::Interface;
use crate::lock::Lock;
use crate::netlink::Channel;
use crate::nft_message::transaction;
use crate::nftables::{self, Element};
use crate::ports::{self, PublishedPort};
use crate::{Error, veth};

/// An address and ports, checked and ours, for a container that does not exist yet.
#[derive(Debug)]
pub struct Reservation {
    config: BridgeConfig,
    ports: Vec<PublishedPort>,
    reserved: Reserved,
    /// Whether the host was made a router just now: tell the user.
    pub forwarding_enabled: bool,
}

/// A container that is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    config: BridgeConfig,
    owner: String,
    /// The container's own side.
    pub interface: Interface,
    /// The name of the host's end of its cable.
    pub host_link: String,
    /// Its ports, each with the host port that it really has.
    pub ports: Vec<PublishedPort>,
}

/// Checks the ports, sets the bridge up where it is missing, and reserves an address. Before anything is changed it is known that
/// no port and no range is somebody else's.
///
/// # Errors
/// [`Error::PortInUse`], [`Error::AddressRangeInUse`], [`Error::RangeFull`], or the step.
// ANCHOR: prepare
pub fn prepare(config: &BridgeConfig, ports: &[PublishedPort]) -> Result<Reservation, Error> {
    let mut turn = Turn::take(config)?;
    let mut ports = ports.to_vec();
    ports::require_free(&mut ports)?;
    turn.require_unpublished(&ports)?;
    let bridge = turn.bridge(config)?;
    let reserved = address::allocate(config.subnet, &config.name, &turn.links)?;
    Ok(Reservation { config: config.clone(), ports, reserved, forwarding_enabled: bridge.forwarding_enabled })
}
// ANCHOR_END: prepare

impl Reservation {
    /// What the init process will need to know: [`crate::inside::configure`] takes it.
    pub fn interface(&self) -> Interface {
        Interface {
            address: self.reserved.address,
            prefix: self.config.subnet.prefix(),
            gateway: self.config.subnet.gateway(),
        }
    }

    /// The ports, each with the host port that it really has.
    pub fn ports(&self) -> &[PublishedPort] {
        &self.ports
    }

    /// Plugs the network namespace of `pid` into the bridge and publishes the ports.
    ///
    /// # Errors
    /// [`Error::PortInUse`] where another container was quicker; else the step. What was made by then goes with the namespace.
    // ANCHOR: attach
    pub fn attach(self, pid: Pid, owner: &str) -> Result<Attachment, Error> {
        let mut turn = Turn::take(&self.config)?;
        // The last container may have ended since, and the bridge with it.
        let bridge = turn.bridge(&self.config)?;
        let stale = turn.require_unpublished(&self.ports)?;
        let address = self.reserved.address;
        let pid = u32::try_from(pid.as_raw()).unwrap_or_default();
        turn.route.batch(&veth::create(address, bridge.index, pid, owner))?;
        if !self.ports.is_empty() {
            let mut changes = nftables::unpublish(&stale);
            changes.extend(nftables::publish(&self.ports, address, owner));
            turn.netfilter.batch(&transaction(changes))?;
        }
        Ok(Attachment {
            interface: self.interface(),
            host_link: veth::host_name(address),
            owner: owner.to_owned(),
            ports: self.ports,
            config: self.config,
        })
    }
    // ANCHOR_END: attach

    /// Gives the reservation back, for a container that was never made.
    ///
    /// # Errors
    /// The step.
    pub fn cancel(self) -> Result<(), Error> {
        sweep(&self.config).map(drop)
    }
}

impl Attachment {
    /// Takes the container's ports and address back, and the bridge where it was the last.
    ///
    /// # Errors
    /// The step.
    pub fn remove(self) -> Result<(), Error> {
        let mut turn = Turn::take(&self.config)?;
        turn.detach(&self.config, &self.owner)?;
        turn.sweep(&self.config).map(drop)
    }
}

/// Takes a container's ports and its address back, by its owner alone. The bridge stays: see [`sweep`]. Says whether the bridge
/// has no container now.
///
/// # Errors
/// The step. An owner who has nothing is no error.
pub fn detach(config: &BridgeConfig, owner: &str) -> Result<bool, Error> {
    Turn::take(config)?.detach(config, owner)
}

/// Removes the bridge and its rules where no container is on it; says whether it did. It takes the kernel 30 to 80 ms.
///
/// # Errors
/// The step.
pub fn sweep(config: &BridgeConfig) -> Result<bool, Error> {
    Turn::take(config)?.sweep(config)
}

/// A turn under the lock: two channels, and the links as they were at its beginning.
struct Turn {
    route: Channel,
    netfilter: Channel,
    links: Vec<Link>,
    _lock: Lock,
}

impl Turn {
    fn take(config: &BridgeConfig) -> Result<Self, Error> {
        let mut route = Channel::route()?;
        let netfilter = Channel::netfilter()?;
        let lock = Lock::take(&config.run)?;
        let links = address::links(&mut route)?;
        Ok(Self { route, netfilter, links, _lock: lock })
    }

    fn bridge(&mut self, config: &BridgeConfig) -> Result<Bridge, Error> {
        Bridge::setup(config, &self.links, &mut self.route, &mut self.netfilter)
    }

    /// Makes sure that no running container has published one of the ports. Gives those elements that a killed container left.
    fn require_unpublished(&mut self, ports: &[PublishedPort]) -> Result<Vec<Element>, Error> {
        if ports.is_empty() {
            return Ok(Vec::new());
        }
        let owners: HashSet<_> = self.links.iter().filter_map(Link::owner).collect();
        let mut published = nftables::published(&mut self.netfilter)?;
        for port in ports {
            let ours = Element::new(port, "");
            let clash = |other: &Element| {
                other.map == ours.map && other.key == ours.key && owners.contains(other.owner.as_str())
            };
            if published.iter().any(clash) {
                return Err(Error::PortInUse { port: *port, by: "another container" });
            }
        }
        published.retain(|element| !owners.contains(element.owner.as_str()));
        Ok(published)
    }

    // ANCHOR: detach
    fn detach(&mut self, config: &BridgeConfig, owner: &str) -> Result<bool, Error> {
        let mut published = nftables::published(&mut self.netfilter)?;
        published.retain(|element| element.owner == owner);
        if !published.is_empty() {
            self.netfilter.batch(&transaction(nftables::unpublish(&published)))?;
        }
        let own = |link: &&mut Link| link.owner() == Some(owner);
        for link in self.links.iter_mut().filter(own) {
            let address = link.address().unwrap_or(Ipv4Addr::UNSPECIFIED);
            match self.route.batch(&[veth::mark_end(&link.name, address)]) {
                // The kernel has been quicker.
                Err(error) if error.errno() == Some(nix::errno::Errno::ENODEV) => {}
                done => done?,
            }
            link.alias = address::alias_at_the_end(address);
        }
        let bridge = self.links.iter().find(|link| link.name == config.name).map(|link| link.index);
        Ok(!self.links.iter().any(|link| link.bridge == bridge && link.owner().is_some()))
    }
    // ANCHOR_END: detach

    fn sweep(&mut self, config: &BridgeConfig) -> Result<bool, Error> {
        Bridge::teardown(config, &self.links, &mut self.route, &mut self.netfilter)
    }
}
