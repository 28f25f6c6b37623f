//! `sampan logs`.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;
use sampan_engine::container::logs::Options;

/// Show what a container wrote
#[derive(Args)]
#[command(after_help = "Example:\n  sampan logs -f --tail 10 web")]
pub(crate) struct Logs {
    /// Go on until it ends
    #[arg(short, long)]
    follow: bool,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Only this many lines of the end
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// Name or id
    container: String,
}

impl Logs {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let container = engine.container(&self.container)?;
        let options = Options { follow: self.follow, tail: self.tail };
        engine.logs(&container, &options, &mut |entry| {
            let time = if self.timestamps { format!("{} ", entry.time) } else { String::new() };
            let text = format!("{time}{}", entry.log);
            // Whoever reads has seen enough (`| head`).
            let written = if entry.stream == "stderr" {
                std::io::stderr().write_all(text.as_bytes())
            } else {
                std::io::stdout().write_all(text.as_bytes())
            };
            written.is_ok()
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
