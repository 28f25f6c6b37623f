//! `create`: decide everything that a container will be, and write it down once.
//!
//! The image's config gives the defaults and the user's flags override them, by Docker's rules: a command replaces the image's
//! CMD and follows its ENTRYPOINT; `--entrypoint` replaces both. Nothing of the kernel is touched yet.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};
use sampan_image::Image;
use step::step;

use super::limits::Limits;
use super::{Config, Container, State, names};
use crate::store::{Durability, write_json};
use crate::{Engine, Error, paths, volume};

/// What a user may say about a new container; all but the image may be left empty.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The image, by reference or id.
    pub image: String,
    /// The command, in place of the image's CMD.
    pub command: Vec<String>,
    /// The entrypoint, in place of the image's; an empty text removes it.
    pub entrypoint: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// `NAME=value`, or `NAME` to take it over from this process.
    pub env: Vec<String>,
    /// The working directory.
    pub working_dir: Option<PathBuf>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// Volumes and bind mounts, as `-v` takes them.
    pub volumes: Vec<String>,
    /// Published ports, as `-p` takes them.
    pub ports: Vec<String>,
    /// The network mode; bridge for root where none is said.
    pub network: Option<String>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processors.
    pub cpus: Option<f64>,
    /// Processes.
    pub pids_limit: Option<i64>,
    /// All other limits, and devices.
    pub limits: Limits,
    /// A terminal.
    pub terminal: bool,
    /// Standard input stays open.
    pub open_stdin: bool,
    /// Removed at its end.
    pub auto_remove: bool,
    /// A small init process as pid 1.
    pub init: bool,
    /// Labels, `name=value`.
    pub labels: Vec<String>,
}

impl Engine {
    /// Creates a container and does not start it.
    ///
    /// # Errors
    /// Where the image is not there, an option cannot be, or the name is taken; nothing is left behind then.
    pub fn create(&self, options: &Options) -> Result<Container, Error> {
        step::heading("1. create a container from the image");
        // The image stays until `config.json` says that it is used.
        let _pin = self.images.pin()?;
        let image = self.images.resolve(&options.image)?;
        let mut config = self.plan(options, &image)?;
        let durability = if config.auto_remove { Durability::Cache } else { Durability::Disk };
        let requests = volume_requests(options, &image)?;
        self.take_name(&config)?;
        let link = self.paths.containers().join(&config.name);
        let folder = self.paths.container(&config.id);
        let mut mounts = Vec::new();
        let made = (|| {
            let lock = if requests.is_empty() { None } else { Some(self.lock_volumes()?) };
            for request in &requests {
                mounts.push(self.mount_point(request)?);
            }
            config.mounts.clone_from(&mounts);
            step("mkdir", format_args!("{} 0700", folder.display()), "the container's own folder")
                .run(|| DirBuilder::new().mode(0o700).create(&folder))?;
            let container = Container { config, state: State::created(), folder: folder.clone() };
            write_json(&folder.join("state.json"), &container.state, durability)?;
            // Last: a folder without it is what a killed `create` left, and no container.
            write_json(&folder.join("config.json"), &container.config, durability)?;
            drop(lock);
            self.images.keep(&image)?;
            Ok(container)
        })();
        if made.is_err() {
            // The error to tell is the first one; what cannot be removed now is swept by `ps`.
            let _ = paths::remove_tree(&folder);
            let _ = self.remove_anonymous_volumes(&mounts);
            let _ = fs::remove_file(link);
        }
        made
    }

