//! Every console block of the book and the README, run.

use tests::Case;

pub(crate) fn cases() -> Vec<Case> {
    vec![]
}
