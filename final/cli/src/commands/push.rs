//! `sampan push`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;
use sampan_image::Reference;
use sampan_image::registry::Registries;

use crate::progress;

/// Give an image to a registry
#[derive(Args)]
#[command(
    after_help = "Example:\n  sampan tag busybox localhost:5000/busybox:v1\n  sampan push localhost:5000/busybox:v1"
)]
pub(crate) struct Push {
    /// The image's name, which says where it goes: [HOST[:PORT]/]NAME[:TAG]
    image: Reference,
    /// All tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Only the name of the image
    #[arg(short, long)]
    quiet: bool,
}

impl Push {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let registries = Registries::open()?;
        let references = if self.all_tags {
            let all = engine.images().list()?.into_iter().flat_map(|image| image.references);
            all.filter(|other| other.familiar_name() == self.image.familiar_name() && other.tag().is_some())
                .collect()
        } else {
            vec![self.image]
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
}
