//! `sampan registry serve`.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sampan_api::registry::{Options, Server, of_this_machine};
use sampan_engine::Engine;

/// A registry of one's own
#[derive(Subcommand)]
pub(crate) enum Registry {
    /// Serve images to other machines
    Serve(Serve),
}

/// Serve images to other machines, and take theirs
///
/// Offered is every image whose name begins with the registry's own, localhost:5000 by default: `sampan tag` offers one, `sampan
/// rmi` takes it back. What others push gets such a name here. At / is a page with everything that there is.
#[derive(Args)]
#[command(
    after_help = "Example:\n  sampan tag busybox localhost:5000/busybox\n  sampan registry serve --listen 0.0.0.0:5000"
)]
pub(crate) struct Serve {
    /// Where to listen: ADDRESS:PORT, 0.0.0.0:PORT for all of this machine's addresses
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS:PORT")]
    listen: String,
    /// What the names of offered images begin with, in this store [default: localhost:PORT]
    #[arg(long, value_name = "HOST[:PORT]")]
    name: Option<String>,
    /// Let in only who is in this file, which `htpasswd -B` has written
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// The certificate for TLS, followed by those that vouch for it (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Registry {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(command) => command.run(engine),
        }
    }
}

impl Serve {
    fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let found = self.listen.to_socket_addrs().map(|mut addresses| addresses.next());
        let listen = found.ok().flatten().with_context(|| format!("{:?} is no ADDRESS:PORT", self.listen))?;
        let secure = self.tls_cert.is_some();
        let locked = self.htpasswd.is_some();
        let options = Options {
            listen,
            name: self.name,
            htpasswd: self.htpasswd,
            tls: self.tls_cert.zip(self.tls_key),
        };
        let server = Server::new(engine.images().clone(), &options)
            .with_context(|| format!("cannot serve a registry on {listen}"))?;
        // Whoever reads may be gone; the registry is for others.
        let told = greeting(server.address()?, server.name(), secure, locked);
        let _ = std::io::stdout().write_all(told.as_bytes()).and_then(|()| std::io::stdout().flush());
        server.run()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What to type, here and on the other machines.
fn greeting(address: SocketAddr, name: &str, secure: bool, locked: bool) -> String {
    let port = address.port();
    let scheme = if secure { "https" } else { "http" };
    let mut hosts: Vec<IpAddr> =
        if address.ip().is_unspecified() { of_this_machine() } else { vec![address.ip()] };
    let is_alone = hosts.iter().all(IpAddr::is_loopback);
    if hosts.is_empty() {
        hosts.push(IpAddr::from([127, 0, 0, 1]));
    }
    let hosts: Vec<_> = hosts.into_iter().map(|host| SocketAddr::new(host, port).to_string()).collect();
    let pages: Vec<_> = hosts.iter().map(|host| format!("{scheme}://{host}/")).collect();
    let host = &hosts[0];
    let mut lines = vec![
        format!("Serving the images named {name}/... at {}", pages.join(" and ")),
        format!("  to offer one:  sampan tag IMAGE {name}/NAME:TAG"),
        format!("  to get one:    sampan pull {host}/NAME:TAG"),
        format!("  to give one:   sampan tag IMAGE {host}/NAME:TAG && sampan push {host}/NAME:TAG"),
    ];
    if locked {
        lines.push(format!("  once before:   sampan login {host}"));
    }
    if is_alone {
        lines.push(format!("Only this machine reaches it; for others: --listen 0.0.0.0:{port}"));
    } else if secure {
        lines.push(format!(
            "Other machines trust it once its authority's certificate is there: /etc/sampan/certs.d/{host}/ca.crt, /etc/docker/certs.d/{host}/ca.crt"
        ));
    } else {
        lines.push(
            "Other machines ask for a certificate unless they are told, once, that it has none:".to_owned(),
        );
        lines.push(format!(
            "  sampan         insecure-registries = [\"{host}\"]      in /etc/sampan/config.toml"
        ));
        lines.push(format!(
            "  Docker         {{\"insecure-registries\": [\"{host}\"]}}  in /etc/docker/daemon.json"
        ));
        lines.push("  Podman         --tls-verify=false".to_owned());
    }
    if locked && !secure && !is_alone {
        lines.push("Without a certificate whoever listens on the network reads the passwords".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}
