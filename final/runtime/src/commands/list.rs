//! `list`: the containers of this root, as runc's table or JSON.

use std::fmt::Write as _;

use clap::ValueEnum;

use crate::state::{Shown, Store};

/// `list [--format table|json] [--quiet]`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime list\n  sampan-runtime list --format json | jq '.[].id'")]
pub(crate) struct Args {
    /// How
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// Ids alone
    #[arg(short, long)]
    quiet: bool,
}

/// How a list is shown.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
}

pub(crate) fn list(store: &Store, args: &Args) -> anyhow::Result<u8> {
    let ids = store.ids()?;
    if args.quiet {
        ids.iter().for_each(|id| println!("{id}"));
        return Ok(0);
    }
    // One that goes while it is looked at is not there; what a killed create has left has no record.
    let records: Vec<_> = ids.iter().filter_map(|id| store.read(id).ok()).collect();
    let mut shown = Vec::new();
    for record in &records {
        let (Ok(mut state), Ok(owner)) = (store.show(record), store.owner(&record.id)) else { continue };
        state.owner = owner;
        shown.push(state);
    }
    match args.format {
        Format::Json if shown.is_empty() => println!("null"),
        Format::Json => println!("{}", serde_json::to_string(&shown)?),
        Format::Table => print!("{}", table(&shown)),
    }
    Ok(0)
}

fn table(all: &[Shown<'_>]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(all.iter().map(|state| {
        [
            state.id.to_owned(),
            state.pid.to_string(),
            state.status.name().to_owned(),
            state.bundle.display().to_string(),
            state.created.to_string(),
            state.owner.clone(),
        ]
    }));
    // runc's columns are 12 wide at least, with three blanks between them.
    let width = |column: usize| rows.iter().map(|row| row[column].len() + 3).max().unwrap_or(0).max(12);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
