//! `sampan import`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use sampan_engine::Engine;
use sampan_image::Reference;
use sampan_image::import::Import as What;
use sampan_image::registry::Platform;

/// Make an image from a root file system's tar archive
#[derive(Args)]
#[command(after_help = "Example:\n  sampan import target/kit/busybox.tar busybox:latest")]
pub(crate) struct Import {
    /// An instruction of a Dockerfile that changes settings
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// What it is, for `history`
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// For which kind of machine it is: OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// The archive, plain or compressed: a file, a URL, or `-` for standard input
    archive: String,
    /// The image's name, NAME[:TAG]
    reference: Option<Reference>,
}

impl Import {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let store = engine.images();
        let what = What { comment: Some(self.comment()), platform: self.platform.clone(), ..What::default() };
        let new = store.import_new(self.open()?, what)?;
        let new = sampan_build::change(store, new, &self.change)?;
        println!("{}", store.put_image(&new, self.reference.as_ref())?.id);
        Ok(ExitCode::SUCCESS)
    }

    fn comment(&self) -> String {
        self.message.clone().unwrap_or_else(|| format!("Imported from {}", self.archive))
    }

    fn open(&self) -> anyhow::Result<Box<dyn Read + Send>> {
        if self.archive == "-" {
            if io::stdin().is_terminal() {
                bail!("an archive does not come from a terminal: give a file, or a pipe");
            }
            return Ok(Box::new(io::stdin()));
        }
        if self.archive.starts_with("http://") || self.archive.starts_with("https://") {
            return Ok(super::registries()?.fetch(&self.archive)?);
        }
        let file = File::open(&self.archive).with_context(|| format!("cannot open {}", self.archive))?;
        Ok(Box::new(file))
    }
}
