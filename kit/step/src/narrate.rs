//! What `--explain` prints: one line a step, numbered, timed, with its reason.
//!
//! Steps are `tracing` events of the target `step`, so whoever wants them as data installs a subscriber of its own. The
//! `Narrator` here is the subscriber of the command line: it writes to a copy of standard error that exec closes, so that
//! a process can tell of its steps up to the last one, also inside a container whose own standard error is a terminal of
//! its own, and the container's program inherits nothing of it.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use colored::{Colorize, control};
use rustix::io::fcntl_dupfd_cloexec;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::{Step, StepError};

const TARGET: &str = "step";
/// Out of the way of the descriptors that a program opens itself, so that a leaked one stands out.
const LOWEST_DESCRIPTOR: i32 = 100;

thread_local! {
    static SPEAKER: Cell<&'static str> = const { Cell::new("") };
}

/// From here on every step is told on standard error. Call it once, in `main`, when the user says `--explain`.
///
/// # Errors
/// Where standard error cannot be duplicated, or somebody installed a `tracing` subscriber before.
pub fn explain() -> io::Result<()> {
    let stderr = io::stderr();
    let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let sink = File::from(fcntl_dupfd_cloexec(stderr.as_fd(), LOWEST_DESCRIPTOR)?);
    tracing::subscriber::set_global_default(Narrator { sink, colour, number: AtomicU32::new(0) })
        .map_err(io::Error::other)
}

/// Names who tells the following steps of this thread (`"init"`). A process that was cloned calls this first: its steps and
/// its parent's run side by side.
pub fn speaker(name: &'static str) {
    SPEAKER.set(name);
}

/// Tells that the following steps serve one end: what a reader looks for in a long narration.
pub fn heading(text: &str) {
    tracing::info!(target: TARGET, heading = text);
}

/// Whether anybody listens: what a step costs when nobody does.
pub(crate) fn listening() -> bool {
    tracing::event_enabled!(target: TARGET, Level::INFO)
}

pub(crate) fn tell(step: &Step<'_>, took: Option<Duration>, error: Option<&StepError>) {
    let micros = took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    let errno = error.and_then(std::error::Error::source).map(ToString::to_string);
    tracing::info!(target: TARGET, call = step.call, operands = %step.operands, why = step.why, micros, errno);
}

/// The subscriber that writes each step as a line of text.
#[derive(Debug)]
struct Narrator {
    sink: File,
    colour: bool,
    number: AtomicU32,
}

impl Subscriber for Narrator {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET
    }

    fn event(&self, event: &Event<'_>) {
        let mut told = Told::default();
        event.record(&mut told);
        control::set_override(self.colour);
        let text = match &told.heading {
            Some(heading) => format!("{}\n", heading.bold()),
            None => told.line(self.number.fetch_add(1, Ordering::Relaxed) + 1, SPEAKER.get()),
        };
        control::unset_override();
        // One write a line, so that the lines of two processes do not run into each other. A narrator that cannot be heard
        // must not stop the work: the error is dropped on purpose.
        let _ = (&self.sink).write_all(text.as_bytes());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The fields of one step's event.
#[derive(Default)]
struct Told {
    call: String,
    operands: String,
    why: String,
    micros: Option<u64>,
    errno: Option<String>,
    heading: Option<String>,
}

impl Told {
    fn line(&self, number: u32, speaker: &str) -> String {
        let time = match self.micros {
            Some(micros) => format!("{:>4}.{:03} ms", micros / 1000, micros % 1000),
            None => " ".repeat(11),
        };
        let mut line = format!("{number:>3} {} ", time.dimmed());
        if !speaker.is_empty() {
            let _ = write!(line, "{} ", format!("[{speaker}]").dimmed());
        }
        let _ = write!(line, "{}", self.call.cyan().bold());
        if !self.operands.is_empty() {
            let _ = write!(line, " {}", self.operands);
        }
        if let Some(errno) = &self.errno {
            let _ = write!(line, " {}", format!("= {errno}").red());
        }
        let _ = writeln!(line, "\n                {}", self.why.dimmed());
        line
    }
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "call" => value.clone_into(&mut self.call),
            "why" => value.clone_into(&mut self.why),
            "heading" => self.heading = Some(value.to_owned()),
            "errno" => self.errno = Some(value.to_owned()),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "micros" {
            self.micros = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "operands" {
            self.operands = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_number_time_call_operands_and_reason() {
        control::set_override(false);
        let told = Told {
            call: "chroot".into(),
            operands: "rootfs".into(),
            why: "the new root".into(),
            micros: Some(1042),
            errno: None,
            heading: None,
        };
        assert_eq!(
            told.line(7, "init"),
            "  7    1.042 ms [init] chroot rootfs\n                the new root\n"
        );
    }
}
