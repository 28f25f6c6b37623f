//! The expressions that the rules of this chapter are made of.
//!
//! Each function gives one expression: a name and its attributes. What `nft` would print for it stands above it. See
//! [`crate::nft_message`] for registers and bytes.

use std::net::Ipv4Addr;

use crate::nft_message::Attributes;
use crate::subnet::Subnet;

/// The register in which every comparison and every look-up here begins.
const REGISTER: u32 = 1;
/// The same register's bytes in fours.
const WORD: u32 = 8;
const VERDICT: u32 = 0;

/// A rule's expressions, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expressions(Attributes);

/// Where a packet comes in or goes out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    In = 6,
    Out = 7,
}

/// An address in the IP header, by its place there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Address {
    Source = 12,
    Destination = 16,
}

impl Expressions {
    pub(crate) fn attributes(&self) -> &Attributes {
        &self.0
    }

    fn push(self, name: &str, data: &Attributes) -> Self {
        Self(self.0.nest(1, &Attributes::default().text(1, name).nest(2, data)))
    }

    fn compare(self, equal: bool, value: &[u8]) -> Self {
        let value = Attributes::default().bytes(1, value);
        let data = Attributes::default().number(1, REGISTER).number(2, u32::from(!equal)).nest(3, &value);
        self.push("cmp", &data)
    }

    fn mask(self, mask: [u8; 4]) -> Self {
        let data = Attributes::default()
            .number(1, REGISTER)
            .number(2, REGISTER)
            .number(3, 4)
            .nest(4, &Attributes::default().bytes(1, &mask))
            .nest(5, &Attributes::default().bytes(1, &[0; 4]));
        self.push("bitwise", &data)
    }

    fn payload(self, register: u32, base: u32, offset: u32, length: u32) -> Self {
        let data =
            Attributes::default().number(1, register).number(2, base).number(3, offset).number(4, length);
        self.push("payload", &data)
    }

    /// `iifname "sampan0"`, `oifname != "sampan0"`
    pub(crate) fn link(self, side: Side, equal: bool, name: &str) -> Self {
        let mut padded = [0; 16];
        padded.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
        let data = Attributes::default().number(1, REGISTER).number(2, side as u32);
        self.push("meta", &data).compare(equal, &padded)
    }

    /// `ip saddr 10.88.0.0/16`
    pub(crate) fn address_in(self, which: Address, range: Subnet) -> Self {
        self.payload(REGISTER, 1, which as u32, 4)
            .mask(range.mask().octets())
            .compare(true, &range.network().octets())
    }

    /// `fib daddr type local`: the address is one of this host's own.
    pub(crate) fn local_destination(self) -> Self {
        let data = Attributes::default().number(1, REGISTER).number(2, 3).number(3, 2);
        // RTN_LOCAL. Registers hold numbers in the processor's order; only attributes are big-endian.
        self.push("fib", &data).compare(true, &2u32.to_ne_bytes())
    }

    /// `ct status dnat`, `ct status ! dnat`: whether the connection's destination was rewritten.
    pub(crate) fn destination_rewritten(self, yes: bool) -> Self {
        self.conntrack(2, 1 << 5, yes)
    }

    /// `ct state established,related` and its opposite.
    pub(crate) fn answer(self, yes: bool) -> Self {
        self.conntrack(0, 1 << 1 | 1 << 2, yes)
    }

    fn conntrack(self, key: u32, bits: u32, set: bool) -> Self {
        let data = Attributes::default().number(1, REGISTER).number(2, key);
        self.push("ct", &data).mask(bits.to_ne_bytes()).compare(!set, &[0; 4])
    }

    /// `dnat to meta l4proto . ip daddr . th dport map @name`; without the address for a map that has none.
    pub(crate) fn destination_from_map(self, map: &str, with_address: bool) -> Self {
        let protocol = Attributes::default().number(1, WORD).number(2, 16);
        let mut next = WORD + 1;
        let mut loaded = self.push("meta", &protocol);
        if with_address {
            loaded = loaded.payload(next, 1, Address::Destination as u32, 4);
            next += 1;
        }
        let lookup = Attributes::default().text(1, map).number(2, REGISTER).number(3, REGISTER);
        // NFT_NAT_DNAT; the address is in the first word that was found, the port in the second.
        let nat = Attributes::default().number(1, 1).number(2, 2).number(3, WORD).number(5, WORD + 1);
        loaded.payload(next, 2, 2, 2).push("lookup", &lookup).push("nat", &nat)
    }

    /// `masquerade`: the source becomes the address of the link by which the packet leaves.
    pub(crate) fn masquerade(self) -> Self {
        self.push("masq", &Attributes::default())
    }

    /// `drop`
    pub(crate) fn drop(self) -> Self {
        let code = Attributes::default().number(1, 0);
        let data = Attributes::default().number(1, VERDICT).nest(2, &Attributes::default().nest(2, &code));
        self.push("immediate", &data)
    }
}

/// A map's key: protocol, the host's address unless the map has none, and port, each in four bytes.
pub(crate) fn key(protocol: u8, address: Option<Ipv4Addr>, port: u16) -> Vec<u8> {
    let mut key = vec![protocol, 0, 0, 0];
    key.extend(address.map(|address| address.octets()).into_iter().flatten());
    key.extend(value_of(port));
    key
}

/// A map's value: the container's address and port.
pub(crate) fn value(address: Ipv4Addr, port: u16) -> Vec<u8> {
    [address.octets(), value_of(port)].concat()
}

fn value_of(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_words_side_by_side() {
        assert_eq!(key(6, None, 8080), [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(key(17, Some(Ipv4Addr::LOCALHOST), 53), [17, 0, 0, 0, 127, 0, 0, 1, 0, 53, 0, 0]);
        assert_eq!(value(Ipv4Addr::new(10, 88, 0, 2), 80), [10, 88, 0, 2, 0, 80, 0, 0]);
    }

    #[test]
    fn the_bytes_of_a_drop() {
        let rule = Expressions::default().drop();
        let mut expected = vec![48, 0, 1, 0x80, 14, 0, 1, 0];
        expected.extend(b"immediate\0\0\0");
        expected.extend([28, 0, 2, 0x80, 8, 0, 1, 0, 0, 0, 0, 0]);
        expected.extend([16, 0, 2, 0x80, 12, 0, 2, 0x80, 8, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(rule.attributes().as_slice(), expected);
    }
}
