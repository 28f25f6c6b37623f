//! `sampan rm`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::{Engine, Error};

/// Remove containers
#[derive(Args)]
#[command(after_help = "Example:\n  sampan rm -f web")]
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
        Ok(super::each(&self.containers, |name| match engine.container(name) {
            // With -f it is enough that there is none.
            Err(error @ Error::NoSuch(_)) if self.force => {
                eprint!("{}", step::report(&error, &sampan_engine::hints()));
                Ok(false)
            }
            container => engine.remove(&container?, self.force, self.volumes).map(|()| true),
        }))
    }
}
