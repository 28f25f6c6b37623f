//! An IPv4 range: a network's address and the length of its prefix.
//!
//! `10.88.0.0/16` means that the first 16 bits name the network and the other 16 a host in it. The first address is the network
//! itself, the last reaches all hosts at once (broadcast); between them lie those that a host can have. By custom, and here,
//! the first of those is the gateway's. See RFC 4632.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    address: u32,
    prefix: u8,
}

impl Subnet {
    /// The range of `prefix` bits that holds `address`. None where the prefix is above 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let mask = mask(prefix)?;
        Some(Self { address: u32::from(address) & mask, prefix })
    }

    /// The network's own address, all host bits 0.
    pub fn network(self) -> Ipv4Addr {
        self.address.into()
    }

    /// The number of bits that name the network.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The mask that keeps the network's bits: `255.255.0.0` for 16.
    pub fn mask(self) -> Ipv4Addr {
        mask(self.prefix).unwrap_or(u32::MAX).into()
    }

    /// The first address that a host can have: the bridge's.
    pub fn gateway(self) -> Ipv4Addr {
        (self.address | 1).into()
    }

    /// The last address, which reaches all hosts of the range.
    pub fn broadcast(self) -> Ipv4Addr {
        (self.address | !u32::from(self.mask())).into()
    }

    /// Whether the address lies in the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & u32::from(self.mask()) == self.address
    }

    /// Whether the two ranges have an address in common. Of two such ranges one holds the other.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }

    /// The addresses that containers can have: those between the gateway and the broadcast address.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let first = u64::from(self.address) + 2;
        let last = u64::from(u32::from(self.broadcast()));
        (first..last).filter_map(|address| u32::try_from(address).ok()).map(Ipv4Addr::from)
    }
}

fn mask(prefix: u8) -> Option<u32> {
    (prefix <= 32).then(|| u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = String;

    /// Reads `10.88.0.0/16`; also `10.88.0.1/16`, as Docker's `bip` has it.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let prefix = prefix.parse().ok().filter(|prefix| (8..=29).contains(prefix))?;
            Self::new(address.parse().ok()?, prefix)
        });
        parsed.ok_or_else(|| {
            format!("{text:?} is no range of IPv4 addresses with 8 to 29 bits of network, as in 10.88.0.0/16")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_knows_its_gateway_and_its_ends() {
        let range = subnet("10.88.3.4/16");
        assert_eq!(range.to_string(), "10.88.0.0/16");
        assert_eq!(range.gateway(), Ipv4Addr::new(10, 88, 0, 1));
        assert_eq!(range.broadcast(), Ipv4Addr::new(10, 88, 255, 255));
        assert_eq!(range.hosts().next(), Some(Ipv4Addr::new(10, 88, 0, 2)));
        assert_eq!(range.hosts().count(), 65_533);
        assert_eq!(subnet("192.168.7.8/29").hosts().count(), 5);
    }

    #[test]
    fn text_that_names_no_range_is_refused() {
        for text in ["", "10.88.0.0", "10.88.0.0/33", "10.88.0.0/30", "10.88.0/16", "0.0.0.0/0"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ranges_overlap_just_when_they_share_an_address(a: u32, b: u32, x in 0u8..=32, y in 0u8..=32) {
            let a = Subnet::new(a.into(), x).unwrap();
            let b = Subnet::new(b.into(), y).unwrap();
            let first = a.network().max(b.network());
            let last = a.broadcast().min(b.broadcast());
            prop_assert_eq!(a.overlaps(b), first <= last);
            prop_assert_eq!(a.overlaps(b), b.overlaps(a));
        }

        #[test]
        fn every_address_of_a_range_is_in_it(address: u32, prefix in 20u8..=29) {
            let range = Subnet::new(address.into(), prefix).unwrap();
            prop_assert!(range.hosts().all(|host| range.contains(host)));
            prop_assert!(!range.hosts().any(|host| host == range.gateway() || host == range.broadcast()));
        }
    }
}
