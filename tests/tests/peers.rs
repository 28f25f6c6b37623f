//! Others' engines with our runtime: Podman, containerd and Docker, as Debian has them.
//!
//! Each test has an engine of its own: all that it keeps, its sockets and its daemons are in the test's own folders and
//! namespaces, its cgroups below one that carries the test's name, and at the end nothing of it may be left. Podman and Docker
//! are asked the same things, for their commands are the same: see `both`.
//!
//! `KIT_PEERS_RUNTIME=/usr/sbin/runc` runs the same tests with another runtime, to see what is its own and what the engine's.

mod both;
mod containerd;
mod engine;
mod rootless;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::{Host, Test, args};

pub(crate) use engine::{Engine, IMAGE, Kind};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = both::tests();
    tests.extend(rootless::tests());
    tests.extend(containerd::tests());
    tests
}

/// The runtime that the engines are given.
fn runtime(host: &Host) -> PathBuf {
    std::env::var_os("KIT_PEERS_RUNTIME").map_or_else(|| host.bin("sampan-runtime"), PathBuf::from)
}

/// An archive with the image `sampan/test`, as `docker save` writes it: our busybox, and the probe.
fn archive(host: &Host) -> Result<PathBuf> {
    let folder = host.new_dir()?;
    let (layer, rootfs) = (folder.join("layer.tar"), host.rootfs()?);
    let pack = ["--exclude=./kit/*-escape", "--sort=name", "-cf"];
    host.cmd("tar", args!["-C", rootfs].iter().chain(&pack.map(Into::into)).chain(&args![&layer, "."]))
        .run()?
        .success()?;
    let sum = host.command("sha256sum", [&layer])?.success()?.stdout;
    let sum = sum.split(' ').next().ok_or("no sum")?;
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["PATH=/usr/local/bin:/bin:/kit"], "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    fs::write(folder.join("config.json"), config.to_string())?;
    let manifest = json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    let archive = folder.join("image.tar");
    let all = ["manifest.json", "config.json", "layer.tar"].map(Into::into);
    host.cmd("tar", args!["-C", &folder, "-cf", &archive].iter().chain(&all)).run()?.success()?;
    Ok(archive)
}

/// The control file of a container's cgroup, on whichever version its controller is.
fn control(parent: &str, controller: &str, v1: &str, v2: &str) -> Result<Vec<String>> {
    let base = Path::new("/sys/fs/cgroup");
    let below = |root: &str| base.join(root).join(parent.trim_start_matches('/'));
    // On a machine with both, what version 1 would have may be done by version 2.
    let all = [(below(controller), v1), (below("unified"), v2), (below(""), v2)];
    let (folder, file) = all.iter().find(|(folder, _)| folder.is_dir()).ok_or("no cgroup of the engine's")?;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        // The container's own is the leaf that somebody is in.
        let path = entry?.path();
        let tasks = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        if path.is_dir() && !path.ends_with("conmon") && !tasks.is_empty() {
            found.push(fs::read_to_string(path.join(file))?.trim().to_owned());
        }
    }
    Ok(found)
}

/// A line of `/proc/PID/status`, without its name.
fn status(pid: i32, name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.ok_or_else(|| format!("no {name} of {pid}"))?.trim().to_owned())
}

/// The numbers in a list of JSON.
fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}
