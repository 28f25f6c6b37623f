//! Registries: where images are kept for others.
//!
//! A registry is an HTTP server with four things in each repository: manifests by tag or digest, blobs by digest, places to
//! upload to, and a list of tags. Everything else is who may do it, and what to do when the line breaks.
//!
//! ```text
//! Registries ── one for the program: settings, credentials, certificates, connections
//!    └─ Repository ── one path in one registry, with the tokens that it gave
//!          ├─ manifest, blob ─▶ pull ─▶ store            Download: goes on where the line broke
//!          └─ upload, put_manifest ◀─ push ◀─ store
//! ```
//!
//! In reading order: [`settings`], [`credentials`], `certificates`, `http`, `challenge`, `session`, [`repository`], `download`,
//! [`platform`], [`pull`], [`ensure`], `upload`, [`push`], [`login`], [`search`], [`progress`].
//!
//! See spec.md of the OCI distribution specification; the token protocol is in the distribution project's documentation.

pub mod credentials;
pub mod settings;

mod certificates;
mod challenge;
mod http;
mod session;

mod download;
pub mod repository;
mod upload;

pub mod ensure;
pub mod login;
pub mod platform;
pub mod pull;
pub mod push;
pub mod search;

pub mod error;
pub mod progress;

pub use credentials::{Credentials, Login};
pub use ensure::{Ensure, Policy};
pub use error::Error;
pub use platform::Platform;
pub use progress::{Progress, Quiet};
pub use pull::{Pull, Pulled};
pub use push::Pushed;
pub use repository::Repository;
pub use search::Found;
pub use session::Registries;
pub use settings::Settings;
