//! The device nodes that every program expects.

use std::os::fd::BorrowedFd;

use step::StepError;

/// Makes `/dev/null`, `zero`, `full`, `random`, `urandom`, `tty` and the links `fd`, `stdin`, `stdout`, `stderr`, `ptmx` under
/// the new root's `/dev`. In a user namespace no node can be made: there the host's are bound.
///
/// # Errors
/// The step that failed.
pub fn create(root: BorrowedFd<'_>, in_user_namespace: bool) -> Result<(), StepError> {
    let _ = (root, in_user_namespace);
    unimplemented!()
}
