//! `sampan shim`: not for people.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::{Engine, shim};

/// Hold one container
#[derive(Args)]
pub(crate) struct Shim {
    /// Tell each step on standard error
    #[arg(long)]
    explain: bool,
    /// The container's id
    id: String,
}

impl Shim {
    pub(crate) fn run(self, engine: &Engine) -> ExitCode {
        if self.explain {
            // Told or not, the container starts.
            let _ = step::explain();
        }
        // It was started from a read-only place, and gets its name back here. It also runs where that cannot be had.
        let _ = sampan_runtime::own_exe::protect();
        shim::hold(engine, &self.id)
    }
}
