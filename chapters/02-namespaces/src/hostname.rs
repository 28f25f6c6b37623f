//! Set the host name of the UTS namespace.

use nix::unistd::sethostname;
use step::{StepError, step};

/// Sets the name that `hostname` and `uname -n` show in this UTS namespace.
///
/// # Errors
/// The step: EPERM without `CAP_SYS_ADMIN` over the namespace, EINVAL above 64 bytes.
pub fn set(name: &str) -> Result<(), StepError> {
    step("sethostname", format_args!("{name}"), "a name of its own: the UTS namespace keeps it from the host")
        .run(|| sethostname(name))
}
