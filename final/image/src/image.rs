//! An image as the store knows it: its config, and which layers it has.
//!
//! The config is the document whose digest is the image's ID. Docker keeps three things in it that the OCI specification has
//! no field for (health check, ONBUILD, SHELL); they are read and written beside the specified ones, so that nothing is lost
//! between an image and what is built on it.
//!
//! See config.md and manifest.md of the OCI image specification.

use std::path::Path;

use jiff::Timestamp;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, RootFsBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::blobs::Blobs;
use crate::layout::{digest_of, sorted};
use crate::{DiffId, Digest, Error, ImageId, Layer, Reference};

/// An image in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of the config.
    pub id: ImageId,
    /// The manifest's entry in the index, without a name.
    pub manifest: Descriptor,
    /// The config as specified.
    pub config: ImageConfiguration,
    /// What Docker adds to it.
    pub docker: DockerConfig,
    /// All names of the image, in order.
    pub references: Vec<Reference>,
    /// The names under which a registry has it, each with what the registry calls it.
    pub pulled: Vec<(Reference, Digest)>,
    /// The bytes of its layers as they are stored.
    pub size: u64,
    /// When it was made, if it says so.
    pub created: Option<Timestamp>,
    /// Its layers, lowest first.
    pub layers: Vec<DiffId>,
    /// The layers' blobs, in the same order.
    pub descriptors: Vec<Descriptor>,
}

/// What Docker keeps in the `config` of an image beyond the specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DockerConfig {
    /// How a container's health is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for whoever builds on the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// The shell of the shell form, where it is not `/bin/sh -c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// A health check as Docker writes it; times in nanoseconds, 0 for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", ...]`, `["CMD-SHELL", command]` or `["NONE"]`.
    pub test: Vec<String>,
    /// From one check to the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// After which a check counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// From one check to the next within the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// How many failures in a row make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An image that is to be put into the store. The config's `rootfs` is filled in from the layers.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The config as specified.
    pub config: ImageConfiguration,
    /// What Docker adds to it.
    pub docker: DockerConfig,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
}

impl NewImage {
    /// The ID that the image will have, without putting it anywhere.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a config that JSON cannot express.
    pub fn id(&self) -> Result<ImageId, Error> {
        let bytes = self.bytes().map_err(|error| Error::damaged("the new image's config", error))?;
        Ok(Digest::of(&bytes))
    }

    /// The config's bytes: the same for the same image.
    pub(crate) fn bytes(&self) -> serde_json::Result<Vec<u8>> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let rootfs = RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build();
        let mut config = self.config.clone();
        config.set_rootfs(rootfs.map_err(serde::ser::Error::custom)?);
        config_bytes(&config, &self.docker)
    }
}

impl Image {
    /// The first of its names, or its short ID: how a message calls it.
    pub fn name(&self) -> String {
        self.references.first().map_or_else(|| self.id.short().to_owned(), ToString::to_string)
    }

    /// Reads the image that a descriptor of the index names.
    pub(crate) fn load(blobs: &Blobs, entry: &Descriptor) -> Result<Self, Error> {
        let entry = choose(blobs, entry)?;
        let manifest: ImageManifest = document(blobs, &entry, "manifest")?;
        let id = digest_in(blobs.folder(), manifest.config())?;
        let bytes = blobs.read(&id)?;
        let (config, docker) =
            parse_config(&bytes).map_err(|error| Error::damaged(blobs.path(&id), error))?;
        let wrong = |reason: &str| Error::damaged(blobs.path(&id), reason);
        let layers = config
            .rootfs()
            .diff_ids()
            .iter()
            .map(|text| text.parse().map_err(|_| wrong("one of its diff_ids is no sha256 digest")))
            .collect::<Result<Vec<DiffId>, Error>>()?;
        if layers.len() != manifest.layers().len() {
            return Err(wrong("it has not as many diff_ids as the manifest has layers"));
        }
        Ok(Self {
            id,
            created: config.created().as_ref().and_then(|text| text.parse().ok()),
            config,
            docker,
            references: Vec::new(),
            pulled: Vec::new(),
            size: manifest.layers().iter().map(Descriptor::size).fold(0, u64::saturating_add),
            layers,
            descriptors: manifest.layers().clone(),
            manifest: entry,
        })
    }
}

