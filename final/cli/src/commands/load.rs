//! `sampan load`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use sampan_engine::Engine;

/// Read images from an archive
#[derive(Args)]
#[command(after_help = "Example:\n  sampan load -i busybox.tar")]
pub(crate) struct Load {
    /// The archive, of Docker's or OCI's form, plain or compressed; else it comes from standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Nothing but the names of what was loaded, as always: there is no progress to leave out
    #[arg(short, long)]
    quiet: bool,
}

impl Load {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let reader: Box<dyn Read + Send> = match &self.input {
            Some(path) => {
                Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
            }
            None if io::stdin().is_terminal() => bail!("no archive: use -i, or a pipe"),
            None => Box::new(io::stdin()),
        };
        for loaded in engine.images().load(reader)? {
            loaded.references.iter().for_each(|reference| println!("Loaded image: {reference}"));
            if loaded.references.is_empty() {
                println!("Loaded image ID: {}", loaded.image.id);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
