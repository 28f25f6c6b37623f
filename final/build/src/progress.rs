//! What a build tells while it goes on, in the lines of Docker's classic builder.

use std::fmt;

use sampan_image::{ImageId, Reference};

/// One piece of news; `{}` gives its line.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// An instruction begins.
    Step {
        /// Its number, from 1.
        number: usize,
        /// Of how many.
        total: usize,
        /// The instruction.
        text: &'a str,
    },
    /// The base image has instructions for this moment.
    Triggers(usize),
    /// The step is in the build cache.
    Cached,
    /// A command begins; its output follows.
    Running,
    /// The image as it is after the step.
    Image(&'a ImageId),
    /// Something that is no error, and perhaps not meant.
    Warning(&'a str),
    /// The image is in the store.
    Built(&'a ImageId),
    /// The image has the name.
    Tagged(&'a Reference),
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { number, total, text } => write!(f, "Step {number}/{total} : {text}"),
            Self::Triggers(1) => write!(f, "# Executing 1 build trigger"),
            Self::Triggers(count) => write!(f, "# Executing {count} build triggers"),
            Self::Cached => write!(f, " ---> Using cache"),
            Self::Running => write!(f, " ---> Running"),
            Self::Image(id) => write!(f, " ---> {}", id.short()),
            Self::Warning(text) => write!(f, "[Warning] {text}"),
            Self::Built(id) => write!(f, "Successfully built {}", id.short()),
            Self::Tagged(reference) => write!(f, "Successfully tagged {reference}"),
        }
    }
}
