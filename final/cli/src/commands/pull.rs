//! `sampan pull`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;
use sampan_image::Reference;
use sampan_image::registry::{Platform, Pull as What, Registries};

use crate::progress;

/// Get an image from a registry
#[derive(Args)]
#[command(after_help = "Example:\n  sampan pull localhost:5000/busybox:v1")]
pub(crate) struct Pull {
    /// NAME[:TAG|@DIGEST], with the registry's HOST[:PORT]/ before it if that is not docker.io
    image: String,
    /// The image for another kind of machine: OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// All tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Only the name of the image
    #[arg(short, long)]
    quiet: bool,
}

impl Pull {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let reference: Reference = self.image.parse()?;
        let registries = Registries::open()?;
        let references =
            if self.all_tags { engine.images().tags(&registries, &reference)? } else { vec![reference] };
        for reference in &references {
            self.one(engine, &registries, reference)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn one(&self, engine: &Engine, registries: &Registries, reference: &Reference) -> anyhow::Result<()> {
        let told = |tag| self.image.ends_with(&format!(":{tag}"));
        if !self.quiet && reference.digest().is_none() && reference.tag() == Some("latest") && !told("latest")
        {
            println!("Using default tag: latest");
        }
        let what = What { reference, platform: self.platform.clone().unwrap_or_default() };
        let pulled = engine.images().pull(registries, &what, &*progress::of_output(self.quiet))?;
        if !self.quiet {
            println!("Digest: {}", pulled.digest);
            let status = if pulled.new { "Downloaded newer image for" } else { "Image is up to date for" };
            println!("Status: {status} {reference}");
        }
        println!("{}", reference.full());
        Ok(())
    }
}
