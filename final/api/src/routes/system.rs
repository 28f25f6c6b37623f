//! Who answers here.

use axum::Json;
use axum::response::IntoResponse;
use serde_json::json;

use crate::API_VERSION;

pub(crate) async fn ping() -> impl IntoResponse {
    (
        [
            ("Api-Version", API_VERSION),
            ("Docker-Experimental", "false"),
            ("OSType", "linux"),
            ("Cache-Control", "no-cache"),
        ],
        "OK",
    )
}

pub(crate) async fn version() -> impl IntoResponse {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    Json(json!({
        "Platform": { "Name": "Sampan" },
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API_VERSION,
        "MinAPIVersion": API_VERSION,
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": release.trim(),
    }))
}
