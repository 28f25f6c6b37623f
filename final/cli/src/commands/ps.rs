//! `sampan ps`.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use sampan_engine::{Container, Engine, Status};

use crate::format;

/// List the containers
#[derive(Args)]
#[command(after_help = "Example:\n  sampan ps -a")]
pub(crate) struct Ps {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
}

impl Ps {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let containers = engine.containers()?;
        let shown =
            containers.iter().filter(|container| self.all || container.state.status == Status::Running);
        let id = |container: &Container| {
            if self.no_trunc { container.config.id.clone() } else { container.short_id().to_owned() }
        };
        if self.quiet {
            shown.for_each(|container| println!("{}", id(container)));
            return Ok(ExitCode::SUCCESS);
        }
        let rows = shown.map(|container| {
            let config = &container.config;
            let ports =
                if container.state.status == Status::Running { ports(&config.ports) } else { String::new() };
            vec![
                id(container),
                config.image.clone(),
                command(container, self.no_trunc),
                format::ago(config.created),
                status(container),
                ports,
                config.name.clone(),
            ]
        });
        let header = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
        println!("{}", format::table(&header, rows.collect()));
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn command(container: &Container, whole: bool) -> String {
    let command = container.config.args.join(" ");
    let longest = 19;
    if whole || command.chars().count() <= longest + 1 {
        format!("\"{command}\"")
    } else {
        format!("\"{}…\"", command.chars().take(longest).collect::<String>())
    }
}

/// `0.0.0.0:8080->80/tcp`, as Docker shows them; a port that the host chose stands as it was asked for.
fn ports(asked: &[String]) -> String {
    let shown = |text: &String| match sampan_engine::network::parse_port(text) {
        Ok(ports) if ports.iter().all(|port| port.host_port != 0) => ports
            .iter()
            .map(|port| {
                let (ip, host, container) = (port.host_ip, port.host_port, port.container_port);
                format!("{ip}:{host}->{container}/{}", port.protocol)
            })
            .collect(),
        _ => vec![text.clone()],
    };
    asked.iter().flat_map(shown).collect::<Vec<_>>().join(", ")
}

pub(super) fn status(container: &Container) -> String {
    let state = &container.state;
    let since = |time: Option<Timestamp>| time.map_or_else(String::new, format::ago);
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => format!("Up {}", since(state.started).trim_end_matches(" ago")),
        Status::Exited => format!("Exited ({}) {}", state.exit_code.unwrap_or(0), since(state.finished)),
    }
}
