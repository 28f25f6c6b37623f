//! What to do when a step of this chapter fails.

use step::Hint;

/// The hints of chapter 2.
pub const HINTS: &[Hint] = &[];
