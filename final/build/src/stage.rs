//! A build stage: the image as it is after the instructions so far.

use std::collections::{BTreeMap, HashMap};

use oci_spec::image::{Arch, Config, History, ImageConfiguration, Os};
use sampan_image::{Digest, DockerConfig, Image, Layer, NewImage};

use crate::dockerfile::Command;

/// The stage.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// `AS name`.
    pub(crate) name: Option<String>,
    pub(crate) config: Config,
    pub(crate) docker: DockerConfig,
    pub(crate) layers: Vec<Layer>,
    pub(crate) author: Option<String>,
    pub(crate) history: Vec<History>,
    /// Variables of the build that an ARG of this stage named; none where it has no value.
    pub(crate) args: BTreeMap<String, Option<String>>,
    /// The build cache's key of the last step.
    pub(crate) key: Digest,
    /// Whether this stage said CMD: an ENTRYPOINT drops one that came with the base image.
    pub(crate) has_command: bool,
}

impl Stage {
    /// Begins with nothing: `FROM scratch`.
    pub(crate) fn empty() -> Self {
        Self {
            name: None,
            config: Config::default(),
            docker: DockerConfig::default(),
            layers: Vec::new(),
            author: None,
            history: Vec::new(),
            args: BTreeMap::new(),
            key: Digest::of(b"scratch"),
            has_command: false,
        }
    }

    /// Begins with an image.
    pub(crate) fn of(image: &Image, layers: Vec<Layer>) -> Self {
        Self {
            config: image.config.config().clone().unwrap_or_default(),
            docker: image.docker.clone(),
            layers,
            author: image.config.author().clone(),
            history: image.config.history().clone().unwrap_or_default(),
            key: image.id.clone(),
            ..Self::empty()
        }
    }

    /// Begins with what an earlier stage made.
    pub(crate) fn after(stage: &Self) -> Self {
        Self { name: None, args: BTreeMap::new(), has_command: false, ..stage.clone() }
    }

    /// The image that the stage is now.
    pub(crate) fn image(&self) -> NewImage {
        let created = self.history.last().and_then(|last| last.created().clone());
        let mut config = ImageConfiguration::default();
        config
            .set_created(created)
            .set_author(self.author.clone())
            .set_architecture(Arch::default())
            .set_os(Os::Linux)
            .set_config(Some(self.config.clone()))
            .set_history(Some(self.history.clone()));
        NewImage { config, docker: self.docker.clone(), layers: self.layers.clone() }
    }

    /// A variable as instructions see it: of the environment, else of the build.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let variables = self.config.env().iter().flatten();
        let found = variables.filter_map(|entry| entry.split_once('=')).find(|(other, _)| *other == name);
        found.map(|(_, value)| value.to_owned()).or_else(|| self.args.get(name).cloned().flatten())
    }

    /// The variables of the build that a command sees beside the environment.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let in_environment = |name: &str| {
            let prefix = format!("{name}=");
            self.config.env().iter().flatten().any(|entry| entry.starts_with(&prefix))
        };
        self.args
            .iter()
            .filter(|(name, _)| !in_environment(name))
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
            .collect()
    }

    /// Sets a variable of the environment, at its old place if it had one.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let mut env = self.config.env().clone().unwrap_or_default();
        let prefix = format!("{name}=");
        let entry = prefix.clone() + value;
        match env.iter_mut().find(|old| old.starts_with(&prefix)) {
            Some(old) => *old = entry,
            None => env.push(entry),
        }
        self.config.set_env(Some(env));
    }

    pub(crate) fn set_label(&mut self, name: &str, value: &str) {
        let mut labels: HashMap<_, _> = self.config.labels().clone().unwrap_or_default();
        labels.insert(name.to_owned(), value.to_owned());
        self.config.set_labels(Some(labels));
    }

    /// Adds to EXPOSE's or VOLUME's set.
    pub(crate) fn add(set: &Option<Vec<String>>, more: Vec<String>) -> Option<Vec<String>> {
        let mut all: std::collections::BTreeSet<String> = set.iter().flatten().cloned().collect();
        all.extend(more);
        Some(all.into_iter().collect())
    }

    /// The arguments of a command: in the shell form, those of the shell.
    pub(crate) fn args_of(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(args) => args.clone(),
            Command::Shell(text) => {
                let mut args = self.shell();
                args.push(text.clone());
                args
            }
        }
    }

    pub(crate) fn shell(&self) -> Vec<String> {
        self.docker.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
    }
}
