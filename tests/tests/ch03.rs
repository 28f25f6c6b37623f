//! Tests of chapter 3, cgroups.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
