//! Stand before a container: pass on signals and keys, and hand back its status.

use crate::{Error, ExitStatus, Running};

/// Waits for the end of the container. Until then each signal that reaches this process goes to the init process; where the
/// container has a terminal, standard input and output are joined to it.
///
/// # Errors
/// The step that failed.
pub fn attend(running: Running) -> Result<ExitStatus, Error> {
    let _ = running;
    unimplemented!()
}
