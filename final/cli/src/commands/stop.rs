//! `sampan stop`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sampan_engine::Engine;

/// Ask containers to end, and kill them if they do not
#[derive(Args)]
#[command(after_help = "Example:\n  sampan stop -t 2 web")]
pub(crate) struct Stop {
    /// How many seconds to wait before killing
    #[arg(short, long, visible_alias = "timeout", default_value_t = 10)]
    time: u64,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Stop {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let patience = Duration::from_secs(self.time);
        Ok(super::each(&self.containers, |name| {
            engine.stop(&engine.container(name)?, patience).map(|()| true)
        }))
    }
}
