//! Whose network the container gets, and what must be made for it on the host's side.

use std::cell::RefCell;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process;

use namespaces::{Config, Join, Kind};
use network::rootless::{self, Helper, Program};
use network::{Attachment, BridgeConfig, Interface, PublishedPort, Reservation, inside};
use nix::unistd::{Pid, geteuid};
use step::StepError;

use crate::Result;
use crate::args::{Args, Mode};

/// The container's network, and how far it is made.
pub(crate) struct Network {
    plan: Plan,
    ports: Vec<PublishedPort>,
    config: BridgeConfig,
    made: RefCell<Made>,
}

/// What is to be done.
enum Plan {
    Bridge(Interface),
    Helper(Program),
    Loopback,
    Host,
    Join(i32),
}

/// What is there and must be taken back.
enum Made {
    Nothing,
    Reserved(Reservation),
    Attached(Attachment),
    Helped(Helper),
}

impl Network {
    /// All that can be done, and can fail, before there is a container.
    // ANCHOR: mode
    pub(crate) fn prepare(args: &Args) -> Result<Self> {
        let config = BridgeConfig { subnet: args.subnet, ..BridgeConfig::default() };
        let mut ports = args.ports();
        let mut made = Made::Nothing;
        let plan = match args.network {
            Mode::Bridge if geteuid().is_root() => {
                let reservation = network::prepare(&config, &ports)?;
                if reservation.forwarding_enabled {
                    eprintln!(
                        "net.ipv4.ip_forward was 0 and is 1 now: the host passes packets on (`sysctl -w net.ipv4.ip_forward=0` takes it back)"
                    );
                }
                ports = reservation.ports().to_vec();
                let interface = reservation.interface();
                made = Made::Reserved(reservation);
                Plan::Bridge(interface)
            }
            Mode::Bridge => match rootless::find() {
                Ok(program) => {
                    network::ports::require_free(&mut ports)?;
                    Plan::Helper(program)
                }
                Err(missing) if ports.is_empty() => {
                    eprintln!("no network but loopback, for an ordinary user needs a helper: {missing}");
                    Plan::Loopback
                }
                Err(missing) => {
                    return Err(format!("-p needs a helper where the user is not root: {missing}").into());
                }
            },
            _ if !ports.is_empty() => return Err("-p needs --network bridge".into()),
            Mode::None => Plan::Loopback,
            Mode::Host => Plan::Host,
            Mode::Container(pid) => Plan::Join(pid),
        };
        Ok(Self { plan, ports, config, made: RefCell::new(made) })
    }
    // ANCHOR_END: mode

    /// The namespaces that are not the container's own.
    pub(crate) fn shared(&self) -> &'static [Kind] {
        if matches!(self.plan, Plan::Host | Plan::Join(_)) { &[Kind::Network] } else { &[] }
    }

    /// Lets the container's process be born in another's network namespace, where that is the mode.
    pub(crate) fn join(&self, config: &mut Config) -> Result<()> {
        if let Plan::Join(pid) = self.plan {
            let path = format!("/proc/{pid}/ns/net");
            let file = File::open(&path).map_err(|error| StepError::new("open", &path, error))?;
            if file.metadata()?.ino() == fs::metadata("/proc/self/ns/net")?.ino() {
                return Err(format!(
                    "process {pid} is in the host's own network: give the pid of a process inside the container, as `ps` on the host shows it"
                )
                .into());
            }
            config.join.push(Join { kinds: vec![Kind::Network], fd: file.into() });
        }
        Ok(())
    }

    /// The host's side, when the container's process is there.
    pub(crate) fn attach(&self, pid: Pid, directory: &Path) -> Result<()> {
        let made = match (self.made.replace(Made::Nothing), &self.plan) {
            (Made::Reserved(reservation), _) => {
                Made::Attached(reservation.attach(pid, &process::id().to_string())?)
            }
            (_, Plan::Helper(program)) => {
                Made::Helped(rootless::start(*program, pid, &self.ports, directory)?)
            }
            (made, _) => made,
        };
        self.made.replace(made);
        Ok(())
    }

    /// The container's side: called by the init process.
    pub(crate) fn configure(&self) -> std::result::Result<(), StepError> {
        match &self.plan {
            Plan::Bridge(interface) => inside::configure(interface),
            Plan::Helper(_) | Plan::Loopback => inside::loopback_only(),
            Plan::Host | Plan::Join(_) => Ok(()),
        }
    }

    /// Whether 127.0.0.1 is the container's own, so that the host's resolver there is out of its reach.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self.plan, Plan::Host)
    }

    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        if let Plan::Bridge(interface) = &self.plan { Some(interface.address) } else { None }
    }

    pub(crate) fn name_server(&self) -> Option<Ipv4Addr> {
        if let Plan::Helper(program) = &self.plan { program.name_server() } else { None }
    }

    /// Takes back all that was made.
    pub(crate) fn remove(self) -> Result<()> {
        match self.made.into_inner() {
            Made::Attached(attachment) => Ok(attachment.remove()?),
            Made::Helped(helper) => Ok(helper.stop()?),
            Made::Reserved(reservation) => Ok(reservation.cancel()?),
            // An attachment that failed half way leaves its marks by name.
            Made::Nothing if matches!(self.plan, Plan::Bridge(_)) => {
                network::detach(&self.config, &process::id().to_string())?;
                network::sweep(&self.config)?;
                Ok(())
            }
            Made::Nothing => Ok(()),
        }
    }
}
