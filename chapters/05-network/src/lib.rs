//! Chapter 5: a network of its own for a container.
//!
//! A new network namespace holds nothing: no link but a dead loopback, no address, no route. What a home has instead of wires, a
//! switch, a router, a list of who may come in, is made here out of kernel objects: a [bridge](mod@bridge) on the host, a
//! [cable](veth) into each container, [addresses](address), [rules](nftables) that lend the host's address to what goes out and
//! lead published ports in. All of it is made by messages on a [netlink] socket, with no program called.
//!
//! What it leaves open: the containers of a bridge are neighbours, and a neighbour can say that he is another. The
//! [attack](../../examples/escape.rs) does.
//!
//! In reading order: [`netlink`], [`mod@bridge`], [`veth`], [`address`], [`inside`], [`nftables`], [`ports`], [`connect`], which puts them
//! together under a [`lock`], [`forwarding`], [`resolv`].
//!
//! Beside the main line: [`subnet`] (ranges), [`rootless`] (an ordinary user may make no bridge).
//!
//! Beyond this chapter, for the engine: [`moved`] (a link of the host's that becomes a container's).
//!
//! Beside the story: [`error`], [`hints`]. Not covered: IPv6.

pub mod netlink;

pub mod bridge;
pub mod veth;

pub mod address;
pub mod inside;

mod nft_expression;
mod nft_message;
pub mod nftables;
pub mod ports;

pub mod connect;
pub mod lock;

pub mod forwarding;
pub mod resolv;

pub mod moved;

pub mod rootless;
pub mod subnet;

pub mod error;
pub mod hints;

pub use bridge::{Bridge, BridgeConfig};
pub use connect::{Attachment, Reservation, detach, prepare, sweep};
pub use error::Error;
pub use hints::HINTS;
pub use inside::Interface;
pub use ports::{Protocol, PublishedPort};
pub use resolv::resolv_conf;
pub use subnet::Subnet;
