//! Tests of chapter 2, namespaces.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
