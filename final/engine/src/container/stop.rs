//! `stop` and `kill`: a signal to the container's first process.
//!
//! Pid 1 of a pid namespace gets only the signals that it handles, for the kernel gives it no default action; SIGKILL from
//! outside always works. So `stop` asks with the stop signal, waits, and then kills. See pid_namespaces(7).

use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Container, Status};
use crate::{Engine, Error};

impl Engine {
    /// Asks the container to end, and kills it after `patience`. One that does not run is left as it is.
    ///
    /// # Errors
    /// Where the kernel refuses the signal.
    pub fn stop(&self, container: &Container, patience: Duration) -> Result<(), Error> {
        if container.state.status != Status::Running {
            return Ok(());
        }
        self.signal(container, parse_signal(&container.config.stop_signal)?)?;
        if self.wait(container, Some(patience))?.is_none() {
            self.signal(container, Signal::SIGKILL)?;
            self.wait(container, None)?;
        }
        Ok(())
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// [`Error::State`] where it does not run.
    pub fn kill(&self, container: &Container, signal: Signal) -> Result<(), Error> {
        if container.state.status != Status::Running {
            return Err(Error::State {
                name: container.config.name.clone(),
                status: container.state.status.to_string(),
                remedy: "only a running one gets signals",
            });
        }
        self.signal(container, signal)
    }

    fn signal(&self, container: &Container, signal: Signal) -> Result<(), Error> {
        if let Some(process) = container.state.process {
            process.signal(signal)?;
        }
        Ok(())
    }
}

/// A signal as Docker takes it: `SIGTERM`, `term` or `15`.
///
/// # Errors
/// [`Error::Invalid`] for what is none.
pub fn parse_signal(text: &str) -> Result<Signal, Error> {
    let by_number = text.parse::<i32>().ok().and_then(|number| Signal::try_from(number).ok());
    let upper = text.to_ascii_uppercase();
    let by_name = || Signal::from_str(&upper).or_else(|_| Signal::from_str(&format!("SIG{upper}"))).ok();
    by_number
        .or_else(by_name)
        .ok_or_else(|| Error::Invalid(format!("{text}: no such signal (signal(7) lists them)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_three_spellings() {
        for text in ["SIGTERM", "term", "15"] {
            assert_eq!(parse_signal(text).unwrap(), Signal::SIGTERM);
        }
        assert!(parse_signal("SIGNOTHING").is_err() && parse_signal("0").is_err());
    }
}
