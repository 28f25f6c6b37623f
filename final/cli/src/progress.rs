//! Pulls and pushes as they go on: a bar for each layer on a terminal, else a line for each that is done.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sampan_image::Digest;
use sampan_image::registry::{Progress, Quiet};

/// The form that fits: nothing, bars, or lines.
pub(crate) fn of_output(quiet: bool) -> Box<dyn Progress> {
    if quiet {
        Box::new(Quiet)
    } else if std::io::stdout().is_terminal() {
        Box::new(Bars {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stdout()),
            bars: Mutex::default(),
        })
    } else {
        Box::new(Lines)
    }
}

struct Lines;

impl Progress for Lines {
    fn note(&self, text: &str) {
        println!("{text}");
    }

    fn begin(&self, _: &Digest, _: u64) {}

    fn advance(&self, _: &Digest, _: u64) {}

    fn end(&self, layer: &Digest, outcome: &str) {
        println!("{}: {outcome}", layer.short());
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
