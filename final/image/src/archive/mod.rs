//! Images as archives, to carry them about without a registry.
//!
//! There are two forms, and one archive can be both at once, as Docker's are since version 25: the blobs lie under
//! `blobs/sha256/`, and two documents say what they are.
//!
//! ```text
//! oci-layout, index.json     the OCI image layout: index -> manifest -> config, layers       (skopeo, umoci, podman)
//! manifest.json              a list: the path of the config, the names, the layers' paths     (docker load of any version)
//! ```
//!
//! Older archives of Docker have no blobs: a folder for each layer with a `layer.tar`, or a link to another one's.
//!
//! In reading order: [`save`], `parts`, [`load`]. See image-layout.md of the OCI image specification, and Docker's documentation of
//! `docker save`.

pub mod load;
mod parts;
pub mod save;

pub use load::Loaded;
pub use save::{Form, Saved};

use serde::{Deserialize, Serialize};

/// An image in Docker's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Where a blob lies in either form.
fn blob_path(digest: &crate::Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
