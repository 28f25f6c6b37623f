//! `sampan run`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use rustix::termios::isatty;
use sampan_engine::Engine;

use super::create::Asked;
use crate::relay::{self, End, relay};

/// Create a container and start it
#[derive(Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  sampan run --rm busybox echo hello\n  sampan run --rm -it busybox sh\n  sampan run -d --name web -p 8080:80 -m 64m busybox httpd -f -h /etc"
)]
pub(crate) struct Run {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Do not wait for it: print its id
    #[arg(short, long)]
    detach: bool,
    /// Tell each step and why it is made, on standard error
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    asked: Asked,
}

impl Run {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let streams = relay::Options { stdin: self.asked.interactive, terminal: self.asked.tty };
        let (detach, explain) = (self.detach, self.explain);
        if streams.terminal && streams.stdin && !detach && !isatty(rustix::stdio::stdin()) {
            bail!("-t with -i needs a terminal here, and standard input is none: leave -t out");
        }
        if explain {
            step::explain()?;
        }
        // A signal from here on is the container's; before a container is there, it is this command's.
        let container = self.asked.create(engine)?;
        let signals = if detach { None } else { Some(relay::watch_signals(streams.terminal)?) };
        let attached = match engine.start(&container, explain) {
            Ok(attached) => attached,
            Err(error) => {
                // Its shim has removed it, unless that was killed. The error to tell is the one of the start.
                if let Ok(left) = engine.container(&container.config.id)
                    && left.config.auto_remove
                {
                    let _ = engine.remove(&left, true, true);
                }
                return Err(error.into());
            }
        };
        super::tell(&attached);
        match signals {
            Some(signals) => status(relay(attached, &streams, &signals)?),
            None => {
                println!("{}", container.config.id);
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The container's exit status as this command's own.
pub(crate) fn status(end: End) -> anyhow::Result<ExitCode> {
    match end {
        End::Exited(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(255))),
        End::Detached => Ok(ExitCode::SUCCESS),
        End::Lost => bail!("the container's shim was killed, and the container with it: start it anew"),
    }
}
