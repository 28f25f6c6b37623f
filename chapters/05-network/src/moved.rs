//! A link of the host's that becomes a container's.
//!
//! A network card, or a virtual function of one, is moved whole into the container's namespace, with a new name if one is wanted. The
//! kernel takes it down on the way, and takes its addresses off: they are read before and set again inside.
//!
//! Order: read the link and its addresses -> move it, from the host's side -> addresses and up, inside. When the namespace ends the
//! kernel brings a physical link back to the host; a virtual one ends with it.
//!
//! What the kernel requires: 1. `CAP_NET_ADMIN` over both namespaces, so no container of an ordinary user's; 2. a link that is not bound to
//! its namespace: `lo` and bridges' like are, EINVAL; 3. a name that nobody has there.
//!
//! See rtnetlink(7), network_namespaces(7).

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use step::StepError;

use crate::inside;
use crate::netlink::{Channel, Request};

/// A link that is to be moved.
#[derive(Debug, Clone)]
pub struct Moved {
    name: String,
    inside: String,
    index: u32,
    addresses: Vec<AddressMessage>,
}

impl Moved {
    /// Looks at the host's link `name`, which is to be called `inside` in the container.
    ///
    /// # Errors
    /// `ENODEV` where there is none.
    pub fn find(name: &str, inside: &str) -> Result<Self, StepError> {
        let mut channel = Channel::route()?;
        let index = inside::index_of(&mut channel, name)?;
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let found = channel.ask_route("RTM_GETADDR", question, true)?;
        let addresses = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == index && lasts(&address) => {
                Some(address)
            }
            _ => None,
        });
        Ok(Self { name: name.to_owned(), inside: inside.to_owned(), index, addresses: addresses.collect() })
    }

    /// Moves it into the network namespace of the process `pid`. On the host's side.
    ///
    /// # Errors
    /// The step.
    pub fn send(&self, pid: u32) -> Result<(), StepError> {
        let mut link = LinkMessage::default();
        link.header.index = self.index;
        link.attributes.push(LinkAttribute::NetNsPid(pid));
        link.attributes.push(LinkAttribute::IfName(self.inside.clone()));
        Channel::route()?.batch(&[Request::route(
            "RTM_SETLINK",
            format!("{} netns {pid} name {}", self.name, self.inside),
            "from now on it is the container's alone",
            RouteNetlinkMessage::SetLink(link),
            0,
        )])
    }

    /// Sets its addresses again and switches it on. In the container's namespace.
    ///
    /// # Errors
    /// The step; `ENODEV` where it has not come.
    pub fn settle(&self) -> Result<(), StepError> {
        let mut channel = Channel::route()?;
        let index = inside::index_of(&mut channel, &self.inside)?;
        let mut requests: Vec<_> = self.addresses.iter().map(|address| self.again(address, index)).collect();
        requests.push(inside::up(index, &self.inside, "the move has switched it off"));
        channel.batch(&requests)
    }

    fn again(&self, address: &AddressMessage, index: u32) -> Request {
        let mut message = AddressMessage::default();
        message.header = address.header.clone();
        message.header.index = index;
        let kept = |attribute: &&AddressAttribute| {
            matches!(
                attribute,
                AddressAttribute::Local(_) | AddressAttribute::Address(_) | AddressAttribute::Broadcast(_)
            )
        };
        message.attributes = address.attributes.iter().filter(kept).cloned().collect();
        let shown = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) | AddressAttribute::Address(ip) => Some(ip.to_string()),
            _ => None,
        });
        let operands =
            format!("{}/{} dev {}", shown.unwrap_or_default(), message.header.prefix_len, self.inside);
        let why = "the move has taken its addresses off";
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        Request::route("RTM_NEWADDR", operands, why, RouteNetlinkMessage::NewAddress(message), flags)
    }
}

/// One that is meant for the world and has no date of expiry: the others belong to the place where the link was.
fn lasts(address: &AddressMessage) -> bool {
    let permanent = address
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Permanent)));
    permanent && address.header.scope == AddressScope::Universe
}
