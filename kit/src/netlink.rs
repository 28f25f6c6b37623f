//! As much of netlink as the kit needs: list links and tables, remove one, and try whether the kernel makes them.
//!
//! A message is a header, a fixed part, and attributes: length, number, bytes, padded to four. Chapter 5 explains it; this is
//! a smaller speaker of the same language, so that the kit can clean up whatever state chapter 5's code is in.
//! See netlink(7), rtnetlink(7).

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const LINK_NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const LINK_ALIAS: u16 = 20;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// The subsystem nf_tables, in the upper half of a message's number.
const TABLES: u16 = 10 << 8;
const NEW_TABLE: u16 = TABLES;
const GET_TABLE: u16 = TABLES | 1;
const DELETE_TABLE: u16 = TABLES | 2;
const NEW_CHAIN: u16 = TABLES | 3;
const NEW_RULE: u16 = TABLES | 6;
const IPV4: u8 = 2;

/// A message that is being put together, from its number on.
struct Message {
    number: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    fn new(number: u16, flags: u16, fixed: &[u8]) -> Self {
        Self { number, flags: flags | REQUEST, body: fixed.to_vec() }
    }

    /// A message about links: `struct ifinfomsg`, in which everything may stay zero but the link's number.
    fn link(number: u16, flags: u16, index: i32) -> Self {
        let mut fixed = [0; 16];
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        Self::new(number, flags, &fixed)
    }

    /// A message to nf_tables about IPv4.
    fn table(number: u16, flags: u16) -> Self {
        Self::new(number, flags, &[IPV4, 0, 0, 0])
    }

    fn with(mut self, number: u16, value: &[u8]) -> Self {
        self.body.extend(attribute(number, value));
        self
    }
}

fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), number.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An attribute of attributes.
fn nested(number: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    const NESTED: u16 = 1 << 15;
    attribute(number | NESTED, &attributes.concat())
}

fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

/// A link of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: i32,
    pub(crate) name: String,
    pub(crate) alias: String,
}

/// All links of this network namespace.
pub(crate) fn links() -> nix::Result<Vec<Link>> {
    let answers = ask(SockProtocol::NetlinkRoute, &[Message::link(GET_LINK, DUMP, 0)])?;
    Ok(answers.iter().filter_map(|answer| parse_link(answer)).collect())
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let index = i32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    let mut link = Link { index, name: String::new(), alias: String::new() };
    for (number, value) in attributes(body.get(16..)?) {
        let text = || String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
        match number {
            LINK_NAME => link.name = text(),
            LINK_ALIAS => link.alias = text(),
            _ => {}
        }
    }
    Some(link)
}

/// Removes a link, by its number.
pub(crate) fn delete_link(index: i32) -> nix::Result<()> {
    ask(SockProtocol::NetlinkRoute, &[Message::link(DELETE_LINK, ACK, index)]).map(drop)
}

/// Makes a link of a kind (`bridge`, `veth`).
pub(crate) fn new_link(name: &str, kind: &str) -> nix::Result<()> {
    const KIND: u16 = 1;
    let info = attribute(KIND, &text(kind));
    let message =
        Message::link(NEW_LINK, ACK | CREATE, 0).with(LINK_NAME, &text(name)).with(LINK_INFO, &info);
    ask(SockProtocol::NetlinkRoute, &[message]).map(drop)
}

/// Makes a veth pair whose other end is born in the network namespace of a process.
pub(crate) fn new_veth(name: &str, peer: &str, pid: i32) -> nix::Result<()> {
    const KIND: u16 = 1;
    const DATA: u16 = 2;
    const PEER: u16 = 1;
    const NAMESPACE_OF: u16 = 19;
    let mut other = vec![0; 16];
    other.extend(attribute(LINK_NAME, &text(peer)));
    other.extend(attribute(NAMESPACE_OF, &pid.to_ne_bytes()));
    let info = [attribute(KIND, &text("veth")), nested(DATA, &[attribute(PEER, &other)])].concat();
    let message =
        Message::link(NEW_LINK, ACK | CREATE, 0).with(LINK_NAME, &text(name)).with(LINK_INFO, &info);
    ask(SockProtocol::NetlinkRoute, &[message]).map(drop)
}

/// Gives a link of this network namespace an address, if any, and sets it up.
pub(crate) fn set_up(name: &str, address: Option<(Ipv4Addr, u8)>) -> nix::Result<()> {
    const NEW_ADDRESS: u16 = 20;
    const UP: u32 = 1;
    let link = links()?.into_iter().find(|link| link.name == name).ok_or(Errno::ENODEV)?;
    let mut up = Message::link(NEW_LINK, ACK, link.index);
    up.body[8..12].copy_from_slice(&UP.to_ne_bytes());
    up.body[12..16].copy_from_slice(&UP.to_ne_bytes());
    let mut messages = vec![up];
    if let Some((address, prefix)) = address {
        let fixed = [[IPV4, prefix, 0, 0], link.index.to_ne_bytes()].concat();
        let octets = address.octets();
        messages.push(Message::new(NEW_ADDRESS, ACK | CREATE, &fixed).with(1, &octets).with(2, &octets));
    }
    ask(SockProtocol::NetlinkRoute, &messages).map(drop)
}

