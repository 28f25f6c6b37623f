//! The bytes of messages to nftables.
//!
//! nftables listens on nfnetlink, a family of netlink of its own: the same header, then four bytes that name the address family,
//! then attributes whose numbers are *big-endian*, unlike those of routes and links. Changes come between two marks, begin and
//! end, in one `sendto`: the kernel carries all of them out in one transaction, or none.
//!
//! A rule is a little program. Its expressions load a value of the packet into a register, compare a register, look one up in a
//! map, and at last act. Registers are 16 bytes wide and count from 1; counted from 8 they are those same bytes in fours, so that
//! a key of several parts is put together side by side.
//!
//! See the kernel's include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h; nft(8) for what it means. `nft --debug=netlink list
//! ruleset` shows the expressions of a rule that is there.

use crate::netlink::Request;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// Make it where it is missing.
pub(crate) const CREATE: u16 = 0x400;
/// Behind those that are there.
pub(crate) const APPEND: u16 = 0x800;
/// All there are.
pub(crate) const DUMP: u16 = 0x300;

const SUBSYSTEM: u16 = 10;
const NESTED: u16 = 0x8000;
/// IPv4, as netfilter numbers it.
pub(crate) const FAMILY: u8 = 2;

/// What a message makes, asks for or removes: `enum nf_tables_msg_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    NewTable = 0,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    DelChain = 5,
    NewRule = 6,
    DelRule = 8,
    NewSet = 9,
    NewSetElem = 12,
    GetSetElem = 13,
    DelSetElem = 14,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::NewTable => "NFT_MSG_NEWTABLE",
            Self::DelTable => "NFT_MSG_DELTABLE",
            Self::NewChain => "NFT_MSG_NEWCHAIN",
            Self::GetChain => "NFT_MSG_GETCHAIN",
            Self::DelChain => "NFT_MSG_DELCHAIN",
            Self::NewRule => "NFT_MSG_NEWRULE",
            Self::DelRule => "NFT_MSG_DELRULE",
            Self::NewSet => "NFT_MSG_NEWSET",
            Self::NewSetElem => "NFT_MSG_NEWSETELEM",
            Self::GetSetElem => "NFT_MSG_GETSETELEM",
            Self::DelSetElem => "NFT_MSG_DELSETELEM",
        }
    }
}

/// Attributes one behind another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<u8>);

// ANCHOR: attributes
impl Attributes {
    /// An attribute: length (itself included), type, value, and zeros up to a multiple of 4.
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat())
    }

    pub(crate) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}
// ANCHOR_END: attributes

/// A message to nftables about the family `ip`.
pub(crate) fn message(kind: Kind, flags: u16, body: &Attributes) -> Vec<u8> {
    raw(SUBSYSTEM << 8 | kind as u16, REQUEST | flags, FAMILY, 0, body.as_slice())
}

/// A change, told as `nft` would be told it.
pub(crate) fn change(
    kind: Kind,
    flags: u16,
    operands: String,
    why: &'static str,
    body: &Attributes,
) -> Request {
    Request { call: kind.name(), operands, why, bytes: message(kind, ACK | flags, body) }
}

/// Puts the changes between the two marks that make one transaction of them.
pub(crate) fn transaction(changes: Vec<Request>) -> Vec<Request> {
    let mark = |call, kind, why| Request {
        call,
        operands: "nftables".to_owned(),
        why,
        bytes: raw(kind, REQUEST, 0, SUBSYSTEM, &[]),
    };
    let mut all = vec![mark("NFNL_MSG_BATCH_BEGIN", 0x10, "what follows is done as a whole or not at all")];
    all.extend(changes);
    all.push(mark("NFNL_MSG_BATCH_END", 0x11, "now: no packet ever meets half of it"));
    all
}

fn raw(kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(20 + body.len());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number, written when it is sent, and the sender's port, which the kernel knows.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_header_family_and_padded_attributes() {
        let bytes = message(Kind::NewTable, CREATE | ACK, &Attributes::default().text(1, "sampan"));
        assert_eq!(bytes[..4], 32u32.to_ne_bytes());
        assert_eq!(bytes[4..6], 0x0a00u16.to_ne_bytes());
        assert_eq!(bytes[6..8], 0x405u16.to_ne_bytes());
        assert_eq!(bytes[16..20], [2, 0, 0, 0]);
        assert_eq!(bytes[20..24], [11, 0, 1, 0]);
        assert_eq!(&bytes[24..], b"sampan\0\0");
    }

    #[test]
    fn numbers_are_big_endian_and_nests_are_marked() {
        let inner = Attributes::default().number(2, 0xff);
        let outer = Attributes::default().nest(4, &inner);
        assert_eq!(outer.as_slice(), [12, 0, 4, 0x80, 8, 0, 2, 0, 0, 0, 0, 0xff]);
    }

    #[test]
    fn a_transaction_has_its_two_marks() {
        let all = transaction(vec![]);
        assert_eq!(all[0].bytes[4..6], 0x10u16.to_ne_bytes());
        assert_eq!(all[1].bytes[4..6], 0x11u16.to_ne_bytes());
        assert_eq!(all[0].bytes[16..20], [0, 0, 0, 10]);
    }
}
