//! `sampan create`, and the flags that it has in common with `run`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use sampan_engine::container::create::Options;
use sampan_engine::{Container, Engine, Error, ImageError};
use sampan_image::registry::{Ensure, Platform, Policy};

use super::limits;
use crate::ids::{Told, with_all};

/// Create a container and do not start it
#[derive(Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  sampan create --name web busybox httpd -f -h /etc\n  sampan export $(sampan create busybox) -o busybox.tar"
)]
pub(crate) struct Create {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    asked: Asked,
}

impl Create {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        println!("{}", self.asked.create(engine)?.config.id);
        Ok(ExitCode::SUCCESS)
    }
}

/// What a container is to be.
#[derive(Args)]
pub(super) struct Asked {
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Its name
    #[arg(long)]
    name: Option<String>,
    /// An environment variable, NAME=VALUE; NAME alone takes it over
    #[arg(short, long, value_name = "VARIABLE")]
    env: Vec<String>,
    /// The working directory inside
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<PathBuf>,
    /// The user inside, NAME or ID, with a group after a colon
    #[arg(short, long)]
    user: Option<String>,
    /// The host name inside
    #[arg(short, long)]
    hostname: Option<String>,
    /// A volume or a folder of the host, [SOURCE:]DESTINATION[:ro]
    #[arg(short, long, value_name = "MOUNT")]
    volume: Vec<String>,
    /// Publish a port, [IP:]HOST:CONTAINER[/udp]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// The most memory, as 64m or 1g
    #[arg(short, long, value_name = "SIZE", value_parser = cgroups::size::parse)]
    memory: Option<u64>,
    /// The most processors, as 0.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// The most processes
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// bridge, none, host, or container:NAME
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    network: Option<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// A label, NAME=VALUE
    #[arg(short, long, value_name = "LABEL")]
    label: Vec<String>,
    /// A small init process as pid 1, which reaps orphans
    #[arg(long)]
    init: bool,
    /// When to ask a registry for the image: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing", hide_default_value = true)]
    pull: Policy,
    /// The image for another kind of machine: OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Say nothing while the image is pulled
    #[arg(short, long)]
    quiet: bool,
    /// The image, and a command with its arguments in place of the image's own. What follows the image is the command's, also
    /// what looks like a flag
    // One list, because a flag between the two would else be taken for this command's own.
    #[arg(value_names = ["IMAGE", "COMMAND"], num_args = 1.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    image: Vec<String>,
    // The last, for its heading holds for all that follows.
    #[command(flatten)]
    limits: limits::Confines,
}

impl Asked {
    /// Creates the container, of an image that is pulled first if need be.
    pub(super) fn create(self, engine: &Engine) -> anyhow::Result<Container> {
        let (policy, platform, quiet) = (self.pull, self.platform.clone(), self.quiet);
        let options = self.options()?;
        // An image that is there is found once, by the engine itself.
        if policy != Policy::Always && platform.is_none() {
            match engine.create(&options) {
                Err(Error::Image(ImageError::NoImage(_))) if policy == Policy::Missing => {}
                created => return Ok(created?),
            }
        }
        // Held until the container's record says that it uses the image.
        let _pin = engine.images().pin()?;
        let wanted = Ensure { name: &options.image, policy, platform: platform.as_ref() };
        let ended = with_all(engine, || {
            super::ensure(engine, &wanted, quiet)?;
            Ok(ExitCode::SUCCESS)
        })?;
        if ended != ExitCode::SUCCESS {
            return Err(Told.into());
        }
        Ok(engine.create(&options)?)
    }

    fn options(self) -> anyhow::Result<Options> {
        let mut words = self.image.into_iter();
        let image = words.next().unwrap_or_default();
        if image.starts_with('-') {
            bail!("{image}: no such flag (`--help` lists them)");
        }
        Ok(Options {
            image,
            command: words.collect(),
            entrypoint: self.entrypoint,
            name: self.name,
            env: self.env,
            working_dir: self.workdir,
            user: self.user,
            hostname: self.hostname,
            volumes: self.volume,
            ports: self.publish,
            network: self.network,
            memory: self.memory,
            cpus: self.cpus,
            pids_limit: self.pids_limit,
            limits: self.limits.into(),
            terminal: self.tty,
            open_stdin: self.interactive,
            auto_remove: self.rm,
            init: self.init,
            labels: self.label,
        })
    }
}
