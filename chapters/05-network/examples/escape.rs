//! Attack the network from *inside* (`05-network target/kit/rootfs /kit/05-escape`).
//!
//! Four attacks, each with a line of its own:
//! 1. the host's abstract UNIX sockets, which have no file that could hide them: the network namespace does;
//! 2. the host's own 127.0.0.1, by sending packets for it to the gateway: a guard in the rules drops them;
//! 3. the host's links, by way of the number that the kernel gives the namespace at the other end of the cable;
//! 4. a neighbour's address. A bridge believes whoever says "that address is mine". It is an address that nobody has here, so that
//!    no neighbour is harmed; taking one that somebody has is the same, said more often. **This is what the chapter leaves open.**
//!
//! Prints SAFE, RISK or ERROR a line, and exits with 1 where there was a RISK, else with 2 where there was an ERROR.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::ExitCode;
use std::time::Duration;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use network::netlink::{Channel, Request};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily as Family, SockFlag, SockType, SockaddrIn, bind, connect, socket};

enum Verdict {
    Safe(String),
    Risk(String),
}

use Verdict::{Risk, Safe};

type Attack = fn() -> io::Result<Verdict>;

fn main() -> ExitCode {
    let attacks: [(&str, Attack); 4] = [
        ("the host's abstract sockets", abstract_sockets),
        ("the host's 127.0.0.1", loopback),
        ("the host's links", links),
        ("an address that is not ours", neighbour),
    ];
    let (mut risk, mut error) = (false, false);
    for (name, attack) in attacks {
        match attack() {
            Ok(Safe(why)) => println!("SAFE: {name}: {why}"),
            Ok(Risk(why)) => {
                risk = true;
                println!("RISK: {name}: {why}");
            }
            Err(why) => {
                error = true;
                println!("ERROR: {name}: the attack could not be tried: {why}");
            }
        }
    }
    ExitCode::from(if risk { 1 } else { u8::from(error) * 2 })
}

/// Every abstract name that this network namespace has is the host's: the container has just begun.
fn abstract_sockets() -> io::Result<Verdict> {
    let sockets = fs::read_to_string("/proc/net/unix")?;
    let names = sockets.lines().filter_map(|line| line.split_once('@').map(|(_, name)| name.to_owned()));
    let all: Vec<_> = names.chain(std::env::args().skip(1)).collect();
    let reached = all.iter().find(|name| {
        SocketAddr::from_abstract_name(name).and_then(|name| UnixStream::connect_addr(&name)).is_ok()
    });
    Ok(match reached {
        Some(name) => Risk(format!("connected to @{name}")),
        None => Safe(format!("none of {} answers in this network namespace", all.len())),
    })
}

/// Whoever answers for 127.0.0.1 by way of the gateway is the host; it would refuse the port, and so give itself away.
fn loopback() -> io::Result<Verdict> {
    let Some((own, gateway)) = addresses() else { return Ok(Safe("there is no way to the host".into())) };
    // Should an answer come, this container must take it. Where that is forbidden the attack is still half of one.
    let _ = fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1");
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.destination_prefix_length = 32;
    // The table of one's own addresses comes first; in it, the longer prefix.
    route.header.table = RouteHeader::RT_TABLE_MAIN + 1;
    route.header.protocol = RouteProtocol::Boot;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    let target = Ipv4Addr::new(127, 0, 0, 99);
    route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(target)));
    route.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    match send("RTM_NEWROUTE", RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE) {
        Err(Errno::EPERM) => return Ok(Safe("this network's routes cannot be changed".into())),
        other => other?,
    }
    Ok(match answer(own, target)? {
        Some(how) => Risk(format!("the gateway passed it on: {how}")),
        None => Safe("no answer by way of the gateway".into()),
    })
}

/// The cable's other end is in a namespace that the kernel numbers, here 0, and messages can be sent "for number 0".
fn links() -> io::Result<Verdict> {
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes.push(LinkAttribute::IfName("lo".into()));
    link.attributes.push(LinkAttribute::IfNetnsId(0));
    Ok(match send("RTM_SETLINK", RouteNetlinkMessage::SetLink(link), 0) {
        Ok(()) => Risk("lo of the namespace at the other end of the cable was set".into()),
        Err(errno) => Safe(format!("{errno:?} for the namespace at the other end of the cable")),
    })
}

/// Takes the last address of the range, and sees whether the host talks to it.
// ANCHOR: neighbour
fn neighbour() -> io::Result<Verdict> {
    let Some((own, gateway)) = addresses() else { return Ok(Safe("there are no neighbours".into())) };
    let [a, b, _, _] = own.octets();
    let taken = Ipv4Addr::new(a, b, 255, 254);
    let eth0 = fs::read_to_string("/sys/class/net/eth0/ifindex")?;
    let mut address = AddressMessage::default();
    address.header.family = AddressFamily::Inet;
    address.header.prefix_len = 32;
    address.header.index = eth0.trim().parse().map_err(io::Error::other)?;
    address.attributes.push(AddressAttribute::Local(IpAddr::V4(taken)));
    match send("RTM_NEWADDR", RouteNetlinkMessage::NewAddress(address), NLM_F_CREATE) {
        Err(Errno::EPERM) => return Ok(Safe("this network's addresses cannot be changed".into())),
        other => other?,
    }
    Ok(match answer(taken, gateway)? {
        Some(how) => Risk(format!("the host took this container for {taken} ({how})")),
        None => Safe(format!("the host does not answer {taken}")),
    })
}
// ANCHOR_END: neighbour

/// How a connection from one address to a port of another on which nobody should listen is answered; none where it is not.
fn answer(from: Ipv4Addr, to: Ipv4Addr) -> io::Result<Option<&'static str>> {
    let address = |ip, port| SockaddrIn::from(SocketAddrV4::new(ip, port));
    let socket = socket(Family::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address(from, 0))?;
    let stream = TcpStream::from(socket);
    // connect(2) keeps to the time limit for sending.
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    Ok(match connect(std::os::fd::AsRawFd::as_raw_fd(&stream), &address(to, 9)) {
        Ok(()) => Some("connected"),
        Err(Errno::ECONNREFUSED) => Some("connection refused"),
        _ => None,
    })
}

/// This container's address and the gateway's, if it has a network.
fn addresses() -> Option<(Ipv4Addr, Ipv4Addr)> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    let gateway = routes.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"00000000")).then(|| u32::from_str_radix(fields.get(2)?, 16).ok())?
    })?;
    let gateway = Ipv4Addr::from(gateway.to_ne_bytes());
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect((gateway, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(own) => Some((own, gateway)),
        IpAddr::V6(_) => None,
    }
}

fn send(call: &'static str, message: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
    let request = Request::route(call, String::new(), "an attack", message, flags);
    let sent = Channel::route().and_then(|mut channel| channel.batch(&[request]));
    sent.map_err(|error| error.errno().unwrap_or(Errno::EIO))
}
