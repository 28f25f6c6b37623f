//! `sampan exec`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use rustix::termios::isatty;
use sampan_engine::Engine;
use sampan_engine::container::exec::Options;
use sampan_runtime::{Stdio, WindowSize};

use crate::relay;

/// Run a command in a running container
#[derive(Args)]
#[command(after_help = "Examples:\n  sampan exec web ps\n  sampan exec -it -u 1000 web sh")]
pub(crate) struct Exec {
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// A variable beside the container's own, NAME=VALUE
    #[arg(short, long, value_name = "VARIABLE")]
    env: Vec<String>,
    /// The working directory inside
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<std::path::PathBuf>,
    /// The user inside, NAME or ID, with a group after a colon
    #[arg(short, long)]
    user: Option<String>,
    /// Tell each step and why it is made, on standard error
    #[arg(long)]
    explain: bool,
    /// Name or id
    container: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        if self.explain {
            step::explain()?;
        }
        if self.tty && self.interactive && !isatty(rustix::stdio::stdin()) {
            bail!("-t with -i needs a terminal here, and standard input is none: leave -t out");
        }
        sampan_runtime::own_exe::protect()?;
        let container = engine.container(&self.container)?;
        let options = Options {
            args: self.command,
            env: self.env,
            working_dir: self.workdir,
            user: self.user,
            terminal: self.tty,
        };
        let stdio = if self.tty {
            let (rows, columns) = relay::window_size().unwrap_or((24, 80));
            Stdio::Terminal(WindowSize { rows, columns })
        } else if self.interactive {
            Stdio::Inherit
        } else {
            Stdio::Fds(
                relay::null()?,
                relay::duplicate(rustix::stdio::stdout())?,
                relay::duplicate(rustix::stdio::stderr())?,
            )
        };
        let mut started = engine.exec(&container, &options, stdio)?;
        if let Some(master) = started.terminal() {
            relay::relay_terminal(&master, started.pidfd(), self.interactive)?;
        }
        Ok(ExitCode::from(started.wait().map_err(sampan_engine::Error::from)?.exit_code()))
    }
}
