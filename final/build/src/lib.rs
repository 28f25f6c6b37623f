//! From a Dockerfile to an image.
//!
//! Each instruction that changes files makes a layer, the others change the config alone; the image that comes out is the base
//! image with the new layers on top. A build needs no mount of its own: COPY writes a folder that *is* the layer, RUN runs a
//! container by the engine and keeps its upper directory.
//!
//! ```text
//! Dockerfile ─ parse ─▶ instructions ─ expand ─▶ step ─▶ key ── in the cache? ── yes ──▶ the layer of last time
//!                                                          └─ no ─▶ COPY: files ─┐
//!                                                                   RUN: engine ─┴─▶ folder ─ adopt ─▶ layer
//! ```
//!
//! In reading order: [`dockerfile`] (the parser), [`tree`] (paths in the context and in an image), [`pattern`] (wildcards and
//! `.dockerignore`), `sources` and `layer` (COPY), `add` (archives), [`runner`] (RUN), `stage`, `cache`, [`builder`] (one
//! instruction after another), [`changes`] (instructions without a Dockerfile), [`progress`], [`outside`].
//!
//! Not covered: here-documents, mounts and secrets of RUN, downloads of ADD, stages that are built side by side.

#![forbid(unsafe_code)]

pub mod dockerfile;

pub mod pattern;
pub mod tree;

mod add;
mod layer;
mod owner;
mod sources;

pub mod outside;
pub mod runner;
mod tidy;

mod cache;
mod stage;

pub mod builder;
pub mod changes;
mod copy;
mod options;
mod settings;

pub mod error;
pub mod progress;

pub use builder::build;
pub use changes::change;
pub use error::Error;
pub use options::BuildOptions;
pub use progress::Progress;
pub use runner::{Ran, Runner, Task};
