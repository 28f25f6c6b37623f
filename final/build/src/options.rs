//! What a build is asked for.

use std::path::PathBuf;

use sampan_image::Reference;

/// What a build is asked for.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// The build context: the folder that COPY and ADD take files from.
    pub context: PathBuf,
    /// The Dockerfile; `Dockerfile` in the context where none is named.
    pub dockerfile: Option<PathBuf>,
    /// The image's names.
    pub tags: Vec<Reference>,
    /// `--build-arg`: values for ARG; none for one that is left as it is.
    pub args: Vec<(String, String)>,
    /// The stage to stop after; the last where none is named.
    pub target: Option<String>,
    /// The network mode of RUN; the engine's default where none is said.
    pub network: Option<String>,
    /// Whether every step is made anew.
    pub no_cache: bool,
}
