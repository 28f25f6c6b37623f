//! Tests of the attackers.

use tests::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
