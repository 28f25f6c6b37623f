//! The init process: forward signals, reap orphans, end as the command ends.

use std::convert::Infallible;

use crate::{InitEnd, StageError};

/// Starts the command in a child, stays as pid 1, and exits with the command's status (128+n for signal n).
///
/// # Errors
/// Where the child cannot be made; what goes wrong in `command` is told to the runtime process directly.
pub fn run(
    end: &mut InitEnd,
    command: impl FnOnce() -> Result<Infallible, StageError>,
) -> Result<Infallible, StageError> {
    let _ = (end, command);
    unimplemented!()
}
