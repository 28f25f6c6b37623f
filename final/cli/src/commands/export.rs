//! `sampan export`.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use sampan_engine::Engine;

use super::save::{beside, stdout};

/// Write all files of a container into a tar archive
#[derive(Args)]
#[command(after_help = "Example:\n  sampan export web -o web.tar")]
pub(crate) struct Export {
    /// The archive; else it goes to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container's name or id
    container: String,
}

impl Export {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let container = engine.container(&self.container)?;
        match &self.output {
            Some(path) => {
                let (file, path) = beside(path)?;
                engine.export(&container, file.as_file().try_clone()?)?;
                file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
            }
            None if io::stdout().is_terminal() => {
                bail!("an archive is nothing for a terminal: use -o, or a pipe")
            }
            None => engine.export(&container, File::from(stdout()?))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
