//! Tests of chapter 4, union file systems.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
