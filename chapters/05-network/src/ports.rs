//! Published ports: a port of the host that leads to a port of a container.
//!
//! The text form is that of Docker's `-p`: `8080:80`, `127.0.0.1:8080:80`, `5353:53/udp`, `8000-8003:80-83`, and `80` or
//! `127.0.0.1::80` for a host port that is free at that moment.
//!
//! A rule that rewrites addresses works before any program of the host sees the packet: a published port would silently take
//! the port of a program that listens there. So it is first tried to listen there; what the kernel refuses to us is
//! somebody's. Not covered: a program that wants the port *later* may have it, and hears nothing on it.
//!
//! See bind(2), ip(7).

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::str::FromStr;

use nix::errno::Errno;
use step::StepError;

use crate::Error;

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// A port of the host that leads to a port of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublishedPort {
    /// The host's address that it listens on; `0.0.0.0` for all.
    pub host_ip: Ipv4Addr,
    /// The host's port; 0 for one that is free.
    pub host_port: u16,
    /// The port inside the container.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Reads the operand of `-p`, which can be a range and so name several ports.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn parse(text: &str) -> Result<Vec<PublishedPort>, String> {
    let (ports, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.split('/').next().unwrap_or(text), Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some((_, other)) => return Err(format!("{other:?} is no protocol: tcp or udp")),
    };
    let parts: Vec<_> = ports.split(':').collect();
    let (ip, host, container) = match parts[..] {
        [container] => ("", "", container),
        [host, container] => ("", host, container),
        [ip, host, container] => (ip, host, container),
        _ => return Err(format!("{text:?} is no published port: [IP:]HOST:CONTAINER[/udp]")),
    };
    let host_ip = match ip {
        "" => Ipv4Addr::UNSPECIFIED,
        ip => ip.parse().map_err(|_| format!("{ip:?} is no IPv4 address"))?,
    };
    let container = range(container)?;
    let count = container.len();
    let host = if host.is_empty() { vec![0; count] } else { range(host)? };
    if host.len() != count {
        return Err(format!("{text:?}: {} ports of the host for {count} of the container", host.len()));
    }
    let pairs = host.into_iter().zip(container);
    Ok(pairs
        .map(|(host_port, container_port)| PublishedPort { host_ip, host_port, container_port, protocol })
        .collect())
}

fn range(text: &str) -> Result<Vec<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("{text:?} is no port: 1 to 65535"))
    };
    let (first, last) = (port(first)?, port(last)?);
    if first > last { Err(format!("{text:?} runs backwards")) } else { Ok((first..=last).collect()) }
}

/// Makes sure that every port is free on the host, and chooses one where 0 was asked for. Changes nothing.
///
/// # Errors
/// [`Error::PortInUse`], [`Error::NoSuchAddress`].
// ANCHOR: free
pub fn require_free(ports: &mut [PublishedPort]) -> Result<(), Error> {
    // All are kept open until the last is tried, so that one port asked for twice is seen and two free ports differ.
    let mut tcp = Vec::new();
    let mut udp = Vec::new();
    for port in ports {
        let address = SocketAddrV4::new(port.host_ip, port.host_port);
        let bound = match port.protocol {
            Protocol::Tcp => TcpListener::bind(address).and_then(|socket| {
                let bound = socket.local_addr();
                tcp.push(socket);
                bound
            }),
            Protocol::Udp => UdpSocket::bind(address).and_then(|socket| {
                let bound = socket.local_addr();
                udp.push(socket);
                bound
            }),
        };
        port.host_port = bound.map_err(|error| refusal(*port, error))?.port();
    }
    Ok(())
}
// ANCHOR_END: free

fn refusal(port: PublishedPort, error: io::Error) -> Error {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => Error::PortInUse { port, by: "a program of the host" },
        Some(Errno::EADDRNOTAVAIL) => Error::NoSuchAddress(port.host_ip),
        _ => StepError::new("bind", port, error).into(),
    }
}

impl fmt::Display for PublishedPort {
    /// The host's side: `8080/tcp`, `127.0.0.1:8080/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.host_ip.is_unspecified() {
            write!(f, "{}:", self.host_ip)?;
        }
        write!(f, "{}/{}", self.host_port, self.protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Tcp { "tcp" } else { "udp" })
    }
}

impl FromStr for PublishedPort {
    type Err = String;

    /// Reads `-p`'s operand where it names one port.
    fn from_str(text: &str) -> Result<Self, String> {
        match parse(text)?[..] {
            [port] => Ok(port),
            ref ports => Err(format!("{text:?} names {} ports, not one", ports.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(host_ip: [u8; 4], host_port: u16, container_port: u16, protocol: Protocol) -> PublishedPort {
        PublishedPort { host_ip: host_ip.into(), host_port, container_port, protocol }
    }

    #[test]
    fn the_forms_of_dockers_p() {
        let one = |text: &str| text.parse::<PublishedPort>();
        assert_eq!(one("8080:80"), Ok(published([0; 4], 8080, 80, Protocol::Tcp)));
        assert_eq!(one("8080:80/tcp"), Ok(published([0; 4], 8080, 80, Protocol::Tcp)));
        assert_eq!(one("127.0.0.1:53:53/udp"), Ok(published([127, 0, 0, 1], 53, 53, Protocol::Udp)));
        assert_eq!(
            one("192.168.30.70:5432:5432"),
            Ok(published([192, 168, 30, 70], 5432, 5432, Protocol::Tcp))
        );
        assert_eq!(one("80"), Ok(published([0; 4], 0, 80, Protocol::Tcp)));
        assert_eq!(one("127.0.0.1::80"), Ok(published([127, 0, 0, 1], 0, 80, Protocol::Tcp)));
    }

    #[test]
    fn a_range_is_several_ports() {
        let ports = parse("8000-8002:80-82/udp").unwrap();
        assert_eq!(ports.len(), 3);
        assert_eq!(ports[2], published([0; 4], 8002, 82, Protocol::Udp));
        assert!(parse("8000-8002:80").is_err());
        assert!("8000-8002:80-82".parse::<PublishedPort>().is_err());
    }

    #[test]
    fn what_is_no_port_is_refused_in_words() {
        for text in
            ["", "0:80", "80:0", "70000:80", "a:b", "1:2:3:4", "8080:80/sctp", "9-8:9-8", "300.1.1.1:1:1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_found() {
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = published([127, 0, 0, 1], there.local_addr().unwrap().port(), 80, Protocol::Tcp);
        assert!(matches!(require_free(&mut [taken]), Err(Error::PortInUse { .. })));
        let mut free = [PublishedPort { host_port: 0, ..taken }; 2];
        require_free(&mut free).unwrap();
        assert_ne!(free[0].host_port, free[1].host_port);
        assert!(matches!(require_free(&mut [free[0], free[0]]), Err(Error::PortInUse { .. })));
    }
}
