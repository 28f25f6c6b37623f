//! `sampan search`.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::Args;
use sampan_image::registry::Found;
use serde_json::{Value, json};

use crate::format;
use crate::template::Template;

/// As many as Docker Hub gives at once.
const MOST: usize = 100;

/// Search Docker Hub, or list a registry
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sampan search localhost:5000/busy\n  sampan search --filter is-official=true busybox"
)]
pub(crate) struct Search {
    /// What to search for on Docker Hub; or HOST[:PORT]/TEXT, for the repositories of that registry
    term: String,
    /// At most so many, up to 100
    #[arg(long, default_value_t = 25, value_name = "NUMBER")]
    limit: usize,
    /// stars=NUMBER (at least), is-official=true|false, is-automated=true|false
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// A Go template, `table` and one, or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Whole descriptions
    #[arg(long)]
    no_trunc: bool,
}

impl Search {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if !(1..=MOST).contains(&self.limit) {
            bail!("--limit is from 1 to {MOST}");
        }
        let filters =
            self.filter.iter().map(|text| Filter::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
        let format = self.format.as_deref().filter(|text| *text != "table").map(Template::parse).transpose();
        let format = format.map_err(|reason| anyhow!("--format: {reason}"))?;
        let found = super::registries()?.search(&self.term, self.limit)?;
        let found = found.iter().filter(|found| filters.iter().all(|filter| filter.passes(found)));
        let rows: Vec<_> = found.map(|found| self.row(found)).collect();
        match format {
            Some(format) => {
                let text = format.render_list(&rows, &header());
                print!("{}", text.map_err(|reason| anyhow!("--format: {reason}"))?);
            }
            None => {
                let cell = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
                let columns = ["Name", "Description", "StarCount", "IsOfficial"];
                let cells = rows.iter().map(|row| columns.map(|name| cell(row, name)).to_vec());
                println!("{}", format::table(&["NAME", "DESCRIPTION", "STARS", "OFFICIAL"], cells.collect()));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What `--format` can name, as with Docker.
    fn row(&self, found: &Found) -> Value {
        const LONGEST: usize = 45;
        let mut text = found.description.replace(char::is_control, " ");
        if !self.no_trunc && text.chars().count() > LONGEST {
            text = text.chars().take(LONGEST - 1).chain(['…']).collect();
        }
        let mark = |is: bool| if is { "[OK]" } else { "" };
        json!({
            "Name": found.name.replace(char::is_control, " "),
            "Description": text,
            "StarCount": found.star_count.to_string(),
            "IsOfficial": mark(found.is_official),
            "IsAutomated": mark(found.is_automated),
        })
    }
}

fn header() -> Value {
    json!({"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL",
        "IsAutomated": "AUTOMATED"})
}

/// One `--filter`.
enum Filter {
    Stars(u64),
    Official(bool),
    Automated(bool),
}

impl Filter {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let wrong = || {
            anyhow!("{text:?} is no filter: stars=NUMBER, is-official=true|false or is-automated=true|false")
        };
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        Ok(match name {
            "stars" => Self::Stars(value.parse().map_err(|_| wrong())?),
            "is-official" => Self::Official(value.parse().map_err(|_| wrong())?),
            "is-automated" => Self::Automated(value.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        })
    }

    fn passes(&self, found: &Found) -> bool {
        match self {
            Self::Stars(least) => found.star_count >= *least,
            Self::Official(is) => found.is_official == *is,
            Self::Automated(is) => found.is_automated == *is,
        }
    }
}
