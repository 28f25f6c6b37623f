//! OCI images on a disk: a store that skopeo and umoci read as it is.
//!
//! An image is three kinds of files, each named by the SHA-256 of its bytes: *layers* (tar archives of what a step added), a
//! *config* (the command, the environment, and the DiffIDs of the layers), and a *manifest* that lists both. An *index* names
//! manifests. The store is an OCI image layout and, beside it, each layer unpacked once for all images that have it:
//!
//! ```text
//! <data>/images/oci-layout, index.json, blobs/sha256/<hex>      see image-layout.md of the image specification
//! <data>/layers/sha256/<hex of the DiffID>/                     the layer as overlay wants it: a folder
//! <data>/tmp/                                                   what is not finished; swept when nobody works
//! ```
//!
//! What holds at any instant, whoever is killed: 1. a blob under its name has the bytes of that name; 2. a layer's folder is
//! complete; 3. the index names only what is there; 4. what nothing names is removed by reachability, never by a counter.
//!
//! In reading order: [`digest`], [`mod@reference`], [`image`], [`blobs`], [`layout`], [`layers`], [`store`], [`import`], [`remove`], [`usage`],
//! [`lock`]; then [`archive`] and [`registry`], for what comes from elsewhere, and [`serve`], for those who come here.

#![forbid(unsafe_code)]

pub mod digest;
pub mod reference;

pub mod image;

mod ahead;
pub mod blobs;
mod bounds;
pub mod layers;
pub mod layout;

pub mod archive;
pub mod import;
pub mod registry;
pub mod remove;
pub mod serve;
pub mod store;
pub mod usage;

pub mod lock;

pub mod error;
pub mod hints;

pub use digest::{DiffId, Digest, ImageId};
pub use error::Error;
pub use hints::HINTS;
pub use image::{DockerConfig, Healthcheck, Image, NewImage};
pub use import::Import;
pub use layers::Layer;
pub use lock::Pin;
pub use oci_spec::image::Descriptor;
pub use reference::Reference;
pub use remove::Removed;
pub use store::Store;
pub use usage::Usage;
