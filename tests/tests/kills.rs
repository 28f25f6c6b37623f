//! Tests of killed programs.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
