//! Tests of chapter 5, the network.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
