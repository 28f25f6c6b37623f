//! Tests of the OCI runtime.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
