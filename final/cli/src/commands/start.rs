//! `sampan start`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use sampan_engine::{Engine, Status};

use crate::relay::{self, relay};

/// Start a stopped container
#[derive(Args)]
#[command(after_help = "Example:\n  sampan start -a web")]
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
            let signals = relay::watch_signals(streams.terminal)?;
            let attached = if container.state.status == Status::Running {
                engine.attach(&container)?
            } else {
                engine.start(&container, self.explain)?
            };
            super::tell(&attached);
            return super::run::status(relay(attached, &streams, &signals)?);
        }
        if self.attach || self.interactive {
            bail!("-a and -i are for one container: name one");
        }
        Ok(super::each(&self.containers, |name| {
            let container = engine.container(name)?;
            // What was asked for is so already.
            if container.state.status != Status::Running {
                super::tell(&engine.start(&container, self.explain)?);
            }
            Ok(true)
        }))
    }
}
