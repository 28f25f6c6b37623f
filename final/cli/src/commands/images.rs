//! `sampan images`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use sampan_engine::{Engine, Image};
use sampan_image::Reference;
use serde_json::{Value, json};

use crate::format;
use crate::template::Template;

/// List the images
#[derive(Args)]
#[command(
    after_help = "Example:\n  sampan images --filter reference='busy*' --format '{{.ID}} {{.Tag}}'\n\nSIZE is what the store keeps for carrying the image about: its layers as they are stored, compressed or not. `sampan system df` shows the disk."
)]
pub(crate) struct Images {
    /// Ids only, each once
    #[arg(short, long)]
    quiet: bool,
    /// Also those that only others are built on; there are none, so it changes nothing
    #[arg(short, long)]
    all: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// With the digests under which registries have them
    #[arg(long)]
    digests: bool,
    /// dangling=true|false, label=KEY[=VALUE], label!=KEY[=VALUE], reference=PATTERN, before=IMAGE, since=IMAGE, until=TIME
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// A Go template, `table` and one, or `json`
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "tree")]
    format: Option<String>,
    /// A picture of which images share which layers
    #[arg(long)]
    tree: bool,
    /// Only this repository, or this name; `*` stands for any characters but `/`
    repository: Option<String>,
}

/// One line: an image under one of its names.
struct Row<'a> {
    image: &'a Image,
    reference: Option<&'a Reference>,
}

impl Images {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let all = engine.images().list()?;
        let filters = Filters::parse(engine, &self.filter)?;
        let mut rows: Vec<Row<'_>> = Vec::new();
        for image in all.iter().filter(|image| filters.image(image)) {
            let references: Vec<_> = image.references.iter().map(Some).collect();
            let references = if references.is_empty() { vec![None] } else { references };
            rows.extend(
                references
                    .into_iter()
                    .map(|reference| Row { image, reference })
                    .filter(|row| self.shows(row, &filters)),
            );
        }
        if self.tree {
            let mut images: Vec<_> = rows.iter().map(|row| row.image).collect();
            images.dedup_by_key(|image| &image.id);
            print!("{}", super::image_tree::picture(&images));
        } else if let Some(text) = self.format.as_ref().filter(|text| *text != "table") {
            let template = Template::parse(text).map_err(|reason| anyhow::anyhow!("--format: {reason}"))?;
            let used = engine.used_images()?;
            let values: Vec<_> = rows.iter().map(|row| self.value(row, &used)).collect();
            print!(
                "{}",
                template
                    .render_list(&values, &header())
                    .map_err(|reason| anyhow::anyhow!("--format: {reason}"))?
            );
        } else if self.quiet {
            let mut ids: Vec<_> = rows.iter().map(|row| self.id(row.image)).collect();
            ids.dedup();
            ids.iter().for_each(|id| println!("{id}"));
        } else {
            println!("{}", self.table(&rows));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn shows(&self, row: &Row<'_>, filters: &Filters) -> bool {
        let named = |pattern: &String| row.reference.is_some_and(|reference| fits(pattern, reference));
        self.repository.as_ref().filter(|pattern| !pattern.is_empty()).is_none_or(named)
            && (filters.references.is_empty() || filters.references.iter().any(named))
    }

    fn table(&self, rows: &[Row<'_>]) -> String {
        let cells = |row: &Row<'_>| {
            let mut cells = vec![repository(row), tag(row)];
            cells.extend(self.digests.then(|| digest(row)));
            cells.extend([
                self.id(row.image),
                row.image.created.map_or_else(|| "N/A".to_owned(), format::ago),
            ]);
            cells.push(format::size(row.image.size));
            cells
        };
        let header = ["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"];
        let header: Vec<_> = header.into_iter().filter(|name| self.digests || *name != "DIGEST").collect();
        format::table(&header, rows.iter().map(cells).collect())
    }

    fn id(&self, image: &Image) -> String {
        if self.no_trunc { image.id.to_string() } else { image.id.short().to_owned() }
    }

    fn value(&self, row: &Row<'_>, used: &BTreeMap<String, usize>) -> Value {
        let containers = used.get(&row.image.id.to_string()).copied().unwrap_or(0);
        json!({
            "ID": self.id(row.image),
            "Repository": repository(row),
            "Tag": tag(row),
            "Digest": digest(row),
            "CreatedSince": row.image.created.map_or_else(|| "N/A".to_owned(), format::ago),
            "CreatedAt": row.image.created.map_or_else(|| "N/A".to_owned(), format::date),
            "Size": format::size(row.image.size),
            "VirtualSize": format::size(row.image.size),
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
            "Containers": containers.to_string(),
        })
    }
}

/// The names above a table's columns.
fn header() -> Value {
    json!({"ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT", "Size": "SIZE", "VirtualSize": "SIZE", "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS"})
}

fn repository(row: &Row<'_>) -> String {
    row.reference.map_or_else(|| "<none>".to_owned(), Reference::familiar_name)
}

fn tag(row: &Row<'_>) -> String {
    row.reference.and_then(Reference::tag).unwrap_or("<none>").to_owned()
}

fn digest(row: &Row<'_>) -> String {
    let own = row.image.pulled.iter().find(|(reference, _)| Some(reference) == row.reference);
    own.map_or_else(|| "<none>".to_owned(), |(_, digest)| digest.to_string())
}

/// What `--filter` says.
#[derive(Default)]
pub(super) struct Filters {
    dangling: Option<bool>,
    labels: Vec<(String, Option<String>)>,
    not_labels: Vec<(String, Option<String>)>,
    references: Vec<String>,
    before: Option<jiff::Timestamp>,
    since: Option<jiff::Timestamp>,
    until: Option<jiff::Timestamp>,
}

impl Filters {
    pub(super) fn parse(engine: &Engine, texts: &[String]) -> anyhow::Result<Self> {
        let mut filters = Self::default();
        let label = |label: &str| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (label.to_owned(), None),
        };
        let created = |name: &str| anyhow::Ok(engine.images().resolve(name)?.created);
        for text in texts {
            match text.split_once('=') {
                Some(("dangling", value @ ("true" | "1"))) | Some(("dangling", value @ ("false" | "0"))) => {
                    filters.dangling = Some(matches!(value, "true" | "1"));
                }
                Some(("label", text)) => filters.labels.push(label(text)),
                Some(("label!", text)) => filters.not_labels.push(label(text)),
                Some(("reference", pattern)) => filters.references.push(pattern.to_owned()),
                Some(("before", name)) => filters.before = created(name)?,
                Some(("since", name)) => filters.since = created(name)?,
                Some(("until", time)) => filters.until = Some(format::moment(time)?),
                _ => bail!(
                    "{text:?} is no filter: dangling=true|false, label=, label!=, reference=, before=, since= or until="
                ),
            }
        }
        Ok(filters)
    }

