//! `sampan inspect`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use sampan_engine::Engine;

use super::image;

/// Show all that is known of images, as JSON
#[derive(Args)]
#[command(after_help = "Example:\n  sampan inspect -f '{{json .Config.Env}}' busybox")]
// Two groups of one command may not have one name.
#[group(id = "InspectAny")]
pub(crate) struct Inspect {
    /// Of what
    #[arg(long = "type", value_name = "TYPE", default_value = "image")]
    kind: Kind,
    #[command(flatten)]
    images: image::Inspect,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Image,
}

impl Inspect {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        match self.kind {
            Kind::Image => self.images.run(engine),
        }
    }
}
