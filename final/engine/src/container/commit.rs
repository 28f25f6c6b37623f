//! `commit`: what a container wrote becomes a layer, and its settings the image's.
//!
//! The layer is a copy: the container goes on writing where it wrote. So that the copy is of one moment, the container is frozen
//! meanwhile, unless somebody says not to.

use std::io::{BufWriter, Seek as _, Write as _};
use std::path::Path;

use ::namespaces::{Created, StageError, as_root_of_the_files, spawn};
use cgroups::{Cgroup, Hierarchies};
use oci_spec::image::{Config, History};
use sampan_image::{Image, NewImage};

use super::{Container, Status};
use crate::{Engine, Error};

/// An archive of nothing is its end: two blocks of zeros.
const NOTHING: u64 = 1024;

/// What is said of the new image.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who made it.
    pub author: Option<String>,
    /// What it is, for the history.
    pub message: Option<String>,
    /// Whether the container stands still meanwhile.
    pub pause: bool,
}

impl Engine {
    /// Puts the image together; it is in the store when [`sampan_image::Store::put_image`] has taken it. The calling process has one
    /// thread.
    ///
    /// # Errors
    /// The step that failed; nothing is left then.
    pub fn commit(&self, container: &Container, options: &Options) -> Result<NewImage, Error> {
        let _pin = self.images.pin()?;
        let image = self.images.resolve(&container.config.image_id)?;
        let mut layers = self.images.layers_of(&image)?;
        let frozen = self.freeze(container, options)?;
        let packed = self.pack(container, &image);
        // It must go on whatever became of the copy.
        let thawed = frozen.map_or(Ok(()), Frozen::thaw);
        let archive = packed?;
        thawed?;
        let empty = archive.is_none();
        layers.extend(archive.map(|archive| self.images.add_layer(archive)).transpose()?);
        let now = sampan_image::import::now();
        let mut history = image.config.history().clone().unwrap_or_default();
        let mut entry = History::default();
        entry
            .set_created(Some(now.clone()))
            .set_created_by(Some(container.config.args.join(" ")))
            .set_author(options.author.clone())
            .set_comment(options.message.clone())
            .set_empty_layer(empty.then_some(true));
        history.push(entry);
        let mut config = image.config.clone();
        config
            .set_created(Some(now))
            .set_author(options.author.clone().or_else(|| image.config.author().clone()))
            .set_config(Some(settings(container, &image)))
            .set_history(Some(history));
        Ok(NewImage { config, docker: image.docker.clone(), layers })
    }

    fn freeze(&self, container: &Container, options: &Options) -> Result<Option<Frozen>, Error> {
        if !options.pause || container.state.status != Status::Running {
            return Ok(None);
        }
        let opened = Hierarchies::find(Path::new("/proc/self"))
            .and_then(|hierarchies| Cgroup::open_at(&hierarchies, &container.config.cgroup()));
        match opened {
            Ok(cgroup) => Ok(Some(Frozen::new(cgroup)?)),
            // An ordinary user's container may have none; there is nothing to stop it with then.
            Err(cgroups::Error::NoHierarchy | cgroups::Error::NoSuchCgroup(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The layer as an archive, in a file without a name; none where nothing was changed.
    fn pack(&self, container: &Container, image: &Image) -> Result<Option<std::fs::File>, Error> {
        let layers = self.layer_dirs(image)?;
        let (upper, userxattr) = (container.folder.join("upper"), self.images.userxattr());
        if !upper.is_dir() {
            return Ok(None);
        }
        let folder = self.images.data().join("tmp");
        let unusable = |source| Error::Store { path: folder.clone(), source };
        let mut archive = tempfile::tempfile_in(&folder).map_err(unusable)?;
        let out = archive.try_clone().map_err(unusable)?;
        as_root_of_the_files(|| {
            let failed = |error: unionfs::Error| StageError::new("commit", &error, 125);
            let mut out = BufWriter::with_capacity(1 << 17, out);
            unionfs::write_diff(&upper, userxattr, &layers, &mut out).map_err(failed)?;
            out.flush().map_err(|error| StageError::new("commit", &error, 125))
        })?;
        let length = archive.seek(std::io::SeekFrom::End(0)).map_err(unusable)?;
        archive.rewind().map_err(unusable)?;
        Ok((length > NOTHING).then_some(archive))
    }
}

/// A container that stands still.
struct Frozen {
    cgroup: Cgroup,
    guard: Created,
}

impl Frozen {
    /// Nobody else would let it go on where this process is killed meanwhile: another process waits for the end of this one, and does.
    fn new(cgroup: Cgroup) -> Result<Self, Error> {
        let guard = spawn(&::namespaces::Config::default(), |end| {
            // Control-C is not for it.
            let _ = nix::unistd::setsid();
            // Nobody tells it to proceed: it comes back when the other end of the socket is closed.
            let _ = end.wait_to_proceed();
            let _ = cgroup.thaw();
            std::process::exit(0)
        })?;
        let frozen = Self { cgroup, guard };
        match frozen.cgroup.freeze() {
            Ok(()) => Ok(frozen),
            Err(error) => {
                let _ = frozen.thaw();
                Err(error.into())
            }
        }
    }

    fn thaw(self) -> Result<(), Error> {
        let thawed = self.cgroup.thaw();
        self.guard.abort()?;
        Ok(thawed?)
    }
}

/// The image's settings with those of the container in their place.
fn settings(container: &Container, image: &Image) -> Config {
    let asked = &container.config;
    let mut config = image.config.config().clone().unwrap_or_default();
    // The record has both as one list: what the image begins with is its entrypoint, unless another was given.
    let entrypoint = config.entrypoint().clone().unwrap_or_default();
    let command = match asked.args.strip_prefix(entrypoint.as_slice()) {
        Some(command) => command.to_vec(),
        None => {
            config.set_entrypoint(None);
            asked.args.clone()
        }
    };
    config
        .set_cmd((!command.is_empty()).then_some(command))
        .set_env(Some(asked.env.clone()))
        .set_working_dir(Some(asked.working_dir.display().to_string()))
        .set_user((!asked.user.is_empty()).then(|| asked.user.clone()))
        .set_stop_signal(Some(asked.stop_signal.clone()))
        .set_labels((!asked.labels.is_empty()).then(|| asked.labels.clone().into_iter().collect()));
    config
}
