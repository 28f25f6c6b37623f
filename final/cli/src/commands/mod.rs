//! The commands, one a file.

mod build;
mod commit;
mod create;
mod diff;
mod exec;
mod export;
mod history;
mod image;
mod image_tree;
mod images;
mod import;
mod inspect;
mod kill;
mod limits;
mod load;
mod login;
mod logs;
mod ps;
mod pull;
mod push;
#[cfg(feature = "serve")]
mod registry;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
#[cfg(feature = "serve")]
mod serve;
mod shim;
mod start;
mod stop;
mod system;
mod tag;
mod volume;

use std::process::ExitCode;

use clap::Subcommand;
use sampan_engine::Engine;
use sampan_image::Reference;
use sampan_image::registry::{Ensure, Registries};

use crate::ids::with_all;

/// What `sampan` does.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create a container and start it
    Run(Box<run::Run>),
    /// Create a container and do not start it
    Create(Box<create::Create>),
    /// Start a stopped container
    Start(start::Start),
    /// List the containers
    Ps(ps::Ps),
    /// Show what a container wrote
    Logs(logs::Logs),
    /// Run a command in a running container
    Exec(exec::Exec),
    /// Ask containers to end, and kill them if they do not
    Stop(stop::Stop),
    /// Send a signal to containers
    Kill(kill::Kill),
    /// Remove containers
    Rm(rm::Rm),
    /// Show which files a container added (A), changed (C) and deleted (D)
    Diff(diff::Diff),
    /// Make an image of what a container changed
    Commit(commit::Commit),
    /// Write all files of a container into a tar archive
    Export(export::Export),
    /// Make an image from a root file system's tar archive
    Import(import::Import),
    /// Build an image from a Dockerfile
    Build(build::Build),
    /// List the images
    Images(images::Images),
    /// Show the steps that made an image
    History(history::History),
    /// Show all that is known of images, as JSON
    Inspect(inspect::Inspect),
    /// Give an image one more name
    Tag(tag::Tag),
    /// Remove images
    Rmi(rmi::Rmi),
    /// Write images into an archive
    Save(save::Save),
    /// Read images from an archive
    Load(load::Load),
    /// Get an image from a registry
    Pull(pull::Pull),
    /// Give an image to a registry
    Push(push::Push),
    /// Log in to a registry
    Login(login::Login),
    /// Forget a login
    Logout(login::Logout),
    /// Search Docker Hub, or list a registry
    Search(search::Search),
    /// A registry of one's own
    #[cfg(feature = "serve")]
    #[command(subcommand)]
    Registry(registry::Registry),
    /// The commands about images, also `inspect` and `prune`
    #[command(subcommand)]
    Image(image::Image),
    /// The commands about volumes
    #[command(subcommand)]
    Volume(volume::Volume),
    /// How much room is taken
    #[command(subcommand)]
    System(system::System),
    /// Serve the Docker Engine API on a UNIX socket
    #[cfg(feature = "serve")]
    Serve(serve::Serve),
    /// The process that holds one container; started by `run` and `start`
    #[command(hide = true)]
    Shim(shim::Shim),
}

impl Command {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        match self {
            Self::Import(command) => with_all(engine, || command.run(engine)),
            Self::Images(command) => command.run(engine),
            Self::Build(command) => command.run(engine),
            Self::Pull(command) => with_all(engine, || command.run(engine)),
            Self::Push(command) => command.run(engine),
            Self::Login(command) => command.run(),
            Self::Logout(command) => command.run(),
            Self::Search(command) => command.run(),
            #[cfg(feature = "serve")]
            Self::Registry(command) => command.run(engine),
            Self::Export(command) => command.run(engine),
            Self::Create(command) => command.run(engine),
            Self::Commit(command) => with_all(engine, || command.run(engine)),
            Self::Diff(command) => command.run(engine),
            Self::History(command) => command.run(engine),
            Self::Inspect(command) => command.run(engine),
            Self::Image(command) => command.run(engine),
            Self::System(command) => with_all(engine, || command.run(engine)),
            Self::Save(command) => command.run(engine),
            Self::Load(command) => with_all(engine, || command.run(engine)),
            Self::Tag(command) => command.run(engine),
            Self::Rmi(command) => with_all(engine, || command.run(engine)),
            Self::Run(command) => command.run(engine),
            Self::Start(command) => command.run(engine),
            Self::Ps(command) => command.run(engine),
            Self::Logs(command) => command.run(engine),
            Self::Exec(command) => command.run(engine),
            Self::Stop(command) => command.run(engine),
            Self::Kill(command) => command.run(engine),
            Self::Rm(command) => command.run(engine),
            Self::Volume(command) => command.run(engine),
            #[cfg(feature = "serve")]
            Self::Serve(command) => command.run(engine),
            Self::Shim(command) => Ok(command.run(engine)),
        }
    }
}

/// Tells what a user should know of a container that was just started.
fn tell(attached: &sampan_engine::container::start::Attached) {
    if let Some(notice) = &attached.notice {
        eprintln!("note: {notice}");
    }
}

/// Whether a reference, as it was typed, has a tag or a digest.
fn says_tag(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

/// The registries with this user's settings; slips in these are told.
fn registries() -> Result<Registries, sampan_image::registry::Error> {
    let registries = Registries::open()?;
    registries.warnings().iter().for_each(|text| eprintln!("warning: {text}"));
    Ok(registries)
}

/// An image that a command needs: from the store, or else from its registry, as Docker tells it.
fn ensure(
    engine: &Engine,
    wanted: &Ensure<'_>,
    quiet: bool,
) -> Result<sampan_engine::Image, sampan_image::registry::Error> {
    let missing = |reference: &Reference| {
        if !quiet {
            eprintln!("Unable to find image '{reference}' locally");
        }
    };
    engine.images().ensure(wanted, registries, &*crate::progress::of_errors(quiet), missing)
}

/// Does `act` for each name, prints the name for each for which it did something, and tells each failure: one bad name stops
/// no other.
fn each(names: &[String], mut act: impl FnMut(&str) -> Result<bool, sampan_engine::Error>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match act(name) {
            Ok(true) => println!("{name}"),
            Ok(false) => {}
            Err(error) => {
                eprint!("{}", step::report(&error, &sampan_engine::hints()));
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