/// An entry may name an index in its turn, with a manifest for each platform: the one for this machine is taken. Deeper it
/// never goes, so that an index cannot contain itself.
fn choose(blobs: &Blobs, entry: &Descriptor) -> Result<Descriptor, Error> {
    let mut entry = entry.clone();
    entry.set_annotations(None);
    if !is_index(entry.media_type()) {
        return Ok(entry);
    }
    let index: ImageIndex = document(blobs, &entry, "index")?;
    let here = oci_spec::image::Arch::default();
    let fits = |manifest: &&Descriptor| {
        manifest.platform().as_ref().is_some_and(|platform| {
            *platform.architecture() == here && *platform.os() == oci_spec::image::Os::Linux
        })
    };
    let found = index.manifests().iter().find(fits).filter(|found| !is_index(found.media_type()));
    found.cloned().ok_or_else(|| {
        Error::damaged(
            blobs.folder().join(entry.digest().digest()),
            format_args!("it has no manifest for linux/{here}"),
        )
    })
}

pub(crate) fn is_index(media_type: &MediaType) -> bool {
    match media_type {
        MediaType::ImageIndex => true,
        MediaType::Other(text) => text == "application/vnd.docker.distribution.manifest.list.v2+json",
        _ => false,
    }
}

/// What an image's manifest is called: what it calls itself, which may be nothing, but not something else.
pub(crate) fn kind_of(manifest: &ImageManifest) -> Result<MediaType, String> {
    const DOCKERS: &str = "application/vnd.docker.distribution.manifest.v2+json";
    match manifest.media_type() {
        None | Some(MediaType::ImageManifest) => Ok(MediaType::ImageManifest),
        Some(MediaType::Other(text)) if text == DOCKERS => Ok(MediaType::Other(text.clone())),
        Some(other) => Err(format!("a manifest calls itself {other}")),
    }
}

pub(crate) fn document<T: serde::de::DeserializeOwned>(
    blobs: &Blobs,
    entry: &Descriptor,
    what: &str,
) -> Result<T, Error> {
    let digest = digest_in(blobs.folder(), entry)?;
    let bytes = blobs.read(&digest)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::damaged(blobs.path(&digest), format_args!("it is no {what}: {error}")))
}

fn digest_in(folder: &Path, descriptor: &Descriptor) -> Result<Digest, Error> {
    digest_of(descriptor)
        .ok_or_else(|| Error::damaged(folder, format_args!("{} is not sha256", descriptor.digest())))
}

fn parse_config(bytes: &[u8]) -> serde_json::Result<(ImageConfiguration, DockerConfig)> {
    let value: Value = serde_json::from_slice(bytes)?;
    let docker = match value.get("config") {
        Some(config @ Value::Object(_)) => DockerConfig::deserialize(config)?,
        _ => DockerConfig::default(),
    };
    let mut config = ImageConfiguration::deserialize(value)?;
    // These two are JSON objects used as sets, and are read in no order.
    if let Some(mut inner) = config.config().clone() {
        let in_order = |set: &Option<Vec<String>>| {
            set.clone().map(|mut set| {
                set.sort();
                set
            })
        };
        inner.set_exposed_ports(in_order(inner.exposed_ports()));
        inner.set_volumes(in_order(inner.volumes()));
        config.set_config(Some(inner));
    }
    Ok((config, docker))
}

fn config_bytes(config: &ImageConfiguration, docker: &DockerConfig) -> serde_json::Result<Vec<u8>> {
    let mut value = serde_json::to_value(config)?;
    let extra = serde_json::to_value(docker)?;
    if let (Some(object), Value::Object(extra)) = (value.as_object_mut(), extra)
        && !extra.is_empty()
    {
        let inner = object.entry("config").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(inner) = inner.as_object_mut() {
            inner.extend(extra);
        }
    }
    serde_json::to_vec(&sorted(value))
}
