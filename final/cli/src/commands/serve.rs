//! `sampan serve`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use sampan_engine::Engine;

/// Serve the Docker Engine API on a UNIX socket
#[derive(Args)]
#[command(
    after_help = "Example:\n  sampan serve &\n  curl --unix-socket /run/sampan/sampan.sock http://localhost/containers/json"
)]
pub(crate) struct Serve {
    /// The socket [default: sampan.sock in the run folder]
    #[arg(short = 'H', long, value_name = "SOCKET")]
    host: Option<PathBuf>,
}

impl Serve {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let socket = self.host.unwrap_or_else(|| engine.paths().run.join("sampan.sock"));
        engine.paths().make_run()?;
        sampan_api::serve(engine.clone(), &socket)
            .with_context(|| format!("cannot serve on {}", socket.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
