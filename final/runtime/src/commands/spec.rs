//! `spec`: a config.json with the engine's defaults.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use namespaces::{IdMap, Maps};
use nix::unistd::geteuid;
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use sampan_runtime::Defaults;

/// `spec [--bundle DIR]`
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// The bundle's directory
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// For an ordinary user: with a user namespace, and this user's ids
    #[arg(long)]
    rootless: bool,
}

pub(crate) fn spec(args: &Args) -> anyhow::Result<u8> {
    let mut defaults = Defaults {
        args: vec!["sh".to_owned()],
        env: vec![
            format!("PATH={}", chroot::command::PATH),
            "TERM=xterm".to_owned(),
            "container=sampan".to_owned(),
        ],
        hostname: Some("sampan".to_owned()),
        terminal: true,
        ..Defaults::default()
    };
    if args.rootless || !geteuid().is_root() {
        let maps = Maps::for_this_user();
        defaults.uid_mappings = maps.uid.iter().map(mapping).collect();
        defaults.gid_mappings = maps.gid.iter().map(mapping).collect();
    }
    let path = args.bundle.join("config.json");
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = file.with_context(|| format!("cannot make {path:?}"))?;
    let text = serde_json::to_string_pretty(&defaults.spec())?;
    writeln!(file, "{text}").with_context(|| format!("cannot write {path:?}"))?;
    Ok(0)
}

fn mapping(map: &IdMap) -> LinuxIdMapping {
    let mapping = LinuxIdMappingBuilder::default()
        .container_id(map.inside)
        .host_id(map.outside)
        .size(map.count)
        .build();
    // Each field is given, so building cannot fail.
    mapping.unwrap_or_default()
}
