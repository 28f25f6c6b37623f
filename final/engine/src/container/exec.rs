//! `exec`: one more process in a running container.
//!
//! The command that asks for it is its parent: no shim stands between, so a foreground `exec` costs little more than fork and
//! exec. It gets what the container's first process has, capabilities and seccomp filter with it.

use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec, UserBuilder};
use sampan_runtime::{Started, Stdio};

use super::{Container, Status};
use crate::{Engine, Error, store, user};

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Variables beside the container's own, `NAME=value`, or `NAME` to take it over from this process.
    pub env: Vec<String>,
    /// The working directory, in place of the container's.
    pub working_dir: Option<PathBuf>,
    /// The user, in place of the container's.
    pub user: Option<String>,
    /// A terminal.
    pub terminal: bool,
}

impl Engine {
    /// Starts it.
    ///
    /// # Errors
    /// [`Error::State`] where the container does not run; else what it met, with Docker's exit status.
    pub fn exec(&self, container: &Container, options: &Options, stdio: Stdio) -> Result<Started, Error> {
        let running = container.state.process.filter(|_| container.state.status == Status::Running);
        let Some(init) = running.and_then(|process| process.pidfd()) else {
            return Err(Error::State {
                name: container.config.name.clone(),
                status: container.state.status.to_string(),
                remedy: "start it first",
            });
        };
        let path = container.folder.join("bundle/config.json");
        let spec: Spec = store::read_json(&path)?
            .ok_or_else(|| Error::Store { path, source: std::io::ErrorKind::NotFound.into() })?;
        let process_spec = self.process(container, options, &spec)?;
        Ok(sampan_runtime::exec(sampan_runtime::Exec {
            id: &container.config.id,
            init,
            spec: &spec,
            process: &process_spec,
            stdio,
            options: sampan_runtime::ExecOptions::default(),
        })?)
    }

    /// The container's own process with what the options change.
    fn process(&self, container: &Container, options: &Options, spec: &Spec) -> Result<Process, Error> {
        let mut process = spec.process().clone().unwrap_or_default();
        process.set_args(Some(options.args.clone()));
        process.set_terminal(Some(options.terminal));
        if let Some(folder) = &options.working_dir {
            process.set_cwd(folder.clone());
        }
        let mut env = process.env().clone().unwrap_or_default();
        let terminal = options.terminal.then(|| "TERM=xterm".to_owned());
        let missing =
            |entry: &String| !env.iter().any(|old| old.starts_with("TERM=") && entry.starts_with("TERM="));
        let terminal: Vec<_> = terminal.into_iter().filter(missing).collect();
        env.extend(terminal);
        for entry in &options.env {
            let (name, value) = match entry.split_once('=') {
                Some(("", _)) => {
                    return Err(Error::Invalid(format!("-e {entry}: a variable needs a name before the =")));
                }
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (entry.as_str(), std::env::var(entry).ok()),
            };
            if let Some(value) = value {
                env.retain(|old| old.split_once('=').is_none_or(|(old, _)| old != name));
                env.push(format!("{name}={value}"));
            }
        }
        if let Some(name) = &options.user {
            let image = self.images().resolve(&container.config.image_id)?;
            // The container's own layer lies over the image's: a user that it has added counts.
            let mut layers = self.layer_dirs(&image)?;
            layers.push(container.folder.join("upper"));
            let user = user::resolve(&layers, name)?;
            let translated = UserBuilder::default()
                .uid(user.uid)
                .gid(user.gid)
                .additional_gids(user.additional_gids)
                .build();
            process.set_user(translated.map_err(|error| Error::Invalid(error.to_string()))?);
            env.retain(|old| !old.starts_with("HOME="));
            env.push(format!("HOME={}", user.home));
        }
        process.set_env(Some(env));
        Ok(process)
    }
}