    fn plan(&self, options: &Options, image: &Image) -> Result<Config, Error> {
        let empty = oci_spec::image::Config::default();
        let defaults = image.config.config().as_ref().unwrap_or(&empty);
        let id = new_id()?;
        let network = options.network.clone().unwrap_or_else(|| crate::network::default_mode().to_owned());
        crate::network::Mode::parse(&network)?;
        options.limits.check(options.memory, options.cpus)?;
        for port in &options.ports {
            crate::network::parse_port(port)?;
        }
        let name = match &options.name {
            Some(name) => names::checked(name)?.to_owned(),
            None => names::made(&id),
        };
        let mut labels: BTreeMap<String, String> =
            defaults.labels().iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
        labels.extend(options.labels.iter().map(|label| {
            let (name, value) = label.split_once('=').unwrap_or((label, ""));
            (name.to_owned(), value.to_owned())
        }));
        let working_dir =
            options.working_dir.clone().or_else(|| defaults.working_dir().as_ref().map(PathBuf::from));
        let user = options.user.clone().or_else(|| defaults.user().clone()).unwrap_or_default();
        Ok(Config {
            args: args(options, defaults)?,
            env: environment(options, defaults)?,
            working_dir: absolute(working_dir.filter(|path| !path.as_os_str().is_empty()))?,
            user,
            hostname: hostname(options, &id, &network)?,
            terminal: options.terminal,
            open_stdin: options.open_stdin,
            auto_remove: options.auto_remove,
            init: options.init,
            // Made when the name is taken: an error before leaves no volume.
            mounts: Vec::new(),
            network,
            ports: options.ports.clone(),
            memory: options.memory,
            cpus: options.cpus,
            pids_limit: options.pids_limit,
            limits: options.limits.clone(),
            stop_signal: defaults.stop_signal().clone().unwrap_or_else(|| "SIGTERM".to_owned()),
            labels,
            created: Timestamp::now(),
            image: options.image.clone(),
            image_id: image.id.to_string(),
            name,
            id,
        })
    }

    /// The name is a link to the id, made before anything else: link(2) of two commands at once succeeds for one.
    fn take_name(&self, config: &Config) -> Result<(), Error> {
        let link = self.paths.containers().join(&config.name);
        if let Ok(id) = fs::read_link(&link)
            && !self.paths.containers().join(id).join("config.json").exists()
            && crate::container::list::is_stale(&link)
        {
            // A `create` or `rm` that was killed between its two steps left a name of nothing.
            let _ = fs::remove_file(&link);
        }
        step(
            "symlink",
            format_args!("{} {}", config.id, link.display()),
            "takes the name: two commands at once cannot both",
        )
        .run(|| symlink(&config.id, &link))
        .map_err(|error| match error.errno() {
            Some(nix::errno::Errno::EEXIST) => Error::Invalid(format!(
                "the name {:?} is in use: remove that container (`sampan rm {}`) or choose another name",
                config.name, config.name
            )),
            _ => error.into(),
        })
    }
}

pub(crate) fn new_id() -> Result<String, Error> {
    let mut bytes = [0_u8; 32];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|errno| step::StepError::new("getrandom", "32", errno))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The user's mounts, and an anonymous volume for each VOLUME of the image that they do not cover.
fn volume_requests(options: &Options, image: &Image) -> Result<Vec<volume::Request>, Error> {
    let mut requests: Vec<_> =
        options.volumes.iter().map(|text| volume::Request::parse(text)).collect::<Result<_, _>>()?;
    for (position, request) in requests.iter().enumerate() {
        if requests[..position].iter().any(|other| other.destination() == request.destination()) {
            return Err(Error::Invalid(format!(
                "-v: two mounts on {}: leave one out",
                request.destination().display()
            )));
        }
    }
    let declared = image.config.config().as_ref().and_then(|config| config.volumes().clone());
    for destination in declared.iter().flatten() {
        if !requests.iter().any(|request| request.destination() == Path::new(destination)) {
            requests.push(volume::Request::anonymous(destination));
        }
    }
    Ok(requests)
}

fn args(options: &Options, defaults: &oci_spec::image::Config) -> Result<Vec<String>, Error> {
    let command = |fallback: bool| {
        if options.command.is_empty() && fallback {
            defaults.cmd().clone().unwrap_or_default()
        } else {
            options.command.clone()
        }
    };
    let args: Vec<String> = match &options.entrypoint {
        // A new entrypoint also drops the image's CMD: it was written for the old one.
        Some(entrypoint) => {
            entrypoint.split_terminator('\0').map(str::to_owned).chain(command(false)).collect()
        }
        None => defaults.entrypoint().iter().flatten().cloned().chain(command(true)).collect(),
    };
    if args.is_empty() {
        return Err(Error::Invalid(format!(
            "no command: {} names none, so give one after the image",
            options.image
        )));
    }
    Ok(args)
}

