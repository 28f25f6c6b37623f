//! `sampan rmi`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::{Engine, Error, ImageError};

/// Remove images
#[derive(Args)]
#[command(after_help = "Example:\n  sampan rmi busybox:latest")]
pub(crate) struct Rmi {
    /// Also where a container was made from it: the name goes, the image stays for the container. And no failure where there is none
    #[arg(short, long)]
    force: bool,
    /// Docker's: leave untagged parents. There are none, so it changes nothing
    #[arg(long)]
    no_prune: bool,
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
                    // With -f it is enough that there is none.
                    if !(self.force && matches!(error, Error::Image(ImageError::NoImage(_)))) {
                        code = ExitCode::FAILURE;
                    }
                }
            }
        }
        Ok(code)
    }
}