/// The names of the nftables tables of the family `ip`.
pub(crate) fn tables() -> nix::Result<Vec<String>> {
    const NAME: u16 = 1;
    let answers = ask(SockProtocol::NetlinkNetFilter, &[Message::table(GET_TABLE, DUMP)])?;
    let name = |answer: &Vec<u8>| {
        let (_, value) = attributes(answer.get(4..)?).into_iter().find(|(number, _)| *number == NAME)?;
        Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned())
    };
    Ok(answers.iter().filter_map(name).collect())
}

/// Removes a table of the family `ip`, with all that is in it.
pub(crate) fn delete_table(name: &str) -> nix::Result<()> {
    batch(vec![Message::table(DELETE_TABLE, ACK).with(1, &text(name))])
}

/// Makes a table with a chain and a rule that masquerades, which is what chapter 5 needs of nf_tables.
pub(crate) fn new_masquerading_table(name: &str) -> nix::Result<()> {
    const POSTROUTING: u32 = 4;
    const PRIORITY: u32 = 100;
    let hook = nested(4, &[attribute(1, &POSTROUTING.to_be_bytes()), attribute(2, &PRIORITY.to_be_bytes())]);
    let masquerade = nested(4, &[nested(1, &[attribute(1, &text("masq")), nested(2, &[])])]);
    let mut chain = Message::table(NEW_CHAIN, ACK | CREATE).with(1, &text(name)).with(3, &text("out"));
    chain.body.extend(hook);
    let chain = chain.with(7, &text("nat"));
    let mut rule = Message::table(NEW_RULE, ACK | CREATE).with(1, &text(name)).with(2, &text("out"));
    rule.body.extend(masquerade);
    batch(vec![Message::table(NEW_TABLE, ACK | CREATE).with(1, &text(name)), chain, rule])
}

/// nf_tables takes changes only as a batch, which is done whole or not at all.
fn batch(messages: Vec<Message>) -> nix::Result<()> {
    let edge = |number| Message::new(number, 0, &[0, 0, 0, 10]);
    let mut all = vec![edge(BATCH_BEGIN)];
    all.extend(messages);
    all.push(edge(BATCH_END));
    ask(SockProtocol::NetlinkNetFilter, &all).map(drop)
}

/// Sends messages and gathers the answers' bodies, until each message is acknowledged or the listing is done.
fn ask(protocol: SockProtocol, messages: &[Message]) -> nix::Result<Vec<Vec<u8>>> {
    let socket = open(protocol)?;
    let mut bytes = Vec::new();
    for (message, sequence) in messages.iter().zip(1_u32..) {
        let length = u32::try_from(16 + message.body.len()).map_err(|_| Errno::EMSGSIZE)?;
        bytes.extend(length.to_ne_bytes());
        bytes.extend(message.number.to_ne_bytes());
        bytes.extend(message.flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&message.body);
    }
    send(socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut open = messages.iter().filter(|message| message.flags & (ACK | DUMP) != 0).count();
    let mut answers = Vec::new();
    let mut buffer = vec![0; 1 << 17];
    while open > 0 {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (number, body) in split(&buffer[..length]) {
            match number {
                NLMSG_ERROR => {
                    let code =
                        body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    if code != 0 {
                        return Err(Errno::from_raw(-code));
                    }
                    open -= 1;
                }
                NLMSG_DONE => open -= 1,
                _ => answers.push(body.to_vec()),
            }
        }
    }
    Ok(answers)
}

fn open(protocol: SockProtocol) -> nix::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    // A kernel that does not answer must not hang the doctor.
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    Ok(socket)
}

/// The messages in what was received: number and body.
fn split(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut messages = Vec::new();
    while let Some(header) = bytes.get(..16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = bytes.get(16..length) else { break };
        messages.push((u16::from_ne_bytes([header[4], header[5]]), body));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// The attributes in a message's body: number and value.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some(header) = bytes.get(..4) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(value) = bytes.get(4..length) else { break };
        found.push((u16::from_ne_bytes([header[2], header[3]]) & 0x3fff, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let bytes = [attribute(3, b"abcde\0"), attribute(LINK_ALIAS, b"x\0")].concat();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(attributes(&bytes), [(3, b"abcde\0".as_slice()), (LINK_ALIAS, b"x\0".as_slice())]);
        assert!(attributes(&bytes[..6]).is_empty(), "a cut message is no attribute");
        assert!(attributes(&[1, 0, 0, 0, 0, 0]).is_empty(), "a length below the header's does not loop");
    }

    #[test]
    fn the_loopback_link_is_found() {
        assert!(links().unwrap().iter().any(|link| link.name == "lo" && link.index == 1));
    }
}
