//! `sampan rmi`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;

/// Remove images
#[derive(Args)]
#[command(after_help = "Example:\n  sampan rmi busybox:latest")]
pub(crate) struct Rmi {
    /// Also where a stopped container was made from it
    #[arg(short, long)]
    force: bool,
    /// References or ids
    #[arg(required = true)]
    images: Vec<String>,
}

impl Rmi {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for name in &self.images {
            match engine.remove_image(name, self.force) {
                Ok(removed) => {
                    removed.untagged.iter().for_each(|reference| println!("Untagged: {reference}"));
                    removed.images.iter().for_each(|id| println!("Deleted: {id}"));
                }
                Err(error) => {
                    eprint!("{}", step::report(&error, &sampan_engine::hints()));
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}
