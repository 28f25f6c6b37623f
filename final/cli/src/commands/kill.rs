//! `sampan kill`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;
use sampan_engine::container::stop::parse_signal;

/// Send a signal to containers
#[derive(Args)]
#[command(after_help = "Example:\n  sampan kill -s HUP web")]
pub(crate) struct Kill {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Kill {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let signal = parse_signal(&self.signal)?;
        Ok(super::each(&self.containers, |name| engine.kill(&engine.container(name)?, signal).map(|()| true)))
    }
}
