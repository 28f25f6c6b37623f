//! Tests of building images.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
