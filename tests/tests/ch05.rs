//! Tests of chapter 5, the network: packets that arrive, or do not.
//!
//! A test's own network namespace is the *host*. A second one, at the other end of a cable, is the world *outside*.

mod life;
mod modes;
mod reach;
mod rootless;

use std::error::Error;
use std::ffi::OsString;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{Child, Host, Need, Test, args, wait_until};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What a container on the bridge takes, and what a test takes that looks at it.
const BRIDGE: &[Need] = &[Need::Root, Need::Rootfs, Need::Bridge, Need::Nftables, Need::Program("ip")];
const SOON: Duration = Duration::from_secs(60);
const BIN: &str = "05-network";

const HOST_ADDRESS: &str = "198.51.100.1";
const OUTSIDE_ADDRESS: &str = "198.51.100.2";

pub(crate) fn tests() -> Vec<Test> {
    [reach::tests(), life::tests(), modes::tests(), rootless::tests()].concat()
}

/// A running 05-network. It is ended gently when this is dropped: one that is killed cannot take its network back.
struct Container(Child);

impl Container {
    /// Starts the probe as a server on `port`, in a container with these further arguments, and waits until it listens.
    fn serve(host: &Host, options: &[&str], port: &str) -> Result<Self> {
        let mut words = strings(options);
        words.push(host.rootfs()?.into());
        words.extend(args!["/kit/probe", "listen"]);
        words.extend(port.split(' ').map(OsString::from));
        Self::start(host, words, "listening")
    }

    fn start(host: &Host, words: Vec<OsString>, sign: &str) -> Result<Self> {
        let mut container = Self(host.spawn(BIN, words)?);
        container.wait_for(sign)?;
        Ok(container)
    }

    /// The process inside, by its pid on the host.
    fn inner(&self) -> Result<i32> {
        let all = tests::ask::descendants(self.pid());
        all.last().copied().ok_or_else(|| "no process inside".into())
    }

    /// Ends it and waits until it is gone.
    fn end(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        if !self.0.ended() {
            self.0.signal(Signal::SIGTERM)?;
        }
        wait_until("the container is at its end", SOON, || self.0.ended())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

impl Deref for Container {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Container {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// The world outside: another network namespace, with a cable to the host.
pub(crate) struct Outside(Child);

impl Outside {
    pub(crate) fn make(host: &Host) -> Result<Self> {
        let child = host.spawn("unshare", ["--net", "sleep", "1000"])?;
        let outside = Self(child);
        let (pid, ours) = (outside.0.pid(), tests::ns_inode(std::process::id().cast_signed(), "net")?);
        wait_until("the world outside is there", SOON, || {
            tests::ns_inode(pid, "net").is_ok_and(|inode| inode != ours)
        })?;
        ip(host, &format!("link add uplink type veth peer name eth0 netns {pid}"))?;
        ip(host, &format!("address add {HOST_ADDRESS}/24 dev uplink"))?;
        ip(host, "link set uplink up")?;
        outside.run(host, &["ip", "address", "add", &format!("{OUTSIDE_ADDRESS}/24"), "dev", "eth0"])?;
        outside.run(host, &["ip", "link", "set", "eth0", "up"])?;
        outside.run(host, &["ip", "link", "set", "lo", "up"])?;
        ip(host, &format!("route add default via {OUTSIDE_ADDRESS}"))?;
        Ok(outside)
    }

    fn words(&self, words: &[&str]) -> Vec<OsString> {
        let mut all = args!["-t", self.0.pid().to_string(), "-n", "--"].to_vec();
        all.extend(strings(words));
        all
    }

    fn run(&self, host: &Host, words: &[&str]) -> Result<String> {
        Ok(host.command("nsenter", self.words(words))?.success()?.stdout)
    }

    fn serve(&self, host: &Host, port: &str) -> Result<Child> {
        let probe = host.bin("probe");
        let mut words = vec![probe.to_str().unwrap_or_default(), "listen"];
        words.extend(port.split(' '));
        let mut child = host.spawn("nsenter", self.words(&words))?;
        child.wait_for("listening")?;
        Ok(child)
    }

    /// Who answered, and from which address it saw this question come; none where nobody did.
    fn ask(&self, host: &Host, to: &str) -> Result<Option<(String, String)>> {
        answer(&self.knock(host, to)?)
    }

    fn knock(&self, host: &Host, to: &str) -> Result<tests::Output> {
        let probe = host.bin("probe");
        let mut words = vec![probe.to_str().unwrap_or_default(), "connect"];
        words.extend(to.split(' '));
        host.command("nsenter", self.words(&words))
    }
}

/// The same from the host itself.
fn ask(host: &Host, to: &str) -> Result<Option<(String, String)>> {
    let mut words = vec!["connect"];
    words.extend(to.split(' '));
    answer(&host.command("probe", words)?)
}

/// The same from a new container with these options.
fn ask_from_container(host: &Host, options: &[&str], to: &str) -> Result<Option<(String, String)>> {
    let mut words = strings(options);
    words.push(host.rootfs()?.into());
    words.extend(args!["/kit/probe", "connect"]);
    words.extend(to.split(' ').map(OsString::from));
    answer(&host.command(BIN, words)?)
}

/// The probe's server says `NAME ADDRESS:PORT`.
fn answer(output: &tests::Output) -> Result<Option<(String, String)>> {
    let json = output.json()?;
    if json["connected"] != true {
        return Ok(None);
    }
    let said = json["answer"].as_str().unwrap_or_default();
    let (name, peer) = said.split_once(' ').ok_or_else(|| format!("no answer of the probe: {output}"))?;
    let address = peer.rsplit_once(':').map_or(peer, |(address, _)| address);
    Ok(Some((name.to_owned(), address.to_owned())))
}

fn some(name: &str, address: &str) -> Option<(String, String)> {
    Some((name.to_owned(), address.to_owned()))
}

fn ip(host: &Host, words: &str) -> Result<String> {
    Ok(host.command("ip", words.split(' '))?.success()?.stdout)
}

fn strings(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// The names of the host's links, as the kernel lists them for this process's network namespace.
fn links() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

/// Waits until nothing of ours is left on the host. The cables go with the containers' namespaces, which takes the kernel a moment.
fn all_gone(host: &Host) -> Result<()> {
    wait_until("the containers' links are gone", SOON, || {
        !links().iter().any(|name| name.starts_with("sampan"))
    })?;
    for path in ["/run/sampan", "/proc/sys/net/ipv4/conf/sampan0"] {
        assert!(!PathBuf::from(path).exists(), "{path} is left");
    }
    let sockets = std::fs::read_to_string("/proc/self/net/unix")?;
    assert!(!sockets.contains("@sampan/"), "a reservation is left:\n{sockets}");
    if Need::Program("nft").missing(host).is_none() {
        assert_eq!(host.command("nft", ["list", "tables"])?.success()?.stdout, "");
    }
    Ok(())
}
