//! `sampan commit`.

use std::process::ExitCode;

use clap::{ArgAction, Args};
use sampan_engine::Engine;
use sampan_engine::container::commit::Options;
use sampan_image::Reference;

/// Make an image of what a container changed
#[derive(Args)]
#[command(after_help = "Example:\n  sampan commit --change 'CMD [\"httpd\", \"-f\"]' web me/web:v1")]
pub(crate) struct Commit {
    /// Who made it
    #[arg(short, long, value_name = "NAME")]
    author: Option<String>,
    /// What it is, for `history`
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// An instruction of a Dockerfile that changes settings
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Whether the container stands still meanwhile
    #[arg(short, long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pause: bool,
    /// The container's name or id
    container: String,
    /// The image's name
    name: Option<Reference>,
}

impl Commit {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let container = engine.container(&self.container)?;
        let options = Options { author: self.author, message: self.message, pause: self.pause };
        let new = engine.commit(&container, &options)?;
        let new = sampan_build::change(engine.images(), new, &self.change)?;
        let image = engine.images().put_image(&new, self.name.as_ref())?;
        println!("{}", image.id);
        Ok(ExitCode::SUCCESS)
    }
}
