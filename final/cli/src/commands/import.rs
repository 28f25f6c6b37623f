//! `sampan import`.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use sampan_engine::Engine;
use sampan_image::Reference;

/// Make an image from a root file system's tar archive
#[derive(Args)]
#[command(after_help = "Example:\n  sampan import target/kit/busybox.tar busybox:latest")]
pub(crate) struct Import {
    /// The archive, plain or gzip; `-` for standard input
    archive: PathBuf,
    /// The image's name, NAME[:TAG]
    reference: Reference,
}

impl Import {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let reader: Box<dyn Read> = if self.archive.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            Box::new(
                File::open(&self.archive)
                    .with_context(|| format!("cannot open {}", self.archive.display()))?,
            )
        };
        let image = engine.images().import(reader, &self.reference)?;
        println!("{}", image.id);
        Ok(ExitCode::SUCCESS)
    }
}
