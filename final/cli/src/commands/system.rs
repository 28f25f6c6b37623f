//! `sampan system ...`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use sampan_engine::{Engine, Status};

use crate::format;

/// The machine as the engine uses it
#[derive(Subcommand)]
pub(crate) enum System {
    /// Show how much room images and containers take
    Df(Df),
}

impl System {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        match self {
            Self::Df(command) => command.run(engine),
        }
    }
}

/// Show how much room images and containers take
#[derive(Args)]
#[command(after_help = "Example:\n  sampan system df -v")]
pub(crate) struct Df {
    /// Each image
    #[arg(short, long)]
    verbose: bool,
}

impl Df {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let images = engine.images().list()?;
        let usage = engine.images().usage(&images)?;
        let used = engine.used_images()?;
        let unused = || images.iter().filter(|image| !used.contains_key(&image.id.to_string()));
        if self.verbose {
            let row = |image: &sampan_engine::Image| {
                let unique = usage.only_of([image]);
                let all = usage.of(image);
                let containers = used.get(&image.id.to_string()).copied().unwrap_or(0);
                let sizes = [all, all - unique, unique].map(format::size);
                [
                    vec![image.name(), image.id.short().to_owned()],
                    sizes.to_vec(),
                    vec![containers.to_string()],
                ]
                .concat()
            };
            let header = ["IMAGE", "IMAGE ID", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"];
            println!("{}", format::table(&header, images.iter().map(row).collect()));
            return Ok(ExitCode::SUCCESS);
        }
        let (total, free) = (usage.total(), usage.only_of(unused()));
        let containers = engine.containers()?;
        let sizes: Vec<_> = containers
            .iter()
            .map(|container| Ok((container.state.status == Status::Running, engine.written(container)?)))
            .collect::<Result<_, sampan_engine::Error>>()?;
        let sum = |running: Option<bool>| -> u64 {
            sizes
                .iter()
                .filter(|(runs, _)| running.is_none_or(|wanted| *runs == wanted))
                .map(|(_, size)| size)
                .sum()
        };
        let running = sizes.iter().filter(|(runs, _)| *runs).count();
        let rows = vec![
            row("Images", images.len(), images.len() - unused().count(), total, free),
            row("Containers", containers.len(), running, sum(None), sum(Some(false))),
        ];
        println!("{}", format::table(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], rows));
        Ok(ExitCode::SUCCESS)
    }
}

fn row(kind: &str, total: usize, active: usize, size: u64, free: u64) -> Vec<String> {
    let percent = (free * 100).checked_div(size).unwrap_or(0);
    vec![
        kind.to_owned(),
        total.to_string(),
        active.to_string(),
        format::size(size),
        format!("{} ({percent}%)", format::size(free)),
    ]
}
