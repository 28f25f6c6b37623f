//! Somebody to talk to: another network namespace at the end of a cable, with a listener in it.
//!
//! It stands for everything beyond the host. Its address is of the range that is kept for examples (RFC 5737).

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::mpsc;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use super::container::Session;
use crate::{netlink, place};

/// The host's end of the cable, and the world's.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(crate) const WORLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Where the world listens.
pub(crate) const PORT: u16 = 7000;
const LINK: &str = "sampan-world";

/// The world: it ends when this does.
pub(crate) struct World {
    session: Session,
}

impl World {
    /// Makes it. Root's privilege.
    pub(crate) fn make() -> Result<Self> {
        let (cable, plugged) = mpsc::channel::<()>();
        let (report, started) = mpsc::channel();
        // unshare(2) moves one thread: this one stays where it is, and what the other starts is born over there.
        let thread = std::thread::spawn(move || -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET).context("make the world's network namespace")?;
            let probe = place::kit().join("bin/probe");
            let probe = probe.to_str().context("a path that is no text")?;
            let session = Session::start(Command::new("/usr/bin/env"), probe)?;
            report.send(session).map_err(|_| anyhow!("nobody waits for the world"))?;
            plugged.recv()?;
            netlink::set_up("lo", None)?;
            netlink::set_up("eth0", Some((WORLD, 24)))?;
            Ok(())
        });
        let made = started.recv().context("the world does not begin").and_then(|session| {
            netlink::new_veth(LINK, "eth0", session.pid)?;
            netlink::set_up(LINK, Some((HOST, 24)))?;
            cable.send(())?;
            Ok(session)
        });
        let joined = thread.join().map_err(|_| anyhow!("the world's thread died"))?;
        let mut session = made?;
        joined?;
        session.ask(&format!("listen {PORT}"))?;
        Ok(Self { session })
    }

    /// Who has asked the world's listener since the last question: the address that it saw.
    pub(crate) fn asked_from(&mut self) -> Result<Option<Ipv4Addr>> {
        let peer = self.session.line()?;
        Ok(peer.get("peer").and_then(Value::as_str).and_then(|peer| peer.split(':').next()?.parse().ok()))
    }

    /// What a port of the host answers to somebody in the world.
    pub(crate) fn ask(&mut self, port: u16) -> Result<Option<String>> {
        let answer = self.session.ask(&format!("connect {HOST}:{port}"))?;
        Ok(answer.get("answer").and_then(Value::as_str).map(|text| text.trim().to_owned()))
    }

    /// Ends it; the cable goes with its namespace.
    pub(crate) fn end(self) -> Result<()> {
        self.session.end()
    }
}
