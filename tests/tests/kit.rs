//! Tests of `cargo kit`.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
