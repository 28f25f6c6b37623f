//! `features`: what this runtime understands, as JSON.
//!
//! See runtime-spec: features.md, features-linux.md.

use serde_json::json;

/// `features`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime features | jq .linux.namespaces")]
pub(crate) struct Args {}

pub(crate) fn features() -> anyhow::Result<u8> {
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": [],
        "mountOptions": [],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
        },
    });
    println!("{}", serde_json::to_string_pretty(&features)?);
    Ok(0)
}
