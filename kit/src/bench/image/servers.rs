//! What listens meanwhile: two registries on the loopback device, one that has the image and one that is empty before each push; and a
//! Docker daemon that touches neither network nor cgroups.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::sample::{self, Sample};
use super::tool::Tool;
use crate::host;

/// A program that runs until this value is dropped.
#[derive(Debug)]
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(i32::MAX));
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Servers {
    work: PathBuf,
    full: (u16, Server),
    empty: (u16, Option<Server>),
    docker: Option<Server>,
}

impl Servers {
    pub(crate) fn start(work: &Path, docker: bool) -> Result<Self> {
        let (full, empty) = (free_port()?, free_port()?);
        let docker = docker && host::program("docker").is_some() && host::program("dockerd").is_some();
        Ok(Self {
            work: work.to_owned(),
            full: (full, registry(&work.join("registry-full"), full)?),
            empty: (empty, None),
            docker: docker.then(|| daemon(work)).transpose()?,
        })
    }

    /// What the image is called in the registry that has it.
    pub(crate) fn full(&self) -> String {
        format!("127.0.0.1:{}/bench:latest", self.full.0)
    }

    /// What it is called in the empty one.
    pub(crate) fn empty(&self) -> String {
        format!("127.0.0.1:{}/bench:latest", self.empty.0)
    }

    /// Gives the full registry the image of this round, by the first tool that can.
    pub(crate) fn seed(&mut self, tools: &mut [Tool], sample: &Sample) -> Result<()> {
        let sampan = tools.iter_mut().find(|tool| tool.name == super::tool::SAMPAN).context("no sampan")?;
        sampan.send(sample, &self.full())
    }

    /// An empty registry at the same address.
    pub(crate) fn renew(&mut self) -> Result<()> {
        self.empty.1 = None;
        let folder = self.work.join("registry-empty");
        if folder.exists() {
            fs::remove_dir_all(&folder).context("empty the registry")?;
        }
        self.empty.1 = Some(registry(&folder, self.empty.0)?);
        Ok(())
    }

    pub(crate) fn has_docker(&self) -> bool {
        self.docker.is_some()
    }

    /// The most memory that the daemon held since it was asked last, in KiB.
    pub(crate) fn docker_peak(&self) -> Option<u64> {
        let pid = self.docker.as_ref()?.0.id();
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
        // See proc_pid_clear_refs(5); where it cannot be done, the figure is that of all runs so far.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        peak.parse().ok()
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a port")?;
    Ok(listener.local_addr()?.port())
}

fn registry(folder: &Path, port: u16) -> Result<Server> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let config = json!({
        "version": "0.1",
        "log": { "level": "error" },
        "storage": { "filesystem": { "rootdirectory": folder.join("data") } },
        "http": { "addr": format!("127.0.0.1:{port}") },
    });
    let path = folder.join("config.yml");
    fs::write(&path, config.to_string()).context("write the registry's settings")?;
    let child = quiet(Command::new("docker-registry").arg("serve").arg(&path));
    let server = Server(child.context("run docker-registry (Debian: apt-get install docker-registry)")?);
    until("docker-registry", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok(server)
}

fn daemon(work: &Path) -> Result<Server> {
    let folder = work.join("docker");
    fs::create_dir_all(&folder).context("make the daemon's folder")?;
    let socket = folder.join("socket");
    let config = json!({
        "data-root": folder.join("data"),
        "exec-root": folder.join("exec"),
        "pidfile": folder.join("pid"),
        "hosts": [format!("unix://{}", socket.display())],
        "bridge": "none",
        "iptables": false,
        "ip6tables": false,
        "ip-forward": false,
        "ip-masq": false,
    });
    let path = folder.join("daemon.json");
    fs::write(&path, config.to_string()).context("write the daemon's settings")?;
    let server =
        Server(quiet(Command::new("dockerd").arg("--config-file").arg(&path)).context("run dockerd")?);
    until("dockerd", || UnixStream::connect(&socket).is_ok())?;
    let host = format!("unix://{}", socket.display());
    sample::run(Command::new("docker").args(["-H", &host, "version"]))?;
    Ok(server)
}

fn quiet(command: &mut Command) -> std::io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn until(name: &str, ready: impl Fn() -> bool) -> Result<()> {
    for _ in 0..400 {
        if ready() {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    bail!("{name} does not listen after 20 seconds")
}
