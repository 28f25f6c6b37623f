//! `sampan build`.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sampan_build::outside::{Outside, answer};
use sampan_build::{BuildOptions, Progress, Ran, Runner, Task};
use sampan_engine::{Engine, Error};
use sampan_image::registry::{self, Ensure, Platform, Policy};
use sampan_image::{Image, Reference, Store};

use crate::ids::with_all_but;

/// Build an image from a Dockerfile
#[derive(Args)]
#[command(after_help = "Example:\n  sampan build -t web .")]
pub(crate) struct Build {
    /// The image's name, NAME[:TAG]; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<Reference>,
    /// The Dockerfile [default: Dockerfile in the context]
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// A value for an ARG; without a value, that of this command's environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// The stage to stop after [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// The network of RUN: bridge, none or host
    #[arg(long, value_name = "MODE")]
    network: Option<String>,
    /// Make every step anew
    #[arg(long)]
    no_cache: bool,
    /// Ask the registries for the base images each time: perhaps they have newer ones
    #[arg(long)]
    pull: bool,
    /// The base images for another kind of machine: OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// The image's id alone
    #[arg(short, long)]
    quiet: bool,
    /// The folder that COPY and ADD take from
    #[arg(value_name = "PATH")]
    context: PathBuf,
    /// Tell each step with its reason
    #[arg(long)]
    explain: bool,
}

impl Build {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        sampan_runtime::own_exe::protect()?;
        if self.explain {
            step::explain()?;
        }
        let (ours, theirs) = UnixStream::pair()?;
        let own = std::process::id();
        let build = move || {
            // Where it goes on in another process, this one runs the commands.
            let outside = (std::process::id() != own).then_some(Outside(theirs));
            self.build(engine, outside)
        };
        with_all_but(engine, build, |created| {
            created.release()?;
            answer(engine, &ours);
            Ok(created)
        })
    }

    fn build(self, engine: &Engine, outside: Option<Outside>) -> anyhow::Result<ExitCode> {
        let options = BuildOptions {
            context: self.context,
            dockerfile: self.file,
            tags: self.tag,
            args: self.build_arg.iter().filter_map(|text| argument(text)).collect(),
            target: self.target,
            network: self.network,
            no_cache: self.no_cache,
        };
        let mut tell = |news: Progress<'_>| {
            if !self.quiet {
                println!("{news}");
            }
        };
        let policy = if self.pull { Policy::Always } else { Policy::Missing };
        let platform = self.platform.as_ref();
        let runner = Here { engine, outside, policy, platform, quiet: self.quiet };
        match sampan_build::build(engine.images(), &runner, &options, &mut tell) {
            Ok(image) => {
                if self.quiet {
                    println!("{}", image.id);
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                match &error {
                    // It was put together where it happened.
                    sampan_build::Error::Run(error) if let Error::Start { message, .. } = &**error => {
                        eprint!("{message}");
                    }
                    _ => eprint!("{}", step::report(&error, &sampan_engine::hints())),
                }
                Ok(ExitCode::from(error.exit_code()))
            }
        }
    }
}

/// The engine, and the registries for the images that it lacks.
struct Here<'a> {
    engine: &'a Engine,
    outside: Option<Outside>,
    policy: Policy,
    platform: Option<&'a Platform>,
    quiet: bool,
}

impl Runner for Here<'_> {
    fn image(&self, _: &Store, name: &str) -> Result<Image, registry::Error> {
        let wanted = Ensure { name, policy: self.policy, platform: self.platform };
        super::ensure(self.engine, &wanted, self.quiet)
    }

    fn run(&self, layers: Vec<PathBuf>, task: &Task) -> Result<Ran, sampan_build::Error> {
        match &self.outside {
            Some(outside) => outside.run(layers, task),
            None => self.engine.run(layers, task),
        }
    }
}

fn argument(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.to_owned(), std::env::var(text).ok()?)),
    }
}
