//! `sampan system ...`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use sampan_engine::volume::Usage;
use sampan_engine::{Container, Engine, Image, Status};
use sampan_image::Reference;
use serde_json::{Value, json};

use super::ps;
use crate::format;
use crate::template::Template;

/// How much room is taken
#[derive(Subcommand)]
pub(crate) enum System {
    /// Show how much room images, containers and volumes take
    Df(Df),
}

impl System {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        match self {
            Self::Df(command) => command.run(engine),
        }
    }
}

/// Show how much room images, containers and volumes take
#[derive(Args)]
#[command(after_help = "Example:\n  sampan system df -v")]
pub(crate) struct Df {
    /// Each image, container and volume
    #[arg(short, long)]
    verbose: bool,
    /// A Go template, `table` and one, or `json`
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "verbose")]
    format: Option<String>,
}

impl Df {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let images = engine.images().list()?;
        let containers: Vec<_> = engine
            .containers()?
            .into_iter()
            .map(|container| Ok((engine.written(&container)?, container)))
            .collect::<Result<_, sampan_engine::Error>>()?;
        let volumes = engine.volume_usage()?;
        if self.verbose {
            println!("Images space usage:\n\n{}\n", each_image(engine, &images)?);
            println!("Containers space usage:\n\n{}\n", each_container(&containers));
            println!("Local Volumes space usage:\n\n{}", each_volume(&volumes));
            return Ok(ExitCode::SUCCESS);
        }
        let usage = engine.images().usage(&images)?;
        let used = engine.used_images()?;
        let unused: Vec<_> =
            images.iter().filter(|image| !used.contains_key(&image.id.to_string())).collect();
        let active = images.len() - unused.len();
        let rows = [
            row("Images", images.len(), active, usage.total(), usage.only_of(unused)),
            summary("Containers", &containers.iter().map(|(size, it)| (*size, runs(it))).collect::<Vec<_>>()),
            summary("Local Volumes", &volumes.iter().map(|it| (it.size, it.links > 0)).collect::<Vec<_>>()),
        ];
        let wrong = |reason| anyhow::anyhow!("--format: {reason}");
        let default = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
        let text = self.format.as_deref().filter(|text| *text != "table").unwrap_or(default);
        let header = json!({"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"});
        print!("{}", Template::parse(text).map_err(wrong)?.render_list(&rows, &header).map_err(wrong)?);
        Ok(ExitCode::SUCCESS)
    }
}

fn runs(container: &Container) -> bool {
    container.state.status == Status::Running
}

/// A line for things that share nothing, each with its size and whether it is active; what is not is to be had back.
fn summary(kind: &str, things: &[(u64, bool)]) -> Value {
    let sum = |inactive: bool| -> u64 {
        things.iter().filter(|(_, active)| !(inactive && *active)).map(|(size, _)| size).sum()
    };
    let active = things.iter().filter(|(_, active)| *active).count();
    row(kind, things.len(), active, sum(false), sum(true))
}

fn row(kind: &str, total: usize, active: usize, size: u64, free: u64) -> Value {
    let percent = (free * 100).checked_div(size).map(|percent| format!(" ({percent}%)")).unwrap_or_default();
    json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        "Active": active.to_string(),
        "Size": format::size(size),
        "Reclaimable": format::size(free) + &percent,
    })
}

fn each_image(engine: &Engine, images: &[Image]) -> anyhow::Result<String> {
    let (usage, used) = (engine.images().usage(images)?, engine.used_images()?);
    let row = |image: &Image| {
        let name = image.references.first();
        let (all, unique) = (usage.of(image), usage.only_of([image]));
        let containers = used.get(&image.id.to_string()).copied().unwrap_or(0);
        vec![
            name.map_or_else(|| "<none>".to_owned(), Reference::familiar_name),
            name.and_then(Reference::tag).unwrap_or("<none>").to_owned(),
            image.id.short().to_owned(),
            image.created.map_or_else(|| "N/A".to_owned(), format::ago),
            format::size(all),
            format::size(all - unique),
            format::size(unique),
            containers.to_string(),
        ]
    };
    let header =
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"];
    Ok(format::table(&header, images.iter().map(row).collect()))
}

fn each_container(containers: &[(u64, Container)]) -> String {
    let row = |(size, container): &(u64, Container)| {
        let config = &container.config;
        let volumes = config.mounts.iter().filter(|mount| mount.volume.is_some()).count();
        vec![
            container.short_id().to_owned(),
            config.image.clone(),
            ps::command(container, false),
            volumes.to_string(),
            format::size(*size),
            format::ago(config.created),
            ps::status(container),
            config.name.clone(),
        ]
    };
    let header = ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"];
    format::table(&header, containers.iter().map(row).collect())
}

fn each_volume(volumes: &[Usage]) -> String {
    let row = |volume: &Usage| vec![volume.name.clone(), volume.links.to_string(), format::size(volume.size)];
    format::table(&["VOLUME NAME", "LINKS", "SIZE"], volumes.iter().map(row).collect())
}
