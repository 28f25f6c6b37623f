//! Pulls and pushes as they go on: a bar for each layer on a terminal, else a line for each that is done.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sampan_image::Digest;
use sampan_image::registry::{Progress, Quiet};

/// The form that fits standard output: nothing, bars, or lines.
pub(crate) fn of_output(quiet: bool) -> Box<dyn Progress> {
    let out = std::io::stdout();
    of(quiet, out.is_terminal().then(ProgressDrawTarget::stdout), Box::new(out))
}

/// The same on standard error, where standard output is somebody else's: a container's.
pub(crate) fn of_errors(quiet: bool) -> Box<dyn Progress> {
    let out = std::io::stderr();
    of(quiet, out.is_terminal().then(ProgressDrawTarget::stderr), Box::new(out))
}

fn of(quiet: bool, terminal: Option<ProgressDrawTarget>, out: Box<dyn Write + Send>) -> Box<dyn Progress> {
    match terminal {
        _ if quiet => Box::new(Quiet),
        Some(target) => {
            Box::new(Bars { all: MultiProgress::with_draw_target(target), bars: Mutex::default() })
        }
        None => Box::new(Lines(Mutex::new(out))),
    }
}

struct Lines(Mutex<Box<dyn Write + Send>>);

impl Lines {
    fn say(&self, text: std::fmt::Arguments<'_>) {
        // Where nobody reads any more, the work goes on: another process may wait for the image.
        let _ = writeln!(self.0.lock().unwrap_or_else(PoisonError::into_inner), "{text}");
    }
}

impl Progress for Lines {
    fn note(&self, text: &str) {
        self.say(format_args!("{text}"));
    }

    fn begin(&self, _: &Digest, _: u64) {}

    fn advance(&self, _: &Digest, _: u64) {}

    fn end(&self, layer: &Digest, outcome: &str) {
        self.say(format_args!("{}: {outcome}", layer.short()));
    }
}

struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    fn bar(&self, layer: &Digest, length: u64) -> ProgressBar {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || self.all.add(ProgressBar::new(length).with_prefix(layer.short().to_owned()));
        bars.entry(layer.clone()).or_insert_with(new).clone()
    }
}

/// A template that is wrong shows the bar without it.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

impl Progress for Bars {
    fn note(&self, text: &str) {
        // Where it cannot be shown, nobody is there to see.
        let _ = self.all.println(text);
    }

    fn begin(&self, layer: &Digest, size: u64) {
        let bar = self.bar(layer, size);
        bar.set_style(style("{prefix}: [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec}"));
        bar.set_length(size);
        // Perhaps it begins again, from elsewhere.
        bar.set_position(0);
    }

    fn advance(&self, layer: &Digest, bytes: u64) {
        self.bar(layer, 0).inc(bytes);
    }

    fn end(&self, layer: &Digest, outcome: &str) {
        let bar = self.bar(layer, 0);
        bar.set_style(style("{prefix}: {msg}"));
        bar.finish_with_message(outcome.to_owned());
    }
}
