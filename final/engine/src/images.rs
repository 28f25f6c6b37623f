//! Images, as far as containers have to do with them: which are in use, and what is shown of one.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use namespaces::{StageError, as_root_of_the_files};
use sampan_image::{Image, ImageId, Reference, Removed};
use serde_json::{Value, json};

use crate::{Config, Container, Engine, Error};

impl Engine {
    /// Removes an image's name, and with its last name the image, unless a container was made from it.
    ///
    /// # Errors
    /// As for [`sampan_image::Store::remove`].
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Removed, Error> {
        let used = Used { engine: self, containers: OnceCell::new() };
        let removed = self.images.remove(name, force, &|id| used.by(id));
        used.end()?;
        Ok(removed?)
    }

    /// Removes the images that no container was made from: those without a name, or with `all` any; of these, those that `select`
    /// chooses.
    ///
    /// # Errors
    /// As for [`sampan_image::Store::prune`].
    pub fn prune_images(&self, all: bool, select: &dyn Fn(&Image) -> bool) -> Result<Removed, Error> {
        let used = Used { engine: self, containers: OnceCell::new() };
        let chosen = |image: &Image| {
            (all || image.references.is_empty()) && used.by(&image.id).is_none() && select(image)
        };
        let removed = self.images.prune(&chosen);
        used.end()?;
        Ok(removed?)
    }

    /// The folders of an image's layers, lowest first. What was not unpacked yet is, with its owners: for that the calling process
    /// has one thread.
    ///
    /// # Errors
    /// As for [`sampan_image::Store::layer_dirs`].
    pub(crate) fn layer_dirs(&self, image: &Image) -> Result<Vec<PathBuf>, Error> {
        if !self.images.is_unpacked(image) {
            as_root_of_the_files(|| {
                let made = self.images.layer_dirs(image);
                made.map(drop).map_err(|error| StageError::new("unpack", &error, 125))
            })?;
        }
        Ok(self.images.layer_dirs(image)?)
    }

    /// The IDs of the images from which containers were made, with the number of these.
    ///
    /// # Errors
    /// Where a container's record cannot be read.
    pub fn used_images(&self) -> Result<BTreeMap<String, usize>, Error> {
        let mut used = BTreeMap::new();
        for config in self.configs()? {
            *used.entry(config.image_id).or_default() += 1;
        }
        Ok(used)
    }

    /// What `inspect` shows of an image: Docker's fields.
    ///
    /// # Errors
    /// Where the config cannot be read.
    pub fn inspect_image(&self, image: &Image) -> Result<Value, Error> {
        let raw = self.raw_config(image)?;
        let text = |name: &str| raw.get(name).cloned().unwrap_or_else(|| json!(""));
        let comment = raw
            .pointer("/history")
            .and_then(Value::as_array)
            .and_then(|history| history.last()?.get("comment").cloned());
        Ok(json!({
            "Id": image.id.to_string(),
            "RepoTags": image.references.iter().filter(|name| name.tag().is_some()).map(ToString::to_string).collect::<Vec<_>>(),
            "RepoDigests": repo_digests(image),
            "Parent": "",
            "Comment": comment.unwrap_or_else(|| json!("")),
            "Created": text("created"),
            "DockerVersion": "",
            "Author": text("author"),
            "Config": with_defaults(raw.get("config")),
            "Architecture": text("architecture"),
            "Variant": text("variant"),
            "Os": text("os"),
            "Size": image.size,
            "VirtualSize": image.size,
            "GraphDriver": {
                "Name": "overlay2",
                "Data": {"LowerDir": self.lower_dirs(image)},
            },
            "RootFS": {"Type": "layers", "Layers": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>()},
            "Metadata": {"LastTagTime": Value::Null},
        }))
    }

    /// The steps of an image, the newest first: what `history` shows. Steps without a layer have the size 0.
    ///
    /// # Errors
    /// Where the config cannot be read.
    pub fn image_history(&self, image: &Image) -> Result<Vec<Step>, Error> {
        let raw = self.raw_config(image)?;
        let history = raw.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut sizes = image.descriptors.iter().map(sampan_image::Descriptor::size);
        let mut steps = Vec::new();
        for entry in &history {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let empty = entry.get("empty_layer").and_then(Value::as_bool).unwrap_or(false);
            let size = if empty { 0 } else { sizes.next().unwrap_or(0) };
            let created = text("created").parse().ok();
            steps.push(Step { created, created_by: text("created_by"), comment: text("comment"), size });
        }
        // A layer of which the history says nothing is one all the same.
        steps.extend(sizes.map(|size| Step { size, ..Step::default() }));
        steps.reverse();
        Ok(steps)
    }

    /// The room that what a container wrote takes on the disk, in bytes.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn written(&self, container: &Container) -> Result<u64, Error> {
        Ok(sampan_image::usage::of_folder(&container.folder.join("upper"))?)
    }

    fn raw_config(&self, image: &Image) -> Result<Value, Error> {
        let bytes = self.images.blobs().read(&image.id)?;
        Ok(serde_json::from_slice(&bytes).map_err(|error| sampan_image::Error::Damaged {
            path: self.images.blobs().path(&image.id),
            reason: error.to_string(),
        })?)
    }

    /// As overlay's option names them, the topmost first.
    fn lower_dirs(&self, image: &Image) -> String {
        let folder = |layer: &sampan_image::DiffId| {
            self.paths.data.join("layers/sha256").join(layer.hex()).display().to_string()
        };
        image.layers.iter().rev().map(folder).collect::<Vec<_>>().join(":")
    }
}

/// Which images are in use at the moment when it is asked first: a container that is made before that counts.
struct Used<'a> {
    engine: &'a Engine,
    containers: OnceCell<Result<Vec<Config>, Error>>,
}

impl Used<'_> {
    /// The name of a container that has the image. What is not known counts as used.
    fn by(&self, id: &ImageId) -> Option<String> {
        let id = id.to_string();
        match self.containers.get_or_init(|| self.engine.configs()) {
            Ok(containers) => {
                containers.iter().find(|config| config.image_id == id).map(|config| config.name.clone())
            }
            Err(_) => Some(String::new()),
        }
    }

    fn end(self) -> Result<(), Error> {
        self.containers.into_inner().map_or(Ok(()), |containers| containers.map(drop))
    }
}

/// The config with Docker's values for what it does not say, so that a template or a script finds each field.
fn with_defaults(config: Option<&Value>) -> Value {
    let mut all = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null, "Image": "", "Volumes": null,
        "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
    });
    if let (Value::Object(all), Some(Value::Object(config))) = (&mut all, config) {
        all.extend(config.clone());
    }
    all
}

/// One step of an image's history.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// When it was made, if it says so.
    pub created: Option<jiff::Timestamp>,
    /// The instruction, or the command.
    pub created_by: String,
    /// What else was said.
    pub comment: String,
    /// The bytes of its layer, as stored.
    pub size: u64,
}

/// `NAME@DIGEST` for each repository that has the image.
pub fn repo_digests(image: &Image) -> Vec<String> {
    let name = |(reference, digest): &(Reference, sampan_image::Digest)| {
        format!("{}@{digest}", reference.familiar_name())
    };
    let mut names: Vec<_> = image.pulled.iter().map(name).collect();
    names.sort();
    names.dedup();
    names
}
