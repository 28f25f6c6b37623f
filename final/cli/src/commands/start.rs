//! `sampan start`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;

use crate::relay::{self, relay};

/// Start a stopped container
#[derive(Args)]
pub(crate) struct Start {
    /// Show what it writes, and end with its status
    #[arg(short, long)]
    attach: bool,
    /// Keep standard input open, too
    #[arg(short, long)]
    interactive: bool,
    /// Tell each step and why it is made, on standard error
    #[arg(long)]
    explain: bool,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Start {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        if self.explain {
            step::explain()?;
        }
        if let ([name], true) = (&self.containers[..], self.attach || self.interactive) {
            let container = engine.container(name)?;
            let streams = relay::Options { stdin: self.interactive, terminal: container.config.terminal };
            let attached = engine.start(&container, self.explain)?;
            super::tell(&attached);
            return Ok(super::run::status(relay(attached, &streams)?));
        }
        Ok(super::each(&self.containers, |name| {
            let attached = engine.start(&engine.container(name)?, self.explain)?;
            super::tell(&attached);
            Ok(())
        }))
    }
}
