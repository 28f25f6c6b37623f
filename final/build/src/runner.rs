//! Who runs the command of a RUN: the engine, and in the builder's own tests somebody simpler.

use std::path::PathBuf;

use sampan_engine::Engine;
use sampan_image::{Image, Store, registry};

use crate::Error;

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, as `NAME=value`.
    pub env: Vec<String>,
    /// The working directory.
    pub working_dir: PathBuf,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// The network mode, as `sampan run --network` takes it; the engine's default where none is said.
    pub network: Option<String>,
}

/// What a step left.
pub struct Ran {
    /// The command's exit status.
    pub exit_code: u8,
    /// The folder with what the command changed, in overlay's form, on the store's file system. The builder moves it away.
    pub upper: PathBuf,
    /// Removes what else the step needed.
    pub remove: Box<dyn FnOnce() -> Result<(), Error>>,
}

impl std::fmt::Debug for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ran")
            .field("exit_code", &self.exit_code)
            .field("upper", &self.upper)
            .finish_non_exhaustive()
    }
}

/// Runs commands on layers, and says where images come from.
pub trait Runner {
    /// An image that FROM or `COPY --from` names: from the store, unless somebody knows of registries as well.
    ///
    /// # Errors
    /// As for [`Store::resolve`], or what the registry says.
    fn image(&self, store: &Store, name: &str) -> Result<Image, registry::Error> {
        Ok(store.resolve(name)?)
    }

    /// Runs a command on the layers (lowest first) and waits for its end. What it prints is the build's output.
    ///
    /// # Errors
    /// Where it cannot be started; a command that fails is no error here.
    fn run(&self, layers: Vec<PathBuf>, task: &Task) -> Result<Ran, Error>;
}

impl Runner for Engine {
    fn run(&self, layers: Vec<PathBuf>, task: &Task) -> Result<Ran, Error> {
        let ran = self.run_build_step(layers, &command(task)).map_err(|error| Error::Run(Box::new(error)))?;
        Ok(kept(ran))
    }
}

pub(crate) fn command(task: &Task) -> sampan_engine::build::Command {
    let Task { args, env, working_dir, user, network } = task.clone();
    sampan_engine::build::Command { args, env, working_dir, user, network }
}

pub(crate) fn kept(ran: sampan_engine::build::Ran) -> Ran {
    Ran {
        exit_code: ran.exit_code,
        upper: ran.upper.clone(),
        remove: Box::new(move || ran.remove().map_err(|error| Error::Run(Box::new(error)))),
    }
}