    /// Whether a prune takes what has a name too: `dangling=` says it as `--all` does, and last.
    pub(super) fn take_all(&mut self, all: bool) -> bool {
        self.dangling.take().map_or(all, |dangling| !dangling)
    }

    /// Whether an image passes: by `reference`, under any of its names.
    pub(super) fn image(&self, image: &Image) -> bool {
        let labels =
            image.config.config().as_ref().and_then(|config| config.labels().clone()).unwrap_or_default();
        let has = |(key, value): &(String, Option<String>)| {
            labels.get(key).is_some_and(|own| value.as_ref().is_none_or(|value| value == own))
        };
        let named = |reference: &Reference| self.references.iter().any(|pattern| fits(pattern, reference));
        self.dangling.is_none_or(|dangling| dangling == image.references.is_empty())
            && self.labels.iter().all(has)
            && !self.not_labels.iter().any(has)
            && (self.references.is_empty() || image.references.iter().any(named))
            && self.before.is_none_or(|before| image.created.is_some_and(|created| created < before))
            && self.since.is_none_or(|since| image.created.is_some_and(|created| created > since))
            && self.until.is_none_or(|until| image.created.is_some_and(|created| created < until))
    }
}

/// Whether a pattern means a name: the repository, or repository and tag, familiar or whole.
fn fits(pattern: &str, reference: &Reference) -> bool {
    let whole = reference.full();
    let familiar = reference.to_string();
    let repository = reference.familiar_name();
    [whole.as_str(), &familiar, &repository].into_iter().any(|name| glob(pattern.as_bytes(), name.as_bytes()))
}

/// `*` is any number of characters but `/`, `?` one of them.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if glob(rest, text) => true,
        (Some((b'*', _)), Some((character, left))) => *character != b'/' && glob(pattern, left),
        (Some((b'?', rest)), Some((character, left))) => *character != b'/' && glob(rest, left),
        (Some((wanted, rest)), Some((character, left))) => wanted == character && glob(rest, left),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_a_name() {
        let reference: Reference = "me/tool:v1".parse().unwrap();
        for pattern in ["me/tool", "me/*", "*/tool:v?", "me/tool:v1", "docker.io/me/tool:v1"] {
            assert!(fits(pattern, &reference), "{pattern}");
        }
        for pattern in ["*", "tool", "me/tool:v2", "me/tool:v", ""] {
            assert!(!fits(pattern, &reference), "{pattern}");
        }
    }
}
