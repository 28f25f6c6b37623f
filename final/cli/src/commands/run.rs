//! `sampan run`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use rustix::termios::isatty;
use sampan_engine::Engine;
use sampan_engine::container::create::Options;

use crate::relay::{self, End, relay};

/// Create a container and start it
#[derive(Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  sampan run --rm busybox echo hello\n  sampan run --rm -it busybox sh\n  sampan run -d --name web -p 8080:80 -m 64m busybox httpd -f -h /etc"
)]
pub(crate) struct Run {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Do not wait for it: print its id
    #[arg(short, long)]
    detach: bool,
    /// Its name
    #[arg(long)]
    name: Option<String>,
    /// An environment variable, NAME=VALUE; NAME alone takes it over
    #[arg(short, long, value_name = "VARIABLE")]
    env: Vec<String>,
    /// The working directory inside
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<std::path::PathBuf>,
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
    /// Tell each step and why it is made, on standard error
    #[arg(long)]
    explain: bool,
    /// The image, and a command with its arguments in place of the image's own. What follows the image is the command's, also
    /// what looks like a flag
    // One list, because a flag between the two would else be taken for this command's own.
    #[arg(value_names = ["IMAGE", "COMMAND"], num_args = 1.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    image: Vec<String>,
}

impl Run {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        if let Some(flag) = self.image.first().filter(|image| image.starts_with('-')) {
            bail!("{flag}: no such flag (`sampan run --help` lists them)");
        }
        if self.tty && self.interactive && !self.detach && !isatty(rustix::stdio::stdin()) {
            bail!("-t with -i needs a terminal here, and standard input is none: leave -t out");
        }
        if self.explain {
            step::explain()?;
        }
        let (detach, explain, streams) =
            (self.detach, self.explain, relay::Options { stdin: self.interactive, terminal: self.tty });
        // A signal from here on is the container's; before a container is there, it is this command's.
        let container = engine.create(&self.options())?;
        let signals = if detach { None } else { Some(relay::watch_signals(streams.terminal)?) };
        let attached = match engine.start(&container, explain) {
            Ok(attached) => attached,
            Err(error) => {
                // Its shim has removed it, unless that was killed. The error to tell is the one of the start.
                if let Ok(left) = engine.container(&container.config.id)
                    && left.config.auto_remove
                {
                    let _ = engine.remove(&left, true, true);
                }
                return Err(error.into());
            }
        };
        super::tell(&attached);
        match signals {
            Some(signals) => status(relay(attached, &streams, &signals)?),
            None => {
                println!("{}", container.config.id);
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    fn options(self) -> Options {
        let mut words = self.image.into_iter();
        let image = words.next().unwrap_or_default();
        let command = words.collect();
        Options {
            image,
            command,
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
            terminal: self.tty,
            open_stdin: self.interactive,
            auto_remove: self.rm,
            init: self.init,
            labels: self.label,
        }
    }
}

/// The container's exit status as this command's own.
pub(crate) fn status(end: End) -> anyhow::Result<ExitCode> {
    match end {
        End::Exited(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(255))),
        End::Detached => Ok(ExitCode::SUCCESS),
        End::Lost => bail!("the container's shim was killed, and the container with it: start it anew"),
    }
}
