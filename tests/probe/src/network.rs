//! Interfaces, routes, and whether an address answers. Nothing here needs a name server.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use serde::Serialize;
use serde_json::json;

use crate::Answer;
use crate::attempt::name;

const PATIENCE: Duration = Duration::from_secs(4);
/// After so long without an answer a datagram is sent again: the kernel may drop one while a link is just coming up.
const AGAIN: Duration = Duration::from_secs(1);

/// An interface of this network namespace.
#[derive(Default, Serialize)]
pub(crate) struct Interface {
    name: String,
    index: Option<u32>,
    up: bool,
    loopback: bool,
    hardware: Option<String>,
    /// `10.88.0.2/16`, `fe80::1/64`.
    addresses: Vec<String>,
}

/// A line of the IPv4 routing table.
#[derive(Serialize)]
pub(crate) struct Route {
    interface: String,
    /// `0.0.0.0/0` for the default route.
    destination: String,
    gateway: Option<Ipv4Addr>,
}

pub(crate) fn interfaces() -> Vec<Interface> {
    let mut found = BTreeMap::<String, Interface>::new();
    for entry in getifaddrs().into_iter().flatten() {
        let interface = found.entry(entry.interface_name.clone()).or_insert_with(|| Interface {
            index: nix::net::if_::if_nametoindex(entry.interface_name.as_str()).ok(),
            name: entry.interface_name.clone(),
            ..Interface::default()
        });
        interface.up = entry.flags.contains(InterfaceFlags::IFF_UP);
        interface.loopback = entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let Some(address) = entry.address else { continue };
        interface.hardware = hardware(&address).or(interface.hardware.take());
        interface.addresses.extend(with_prefix(&address, entry.netmask.as_ref()));
    }
    found.into_values().collect()
}

fn hardware(address: &SockaddrStorage) -> Option<String> {
    let bytes = address.as_link_addr()?.addr()?;
    Some(bytes.map(|byte| format!("{byte:02x}")).join(":"))
}

fn with_prefix(address: &SockaddrStorage, mask: Option<&SockaddrStorage>) -> Option<String> {
    if let Some(v4) = address.as_sockaddr_in() {
        let mask = mask
            .and_then(SockaddrStorage::as_sockaddr_in)
            .map_or(32, |mask| mask.ip().to_bits().count_ones());
        return Some(format!("{}/{mask}", v4.ip()));
    }
    let v6 = address.as_sockaddr_in6()?;
    let mask =
        mask.and_then(SockaddrStorage::as_sockaddr_in6).map_or(128, |mask| mask.ip().to_bits().count_ones());
    Some(format!("{}/{mask}", v6.ip()))
}

pub(crate) fn routes() -> Option<Vec<Route>> {
    Some(fs::read_to_string("/proc/net/route").ok()?.lines().skip(1).filter_map(route).collect())
}

/// `eth0 00000000 0100580A 0003 ...`: addresses are hexadecimal, in network order on a machine of the other order.
fn route(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |text: &&str| Some(Ipv4Addr::from(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()));
    let mask = address(fields.get(7)?)?.to_bits().count_ones();
    Some(Route {
        interface: (*fields.first()?).to_owned(),
        destination: format!("{}/{mask}", address(fields.get(1)?)?),
        gateway: address(fields.get(2)?).filter(|gateway| !gateway.is_unspecified()),
    })
}

pub(crate) fn connect(address: &str, udp: bool) -> Answer {
    let Ok(peer) = address.parse::<SocketAddr>() else {
        return Answer { json: json!({ "error": format!("not ADDRESS:PORT: {address}") }), done: None };
    };
    let outcome = if udp { ask_udp(peer) } else { ask_tcp(peer) };
    let (answer, error) = match outcome {
        Ok(answer) => (Some(answer), None),
        Err(error) => (None, Some(name(&error))),
    };
    Answer {
        done: Some(error.is_none()),
        json: json!({ "address": address, "connected": error.is_none(), "answer": answer, "error": error }),
    }
}

/// A peer that says nothing has still been reached.
fn ask_tcp(peer: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&peer, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).unwrap_or(0);
    Ok(String::from_utf8_lossy(&answer[..length]).trim().to_owned())
}

/// Without an answer nobody knows whether a datagram arrived.
fn ask_udp(peer: SocketAddr) -> io::Result<String> {
    let any: SocketAddr = if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(AGAIN))?;
    socket.connect(peer)?;
    let mut answer = [0; 1024];
    let begun = Instant::now();
    loop {
        socket.send(b"probe\n")?;
        match socket.recv(&mut answer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < PATIENCE => {}
            length => return Ok(String::from_utf8_lossy(&answer[..length?]).trim().to_owned()),
        }
    }
}

/// Tells every peer who answers and from which address it was seen: `HOSTNAME PEER-ADDRESS:PORT`. Returns on failure only.
pub(crate) fn listen(port: &str, udp: bool) -> Answer {
    let Ok(port) = port.parse::<u16>() else {
        return Answer { json: json!({ "error": format!("not a port: {port}") }), done: None };
    };
    let outcome = if udp { serve_udp(port) } else { serve_tcp(port) };
    let error = outcome.err().map(|error| name(&error));
    Answer { done: Some(false), json: json!({ "port": port, "error": error }) }
}

fn serve_tcp(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    crate::say(&json!({ "listening": listener.local_addr()?.port() }));
    for stream in listener.incoming() {
        let mut stream = stream?;
        let peer = stream.peer_addr()?;
        crate::say(&json!({ "peer": peer.to_string() }));
        // The next peer is served also when this one hung up.
        // In one piece: who asks reads once.
        let _ = stream.write_all(format!("{} {peer}\n", hostname()).as_bytes());
    }
    Ok(())
}

fn serve_udp(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    crate::say(&json!({ "listening": socket.local_addr()?.port() }));
    let mut question = [0; 1024];
    loop {
        let (_, peer) = socket.recv_from(&mut question)?;
        crate::say(&json!({ "peer": peer.to_string() }));
        let _ = socket.send_to(format!("{} {peer}\n", hostname()).as_bytes(), peer);
    }
}

fn hostname() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_default_route_is_understood() {
        let route = route("eth0\t00000000\t0100580A\t0003\t0\t0\t0\t00000000\t0\t0\t0").unwrap();
        assert_eq!(route.destination, "0.0.0.0/0");
        assert_eq!(route.gateway, Some(Ipv4Addr::new(10, 88, 0, 1)));
    }
}
