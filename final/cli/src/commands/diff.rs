//! `sampan diff`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;
use unionfs::Kind;

/// Show which files a container added (A), changed (C) and deleted (D)
#[derive(Args)]
#[command(after_help = "Example:\n  sampan diff web")]
pub(crate) struct Diff {
    /// The container's name or id
    container: String,
}

impl Diff {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let container = engine.container(&self.container)?;
        engine.diff(&container, |change| {
            let letter = match change.kind {
                Kind::Added => 'A',
                Kind::Modified => 'C',
                Kind::Deleted => 'D',
            };
            println!("{letter} /{}", change.path.display());
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
