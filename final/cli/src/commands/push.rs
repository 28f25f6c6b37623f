//! `sampan push`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use sampan_engine::Engine;
use sampan_image::Reference;

use crate::progress;

/// Give an image to a registry
#[derive(Args)]
#[command(
    after_help = "Example:\n  sampan tag busybox localhost:5000/busybox:v1\n  sampan push localhost:5000/busybox:v1"
)]
pub(crate) struct Push {
    /// The image's name, which says where it goes: [HOST[:PORT]/]NAME[:TAG]
    image: String,
    /// All tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Only the name of the image
    #[arg(short, long)]
    quiet: bool,
    /// Tell each request, and why it is made, on standard error
    #[arg(long)]
    explain: bool,
}

impl Push {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let image: Reference = self.image.parse()?;
        if self.explain {
            step::explain()?;
        }
        let registries = super::registries()?;
        let references = if self.all_tags {
            self.tags(engine, &image)?
        } else {
            if !self.quiet && !super::says_tag(&self.image) {
                println!("Using default tag: latest");
            }
            vec![image]
        };
        for reference in &references {
            let pushed = engine.images().push(&registries, reference, &*progress::of_output(self.quiet))?;
            if self.quiet {
                println!("{}", reference.full());
            } else {
                let tag = reference.tag().unwrap_or_default();
                println!("{tag}: digest: {} size: {}", pushed.digest, pushed.size);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// All names in the store of the same repository.
    fn tags(&self, engine: &Engine, image: &Reference) -> anyhow::Result<Vec<Reference>> {
        if super::says_tag(&self.image) {
            bail!("--all-tags means all of them: give the repository's name without a tag or digest");
        }
        let repository = image.familiar_name();
        let all = engine.images().list()?.into_iter().flat_map(|image| image.references);
        let mut tags: Vec<_> =
            all.filter(|other| other.familiar_name() == repository && other.tag().is_some()).collect();
        tags.sort();
        if tags.is_empty() {
            bail!("no image in the store has a name in {repository}: `sampan tag` gives it one");
        }
        Ok(tags)
    }
}
