//! `sampan images`.

use std::process::ExitCode;

use clap::Args;
use sampan_engine::Engine;

use crate::format;

/// List the images
#[derive(Args)]
#[command(after_help = "Example:\n  sampan images")]
pub(crate) struct Images {
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
}

impl Images {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let mut rows = Vec::new();
        for image in engine.images().list()? {
            let id = image.id.to_string();
            let short = id.trim_start_matches("sha256:").chars().take(12).collect();
            let id = if self.no_trunc { id } else { short };
            let created = image.created.map_or_else(|| "N/A".to_owned(), format::ago);
            if image.references.is_empty() {
                rows.push(vec![
                    "<none>".to_owned(),
                    "<none>".to_owned(),
                    id.clone(),
                    created.clone(),
                    format::size(image.size),
                ]);
            }
            for reference in &image.references {
                let tag = reference.tag().unwrap_or("<none>").to_owned();
                rows.push(vec![
                    reference.familiar_name(),
                    tag,
                    id.clone(),
                    created.clone(),
                    format::size(image.size),
                ]);
            }
        }
        if self.quiet {
            let mut ids: Vec<_> = rows.into_iter().map(|row| row[2].clone()).collect();
            ids.dedup();
            ids.iter().for_each(|id| println!("{id}"));
        } else {
            println!("{}", format::table(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}
