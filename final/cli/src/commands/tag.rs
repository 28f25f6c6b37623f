//! `sampan tag`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;
use sampan_image::Reference;

/// Give an image one more name
#[derive(Args)]
#[command(after_help = "Example:\n  sampan tag busybox localhost:5000/busybox:v1")]
pub(crate) struct Tag {
    /// The image: a reference or an id
    image: String,
    /// The name
    name: Reference,
}

impl Tag {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let store = engine.images();
        store.tag(&store.resolve(&self.image)?, &self.name)?;
        Ok(ExitCode::SUCCESS)
    }
}
