//! `cargo kit bench image`: images on their way in and out, as fast as the disk and the decompressor?
//!
//! Two images are carried: a small Debian in one layer, and the same files in forty. Beside each program stands a *floor*, of the
//! plainest programs that do the same with the same bytes: `pigz -dc | tar x` for what ends unpacked, `cp` for an archive, `sha256sum`
//! for what is sent.
//!
//! Order: [`sample`] makes the images -> [`servers`] gives a registry and, where it is installed, a Docker daemon -> for each case all
//! tools ([`tool`]) in turn, each on a store that is as the case wants it -> [`table`].

mod sample;
mod servers;
mod table;
mod tool;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::sample::Sample;
use self::servers::Servers;
use self::table::{Report, Row};
use self::tool::Tool;
use super::result::Machine;
use super::{place, start};
use crate::place as kit;

/// Measure how fast images are loaded, saved, pulled, pushed and unpacked
///
/// Beside sampan run those of podman, skopeo, umoci and docker that are installed, and the floor: pigz and tar, cp, sha256sum. Needs
/// root, a C compiler, pigz and docker-registry; debootstrap and its mirror for Debian's image; and 2 GB of disk.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo kit bench image --rounds 3 --only sampan")]
pub(crate) struct Args {
    /// How often each runs
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The tools beside the floor [default: all that are installed]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// A root file system to make the images of, in place of Debian's
    #[arg(long, value_name = "FOLDER")]
    rootfs: Option<PathBuf>,
    /// How many layers the second image has
    #[arg(long, default_value_t = 40, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100))]
    layers: u32,
    /// The results as JSON, in place of the table
    #[arg(long)]
    json: bool,
    /// Also write the chart and the table that the book shows
    #[arg(long)]
    book: bool,
    /// Do not run Cargo: take sampan as it lies beside this program
    #[arg(long)]
    built: bool,
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// An archive into an empty store.
    Load,
    /// An image into an archive.
    Save,
    /// An image to an empty registry.
    Push,
    /// From a registry into an empty store.
    Pull,
    /// Blobs that are there into folders.
    Unpack,
}

impl What {
    const ALL: [Self; 5] = [Self::Load, Self::Pull, Self::Unpack, Self::Save, Self::Push];

    fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Save => "save",
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Unpack => "unpack",
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can measure this: layers have owners. Try: sudo -E cargo kit bench image");
    }
    let sampan = start::program("sampan", args.built)?;
    let floor = start::floor()?;
    let work = kit::kit().join("bench").join(format!("image-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    let measured = place::inside(true, || everything(args, &sampan, &floor, &work));
    let removed = fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()));
    let report = Report { machine: Machine::this(), rows: measured? };
    removed?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.text());
    }
    if args.book {
        start::write_book("image", &report.markdown(), &report.chart())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn everything(args: &Args, sampan: &Path, floor: &Path, work: &Path) -> Result<Vec<Row>> {
    let rootfs = match &args.rootfs {
        Some(rootfs) => rootfs.clone(),
        None => sample::debian()?,
    };
    let mut rows = Vec::new();
    let mut servers =
        Servers::start(work, args.only.is_empty() || args.only.iter().any(|name| name == "docker"))?;
    for layers in [1, args.layers] {
        eprintln!("an image of {layers} layers ...");
        let sample = Sample::make(&rootfs, &work.join(format!("sample-{layers}")), layers)?;
        let mut tools = tool::find(sampan, work, &servers, &args.only);
        servers.seed(&mut tools, &sample)?;
        for what in What::ALL {
            eprintln!("{} ...", what.name());
            rows.extend(measured(what, args.rounds, &mut tools, &sample, &mut servers, floor)?);
        }
        for tool in &mut tools {
            tool.empty(&servers)?;
        }
        fs::remove_dir_all(&sample.folder).context("remove the image")?;
    }
    Ok(rows)
}

/// Runs one case, everybody in turn.
fn measured(
    what: What,
    rounds: u32,
    tools: &mut [Tool],
    sample: &Sample,
    servers: &mut Servers,
    floor: &Path,
) -> Result<Vec<Row>> {
    let mut samples: Vec<Vec<Taken>> = tools.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (tool, samples) in tools.iter_mut().zip(&mut samples) {
            let Some(command) = tool.prepare(what, sample, servers)? else { continue };
            let mut taken = Taken::of(floor, &command)?;
            if let Some(daemon) = tool.daemon(servers) {
                taken.peak = taken.peak.max(daemon);
            }
            samples.push(taken);
        }
    }
    let case = format!("{}, {}", what.name(), sample.name());
    let bytes = if matches!(what, What::Save | What::Push) { sample.packed } else { sample.plain };
    let rows = tools.iter().zip(samples).filter(|(_, samples)| !samples.is_empty());
    Ok(rows.map(|(tool, samples)| Row::new(&case, tool.name, bytes, &samples)).collect())
}

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) seconds: f64,
    /// Of the processor, in user and kernel mode; a daemon's is not in it.
    pub(crate) processor: f64,
    /// The most memory of one process, in KiB.
    pub(crate) peak: u64,
}

impl Taken {
    fn of(floor: &Path, command: &[std::ffi::OsString]) -> Result<Self> {
        // What was written before is not to be waited for now.
        nix::unistd::sync();
        let begin = Instant::now();
        let output = Command::new(floor)
            .arg("--peak")
            .args(command)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {}", floor.display()))?;
        let seconds = begin.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        match (output.status.success(), numbers.next(), numbers.next()) {
            (true, Some(peak), Some(microseconds)) => {
                Ok(Self { seconds, processor: microseconds as f64 / 1e6, peak })
            }
            _ => bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}
