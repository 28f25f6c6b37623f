//! `sampan pull`.

use std::process::ExitCode;

use anyhow::bail;
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
    /// Tell each request and step, and why it is made, on standard error
    #[arg(long)]
    explain: bool,
}

impl Pull {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let reference: Reference = self.image.parse()?;
        if self.explain {
            step::explain()?;
        }
        if self.all_tags && super::says_tag(&self.image) {
            bail!("--all-tags means all of them: give the repository's name without a tag or digest");
        }
        let registries = super::registries()?;
        let references =
            if self.all_tags { engine.images().tags(&registries, &reference)? } else { vec![reference] };
        for reference in &references {
            self.one(engine, &registries, reference)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn one(&self, engine: &Engine, registries: &Registries, reference: &Reference) -> anyhow::Result<()> {
        if !self.quiet && !self.all_tags && !super::says_tag(&self.image) {
            println!("Using default tag: latest");
        }
        let what = What { reference, platform: self.platform.as_ref() };
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
