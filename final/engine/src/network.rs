//! A container's network, by Docker's four modes: `bridge`, `none`, `host`, `container:NAME`.
//!
//! Chapter 5 owns the mechanism. Here is who gets what: the plan is made before anything else, so that an address range or a
//! port that is not free is known before a container half exists; the link is made once its namespace is there.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::network::rootless::{self, Helper, Program};
use ::network::{BridgeConfig, Interface, PublishedPort, Reservation};
use nix::unistd::{Pid, geteuid};
use sampan_runtime::defaults::NetworkNamespace;

use crate::container::{Config, Status};
use crate::{Engine, Error};

/// A network mode, as `--network` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A link to the bridge; for an ordinary user, a process that carries packets.
    Bridge,
    /// Nothing but a loopback.
    None,
    /// The host's own.
    Host,
    /// Another container's.
    Container(String),
}

impl Mode {
    /// Reads the argument of `--network`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the modes that there are.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            None if text == "bridge" || text == "default" => Ok(Self::Bridge),
            None if text == "none" => Ok(Self::None),
            None if text == "host" => Ok(Self::Host),
            Some(("container", name)) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
            _ => Err(Error::Invalid(format!(
                "--network {text}: the modes are bridge, none, host and container:NAME"
            ))),
        }
    }
}

/// The mode of a container for which none was asked.
pub fn default_mode() -> &'static str {
    "bridge"
}

/// Reads the argument of `-p`.
///
/// # Errors
/// [`Error::Invalid`] with what is wrong.
pub fn parse_port(text: &str) -> Result<Vec<PublishedPort>, Error> {
    ::network::ports::parse(text).map_err(|reason| Error::Invalid(format!("-p {text}: {reason}")))
}

/// What a container's network will be.
#[derive(Debug)]
pub struct Plan {
    kind: Kind,
    notice: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Bridge(Reservation),
    Helper(Program, Vec<PublishedPort>),
    Loopback,
    Host,
    Container(PathBuf),
}

/// Plans the network of a container; for one on the bridge, an address and its ports are reserved.
///
/// # Errors
/// Where the address range or a port is not free, or the other container does not run.
pub fn plan(engine: &Engine, config: &Config) -> Result<Plan, Error> {
    let mode = Mode::parse(&config.network)?;
    if mode != Mode::Bridge && !config.ports.is_empty() {
        return Err(Error::Invalid(format!(
            "-p publishes ports of the bridge network: not with --network {}",
            config.network
        )));
    }
    let mut notice = None;
    let kind = match mode {
        Mode::None => Kind::Loopback,
        Mode::Host => Kind::Host,
        Mode::Container(name) => Kind::Container(other(engine, &name)?),
        Mode::Bridge => {
            let mut ports = Vec::new();
            for port in &config.ports {
                ports.extend(parse_port(port)?);
            }
            if geteuid().is_root() {
                let reservation = ::network::prepare(&BridgeConfig::default(), &ports)?;
                if reservation.forwarding_enabled {
                    notice = Some(
                        "net.ipv4.ip_forward was 0 and is 1 now: the host passes packets on for containers"
                            .to_owned(),
                    );
                }
                Kind::Bridge(reservation)
            } else {
                match rootless::find() {
                    Ok(program) => Kind::Helper(program, ports),
                    Err(reason) if ports.is_empty() => {
                        notice = Some(format!("the container has its loopback alone: {reason}"));
                        Kind::Loopback
                    }
                    Err(reason) => return Err(Error::Invalid(format!("-p needs a network: {reason}"))),
                }
            }
        }
    };
    Ok(Plan { kind, notice })
}

/// The network namespace of another container.
fn other(engine: &Engine, name: &str) -> Result<PathBuf, Error> {
    let container = engine.container(name)?;
    match container.state.process.filter(|_| container.state.status == Status::Running) {
        Some(process) => Ok(PathBuf::from(format!("/proc/{}/ns/net", process.pid))),
        None => Err(Error::State {
            name: container.config.name.clone(),
            status: container.state.status.to_string(),
            remedy: "start it first: its network is there only while it runs",
        }),
    }
}

