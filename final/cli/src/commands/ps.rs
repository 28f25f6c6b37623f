//! `sampan ps`.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use sampan_engine::{Container, Engine, Status};

use crate::format;

/// List the containers
#[derive(Args)]
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
            let ports = if container.state.status == Status::Running {
                config.ports.join(", ")
            } else {
                String::new()
            };
            vec![
                id(container),
                config.image.clone(),
                self.command(container),
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

    fn command(&self, container: &Container) -> String {
        let command = container.config.args.join(" ");
        let longest = 19;
        if self.no_trunc || command.chars().count() <= longest + 1 {
            format!("\"{command}\"")
        } else {
            format!("\"{}…\"", command.chars().take(longest).collect::<String>())
        }
    }
}

fn status(container: &Container) -> String {
    let state = &container.state;
    let since = |time: Option<Timestamp>| time.map_or_else(String::new, format::ago);
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => format!("Up {}", since(state.started).trim_end_matches(" ago")),
        Status::Exited => format!("Exited ({}) {}", state.exit_code.unwrap_or(0), since(state.finished)),
    }
}