/// The image's environment and the user's over it, with a search path and a terminal's kind where they are missing.
fn environment(options: &Options, defaults: &oci_spec::image::Config) -> Result<Vec<String>, Error> {
    let mut variables: Vec<(String, String)> = vec![("PATH".to_owned(), chroot::command::PATH.to_owned())];
    if options.terminal {
        variables.push(("TERM".to_owned(), std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned())));
    }
    let mut set = |name: &str, value: String| match variables.iter_mut().find(|(other, _)| other == name) {
        Some((_, old)) => *old = value,
        None => variables.push((name.to_owned(), value)),
    };
    for entry in defaults.env().iter().flatten() {
        if let Some((name, value)) = entry.split_once('=') {
            set(name, value.to_owned());
        }
    }
    for entry in &options.env {
        match entry.split_once('=') {
            Some(("", _)) => {
                return Err(Error::Invalid(format!("-e {entry}: a variable needs a name before the =")));
            }
            Some((name, value)) => set(name, value.to_owned()),
            None => {
                if let Ok(value) = std::env::var(entry) {
                    set(entry, value);
                }
            }
        }
    }
    Ok(variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn hostname(options: &Options, id: &str, network: &str) -> Result<String, Error> {
    let hostname = match &options.hostname {
        Some(hostname) => hostname.clone(),
        None if network == "host" => {
            nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
        }
        None => id.get(..12).unwrap_or(id).to_owned(),
    };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if hostname.is_empty() || hostname.len() > 64 || !hostname.bytes().all(valid) {
        return Err(Error::Invalid(format!(
            "-h {hostname}: a host name has 1 to 64 letters, digits, dots and hyphens (gethostname(2))"
        )));
    }
    Ok(hostname)
}

fn absolute(path: Option<PathBuf>) -> Result<PathBuf, Error> {
    let path = path.unwrap_or_else(|| PathBuf::from("/"));
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Error::Invalid(format!("-w {}: the working directory is an absolute path", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entrypoint: &[&str], cmd: &[&str]) -> oci_spec::image::Config {
        let mut config = oci_spec::image::Config::default();
        config.set_entrypoint(Some(entrypoint.iter().map(ToString::to_string).collect()));
        config.set_cmd(Some(cmd.iter().map(ToString::to_string).collect()));
        config.set_env(Some(vec!["PATH=/image".to_owned(), "A=1".to_owned()]));
        config
    }

    fn asked(command: &[&str], entrypoint: Option<&str>) -> Options {
        Options {
            command: command.iter().map(ToString::to_string).collect(),
            entrypoint: entrypoint.map(str::to_owned),
            ..Options::default()
        }
    }

    #[test]
    fn a_command_replaces_cmd_and_follows_the_entrypoint() {
        let image = image(&["/entry"], &["a", "b"]);
        assert_eq!(args(&asked(&[], None), &image).unwrap(), ["/entry", "a", "b"]);
        assert_eq!(args(&asked(&["c"], None), &image).unwrap(), ["/entry", "c"]);
        assert_eq!(args(&asked(&["c"], Some("/other")), &image).unwrap(), ["/other", "c"]);
        assert_eq!(args(&asked(&[], Some("/other")), &image).unwrap(), ["/other"]);
        assert!(args(&asked(&[], Some("")), &image).is_err());
    }

    #[test]
    fn the_users_environment_stands_over_the_images() {
        let options = Options {
            env: vec!["A=2".into(), "B=x=y".into(), "NOT_SET_ANYWHERE".into()],
            ..Options::default()
        };
        assert_eq!(environment(&options, &image(&[], &[])).unwrap(), ["PATH=/image", "A=2", "B=x=y"]);
        assert!(
            environment(&Options { env: vec!["=x".into()], ..Options::default() }, &image(&[], &[])).is_err()
        );
    }
}
