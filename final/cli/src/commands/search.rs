//! `sampan search`.

use std::process::ExitCode;

use clap::Args;
use sampan_image::registry::Registries;

use crate::format;

/// Search Docker Hub, or list a registry
#[derive(Args)]
#[command(after_help = "Example:\n  sampan search localhost:5000/busy")]
pub(crate) struct Search {
    /// What to search for on Docker Hub; or HOST[:PORT]/TEXT, for the repositories of that registry
    term: String,
    /// At most so many
    #[arg(long, default_value_t = 25, value_name = "NUMBER")]
    limit: usize,
    /// Whole descriptions
    #[arg(long)]
    no_trunc: bool,
}

impl Search {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        const LONGEST: usize = 45;
        let found = Registries::open()?.search(&self.term, self.limit)?;
        let rows = found.into_iter().map(|found| {
            let mut text = found.description.replace(char::is_control, " ");
            if !self.no_trunc && text.chars().count() > LONGEST {
                text = text.chars().take(LONGEST - 1).chain(['…']).collect();
            }
            let official = if found.is_official { "[OK]" } else { "" };
            vec![found.name, text, found.star_count.to_string(), official.to_owned()]
        });
        println!("{}", format::table(&["NAME", "DESCRIPTION", "STARS", "OFFICIAL"], rows.collect()));
        Ok(ExitCode::SUCCESS)
    }
}
