//! The images: archives of Docker's form with compressed layers, of a root file system that is cut into equal lists of names.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::place as kit;

/// One layer for each piece of the list of names; `layers` gets its DiffID and size.
const SCRIPT: &str = r#"
set -e
find . -path './dev/*' -prune -o -print0 | sort -z > "$1/names"
split -t '\0' -a 3 -d -n "l/$2" "$1/names" "$1/part-"
for part in "$1"/part-*; do
    layer=$1/layer-${part##*-}.tar
    tar --no-recursion --hard-dereference --numeric-owner -cf "$layer" --null -T "$part"
    echo "$(sha256sum < "$layer" | cut -d ' ' -f 1) $(stat -c %s "$layer")" >> "$1/layers"
    pigz -n "$layer"
    rm "$part"
done
"#;

/// An image that no store has yet.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) folder: PathBuf,
    pub(crate) archive: PathBuf,
    /// The layers, lowest first.
    pub(crate) blobs: Vec<PathBuf>,
    /// Their bytes decompressed.
    pub(crate) plain: u64,
    /// Their bytes as they are carried.
    pub(crate) packed: u64,
}

/// What it is called everywhere.
pub(crate) const IMAGE: &str = "localhost/bench:latest";

impl Sample {
    pub(crate) fn make(rootfs: &Path, folder: &Path, layers: u32) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        run(Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(folder)
            .arg(layers.to_string())
            .current_dir(rootfs))?;
        let text = fs::read_to_string(folder.join("layers")).context("read the layers' digests")?;
        let (mut diff_ids, mut names, mut plain) = (Vec::new(), Vec::new(), 0);
        for (number, line) in text.lines().enumerate() {
            let (digest, size) = line.split_once(' ').context("a digest and a size")?;
            diff_ids.push(format!("sha256:{digest}"));
            names.push(format!("layer-{number:03}.tar.gz"));
            plain += size.parse::<u64>()?;
        }
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Cmd": ["true"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let manifest = json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": names }]);
        fs::write(folder.join("config.json"), config.to_string()).context("write the config")?;
        fs::write(folder.join("manifest.json"), manifest.to_string()).context("write the manifest")?;
        let archive = folder.join("image.tar");
        run(Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(folder)
            .args(["manifest.json", "config.json"])
            .args(&names))?;
        let blobs: Vec<_> = names.iter().map(|name| folder.join(name)).collect();
        let packed = blobs.iter().map(|blob| Ok(blob.metadata()?.len())).sum::<Result<u64>>()?;
        Ok(Self { folder: folder.to_owned(), archive, blobs, plain, packed })
    }

    pub(crate) fn name(&self) -> String {
        match self.blobs.len() {
            1 => "one layer".to_owned(),
            number => format!("{number} layers"),
        }
    }
}

/// Debian's smallest root file system, made once.
pub(crate) fn debian() -> Result<PathBuf> {
    let folder = kit::kit().join("bench/debian");
    if folder.is_dir() {
        return Ok(folder);
    }
    let unfinished = folder.with_extension("unfinished");
    eprintln!("debootstrap, once: a minute or two ...");
    let made = run(Command::new("debootstrap").args(["--variant=minbase", "bookworm"]).arg(&unfinished));
    made.context("debootstrap could not make it; --rootfs FOLDER takes another root file system")?;
    fs::rename(&unfinished, &folder).context("name Debian's root file system")?;
    Ok(folder)
}

/// Runs a command that says nothing unless it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let last = command.get_args().last().unwrap_or(OsStr::new("")).to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        bail!("{name} ... {last} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
