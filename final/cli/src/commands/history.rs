//! `sampan history`.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use sampan_engine::Engine;
use sampan_engine::images::Step;
use serde_json::json;

use crate::format;
use crate::template::Template;

/// Show the steps that made an image
#[derive(Args)]
#[command(after_help = "Example:\n  sampan history busybox")]
pub(crate) struct History {
    /// A reference or an id
    image: String,
    /// Whole commands and ids
    #[arg(long)]
    no_trunc: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Sizes and times in words; with =false in figures
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    human: bool,
    /// A Go template, `table` and one, or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl History {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        const LONGEST: usize = 45;
        let image = engine.images().resolve(&self.image)?;
        let id = if self.no_trunc { image.id.to_string() } else { image.id.short().to_owned() };
        let time =
            |step: &Step, show: fn(Timestamp) -> String| step.created.map_or_else(|| "N/A".to_owned(), show);
        let mut values = Vec::new();
        for (at, step) in engine.image_history(&image)?.into_iter().enumerate() {
            let mut command = format::cell(&step.created_by);
            if !self.no_trunc && command.chars().count() > LONGEST {
                command = command.chars().take(LONGEST - 1).chain(['…']).collect();
            }
            values.push(json!({
                // The steps before the last have no image of their own.
                "ID": if at == 0 { id.as_str() } else { "<missing>" },
                "CreatedSince": time(&step, if self.human { format::ago } else { format::seconds }),
                "CreatedAt": time(&step, format::seconds),
                "CreatedBy": command,
                "Size": if self.human { format::size(step.size) } else { step.size.to_string() },
                "Comment": format::cell(&step.comment),
            }));
        }
        let header = json!({"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT"});
        let created = if self.human { "CreatedSince" } else { "CreatedAt" };
        let default = format!(
            "table {{{{.ID}}}}\t{{{{.{created}}}}}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}"
        );
        let default = if self.quiet { "{{.ID}}" } else { &default };
        let text = self.format.as_deref().filter(|text| *text != "table").unwrap_or(default);
        let wrong = |reason| anyhow::anyhow!("--format: {reason}");
        print!("{}", Template::parse(text).map_err(wrong)?.render_list(&values, &header).map_err(wrong)?);
        Ok(ExitCode::SUCCESS)
    }
}
