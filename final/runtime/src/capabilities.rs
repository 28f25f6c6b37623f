//! Capabilities.

use oci_spec::runtime::Capabilities;

/// Docker's default set of fourteen.
pub fn docker_default() -> Capabilities {
    Capabilities::new()
}
