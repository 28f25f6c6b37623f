//! `sampan image ...`: the commands about images, under one roof as with Docker.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use sampan_engine::Engine;

use super::images::Filters;
use super::{build, history, images, import, load, pull, push, rmi, save, tag};
use crate::format;
use crate::ids::with_all;
use crate::template::Template;

/// Images
#[derive(Subcommand)]
pub(crate) enum Image {
    /// List the images
    #[command(visible_alias = "list")]
    Ls(images::Images),
    /// Build an image from a Dockerfile
    Build(build::Build),
    /// Show the steps that made an image
    History(history::History),
    /// Make an image from a root file system's tar archive
    Import(import::Import),
    /// Show all that is known of images, as JSON
    Inspect(Inspect),
    /// Read images from an archive
    Load(load::Load),
    /// Remove images that no container uses
    Prune(Prune),
    /// Get an image from a registry
    Pull(pull::Pull),
    /// Give an image to a registry
    Push(push::Push),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rmi::Rmi),
    /// Write images into an archive
    Save(save::Save),
    /// Give an image one more name
    Tag(tag::Tag),
}

impl Image {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        match self {
            Self::Ls(command) => command.run(engine),
            Self::Build(command) => command.run(engine),
            Self::History(command) => command.run(engine),
            Self::Import(command) => with_all(engine, || command.run(engine)),
            Self::Inspect(command) => command.run(engine),
            Self::Load(command) => with_all(engine, || command.run(engine)),
            Self::Prune(command) => with_all(engine, || command.run(engine)),
            Self::Pull(command) => with_all(engine, || command.run(engine)),
            Self::Push(command) => command.run(engine),
            Self::Rm(command) => with_all(engine, || command.run(engine)),
            Self::Save(command) => command.run(engine),
            Self::Tag(command) => command.run(engine),
        }
    }
}

/// Show all that is known of images, as JSON
#[derive(Args)]
#[command(after_help = "Example:\n  sampan image inspect -f '{{json .RootFS.Layers}}' busybox")]
pub(crate) struct Inspect {
    /// A Go template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// References or ids
    #[arg(required = true)]
    images: Vec<String>,
}

impl Inspect {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let wrong = |reason| anyhow::anyhow!("--format: {reason}");
        let template = self.format.as_deref().map(Template::parse).transpose().map_err(wrong)?;
        let (mut values, mut code) = (Vec::new(), ExitCode::SUCCESS);
        for name in &self.images {
            match engine.images().resolve(name) {
                Ok(image) => values.push(engine.inspect_image(&image)?),
                Err(error) => {
                    eprint!("{}", step::report(&error, &sampan_engine::hints()));
                    if engine.container(name).is_ok() {
                        eprintln!("hint: there is a container of that name: `sampan ps -a` shows it");
                    }
                    code = ExitCode::FAILURE;
                }
            }
        }
        match template {
            Some(template) => {
                for value in &values {
                    println!("{}", template.render(value).map_err(wrong)?);
                }
            }
            None => println!("{}", serde_json::to_string_pretty(&values)?),
        }
        Ok(code)
    }
}

/// Remove images that no container uses
#[derive(Args)]
#[command(after_help = "Example:\n  sampan image prune --all --filter until=24h")]
pub(crate) struct Prune {
    /// Also those that have a name
    #[arg(short, long)]
    all: bool,
    /// Without asking
    #[arg(short, long)]
    force: bool,
    /// until=TIME or DURATION, label=KEY[=VALUE], label!=KEY[=VALUE], dangling=false as --all, reference=PATTERN
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

impl Prune {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let mut filters = Filters::parse(engine, &self.filter)?;
        let all = filters.take_all(self.all);
        let what = if all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        };
        if !self.force && !format::confirmed(&format!("WARNING! This will remove {what}."))? {
            return Ok(ExitCode::SUCCESS);
        }
        let before = engine.images().list()?;
        let usage = engine.images().usage(&before)?;
        let removed = engine.prune_images(all, &|image| filters.image(image))?;
        if !removed.images.is_empty() {
            println!("Deleted Images:");
            removed.untagged.iter().for_each(|reference| println!("untagged: {reference}"));
            removed.images.iter().for_each(|id| println!("deleted: {id}"));
            println!();
        }
        let freed = usage.only_of(before.iter().filter(|image| removed.images.contains(&image.id)));
        println!("Total reclaimed space: {}", format::size(freed));
        Ok(ExitCode::SUCCESS)
    }
}
