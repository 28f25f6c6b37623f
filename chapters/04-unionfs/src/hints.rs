//! What to do when a step of this chapter fails. Each was provoked, and is provoked again by the tests.

use step::Hint;

/// The hints of chapter 4.
pub const HINTS: &[Hint] = &[];
