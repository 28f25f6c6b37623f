//! Builds whose RUN is played by the test: what stands in the layers and in the config is looked at.

#![allow(clippy::unwrap_used, missing_docs)]

mod files;
mod place;
mod steps;
