//! `sampan build`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;

/// Build an image from a Dockerfile
#[derive(Args)]
pub(crate) struct Build {
    /// The image's name, NAME[:TAG]
    #[arg(short, long)]
    tag: Vec<String>,
    /// The Dockerfile [default: Dockerfile in the context]
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// The folder that COPY and ADD take from
    context: PathBuf,
}

impl Build {
    pub(crate) fn run(self, _engine: &Engine) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not there yet: {:?} {:?} {:?}", self.tag, self.file, self.context)
    }
}
