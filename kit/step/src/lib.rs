//! The ground floor: one kernel call, told, timed and named in its error.
//!
//! Every call that changes something in the kernel or on the host is made through [`step`]. It takes the call's name, its
//! operands and *why* it is made, and runs it:
//!
//! ```
//! # use step::{step, StepError};
//! # fn main() -> Result<(), StepError> {
//! # let new_root = std::path::Path::new("/tmp");
//! step("chdir", format_args!("{}", new_root.display()), "the working directory must lie inside the new root")
//!     .run(|| std::env::set_current_dir(new_root))?;
//! # Ok(())
//! # }
//! ```
//!
//! The *why* is written once and has three readers: whoever reads the code, whoever runs it with `--explain`, and whoever
//! meets its failure. A call that only reads needs no step.
//!
//! In reading order: the step itself (this file), [`error`] (what a failed step says), [`narrate`] (what `--explain`
//! prints), [`report()`] (how a binary ends when something failed).

#![forbid(unsafe_code)]

pub mod error;
pub mod narrate;
pub mod report;

use std::fmt::Arguments;
use std::io;
use std::time::Instant;

pub use error::{Cause, StepError};
pub use narrate::{explain, heading, speaker};
pub use report::{Hint, report};

/// A call that is about to be made: see [`step`].
#[must_use = "a step does nothing until it is run"]
#[derive(Debug)]
pub struct Step<'a> {
    call: &'static str,
    operands: Arguments<'a>,
    why: &'static str,
}

/// Announces a call by its name in the manual (`"pivot_root"`), its operands as the reader would type them, and the reason
/// that it is made. Nothing is formatted unless somebody listens or the call fails.
pub fn step<'a>(call: &'static str, operands: Arguments<'a>, why: &'static str) -> Step<'a> {
    Step { call, operands, why }
}

impl Step<'_> {
    /// Makes the call, tells of it, and names it in the error.
    ///
    /// # Errors
    /// What the call returned, as a [`StepError`] with the call's name and operands.
    pub fn run<T, E: Into<io::Error>>(self, call: impl FnOnce() -> Result<T, E>) -> Result<T, StepError> {
        let start = narrate::listening().then(Instant::now);
        let outcome = call().map_err(|error| StepError::new(self.call, self.operands, error));
        if let Some(start) = start {
            narrate::tell(&self, Some(start.elapsed()), outcome.as_ref().err());
        }
        outcome
    }

    /// Makes a call that does not come back when it succeeds (`execve`): it is told before it is made, without a time.
    ///
    /// # Errors
    /// As for [`Step::run`].
    pub fn run_last<T, E: Into<io::Error>>(
        self,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, StepError> {
        if narrate::listening() {
            narrate::tell(&self, None, None);
        }
        call().map_err(|error| StepError::new(self.call, self.operands, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn a_step_that_succeeds_hands_its_value_on() {
        let value = step("answer", format_args!("to {}", "everything"), "a test").run(|| Ok::<_, Errno>(42));
        assert_eq!(value.unwrap(), 42);
    }

    #[test]
    fn a_step_that_fails_names_call_operands_and_errno() {
        let error = step("pivot_root", format_args!("/new /old"), "a test")
            .run(|| Err::<(), _>(Errno::EINVAL))
            .unwrap_err();
        assert_eq!(format!("{error}"), "pivot_root /new /old");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "EINVAL: invalid argument");
        assert_eq!(error.errno(), Some(Errno::EINVAL));
    }
}