impl Plan {
    /// The container's address on the bridge.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.interface().map(|interface| interface.address)
    }

    fn interface(&self) -> Option<Interface> {
        match &self.kind {
            Kind::Bridge(reservation) => Some(reservation.interface()),
            _ => None,
        }
    }

    /// Which network namespace it has.
    pub fn namespace(&self) -> NetworkNamespace {
        match &self.kind {
            Kind::Bridge(_) | Kind::Helper(..) | Kind::Loopback => NetworkNamespace::New,
            Kind::Host => NetworkNamespace::Host,
            Kind::Container(path) => NetworkNamespace::Path(path.clone()),
        }
    }

    /// What its init process does there.
    pub fn for_init(&self) -> sampan_runtime::Network {
        match &self.kind {
            Kind::Bridge(reservation) => sampan_runtime::Network::Interface(reservation.interface()),
            Kind::Helper(..) | Kind::Loopback => sampan_runtime::Network::LoopbackOnly,
            Kind::Host | Kind::Container(_) => sampan_runtime::Network::Inherit,
        }
    }

    /// The text of its `/etc/resolv.conf`, from the host's.
    pub fn resolv_conf(&self, host: &str) -> String {
        match &self.kind {
            // A loopback server of the host answers there, and nowhere else.
            Kind::Host => host.to_owned(),
            Kind::Helper(program, _) => match program.name_server() {
                Some(server) => format!("nameserver {server}\n"),
                None => host.to_owned(),
            },
            _ => ::network::resolv_conf(host),
        }
    }

    /// Makes the link, now that the process `pid` has the namespace. `folder` is for what a helper writes.
    ///
    /// # Errors
    /// The step that failed.
    pub fn attach(self, config: &Config, pid: i32, folder: &Path) -> Result<Link, Error> {
        let pid = Pid::from_raw(pid);
        let mut link = Link { helper: None, notice: self.notice };
        match self.kind {
            Kind::Bridge(reservation) => drop(reservation.attach(pid, &config.id)?),
            Kind::Helper(program, ports) => match rootless::start(program, pid, &ports, folder) {
                Ok(helper) => link.helper = Some(helper),
                // A host without a network of its own, say: nothing was asked for that this takes away.
                Err(error) if ports.is_empty() => {
                    link.notice = Some(format!("the container has its loopback alone: {error}"));
                }
                Err(error) => return Err(error.into()),
            },
            Kind::Loopback | Kind::Host | Kind::Container(_) => {}
        }
        Ok(link)
    }
}

/// What a running container has of its network on this side.
#[derive(Debug)]
pub struct Link {
    /// The process that carries an ordinary user's packets: whoever holds this stops it at the container's end.
    pub helper: Option<Helper>,
    /// What the user should know: a setting of the host that was changed, or something that there is not.
    pub notice: Option<String>,
}

/// How long a bridge without containers is kept for the next one.
const LINGER: Duration = Duration::from_secs(1);

/// Gives back what a container has of the bridge. Also after a shim that was killed.
///
/// # Errors
/// The step that failed.
pub(crate) fn detach(config: &Config) -> Result<(), Error> {
    if on_bridge(config) {
        ::network::detach(&BridgeConfig::default(), &config.id)?;
    }
    Ok(())
}

/// Removes the bridge if that was its last container, after a moment. Removing a link takes the kernel 25 to 45 ms, which
/// nobody should wait for: neither the client, which is told before, nor the next container, which finds the bridge there.
///
/// # Errors
/// The step that failed.
pub(crate) fn sweep_after_a_moment(config: &Config) -> Result<(), Error> {
    if on_bridge(config) {
        std::thread::sleep(LINGER);
        sweep(config)?;
    }
    Ok(())
}

/// Removes the bridge if it has no container.
///
/// # Errors
/// The step that failed.
pub(crate) fn sweep(config: &Config) -> Result<(), Error> {
    if on_bridge(config) {
        ::network::sweep(&BridgeConfig::default())?;
    }
    Ok(())
}

fn on_bridge(config: &Config) -> bool {
    geteuid().is_root() && Mode::parse(&config.network).is_ok_and(|mode| mode == Mode::Bridge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modes_of_docker_and_no_other() {
        assert_eq!(Mode::parse("container:net1").unwrap(), Mode::Container("net1".to_owned()));
        assert_eq!(Mode::parse("bridge").unwrap(), Mode::Bridge);
        for text in ["", "container:", "macvlan", "container"] {
            assert!(Mode::parse(text).is_err(), "{text}");
        }
    }
}
