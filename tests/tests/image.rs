//! Tests of images.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
