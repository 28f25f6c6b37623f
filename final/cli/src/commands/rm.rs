//! `sampan rm`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;

/// Remove containers
#[derive(Args)]
pub(crate) struct Rm {
    /// Kill running ones first
    #[arg(short, long)]
    force: bool,
    /// Also the volumes that were made for them without a name
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Rm {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        Ok(super::each(&self.containers, |name| {
            engine.remove(&engine.container(name)?, self.force, self.volumes)
        }))
    }
}
