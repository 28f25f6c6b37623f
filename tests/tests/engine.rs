//! Tests of the engine and `sampan`.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
