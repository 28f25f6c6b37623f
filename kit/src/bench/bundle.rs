//! The bundles: what `runc spec` writes, without a terminal, and `true` as its command.
//!
//! Each container that may run beside others has a bundle of its own, for the path of its cgroup stands in config.json; an engine
//! names one too. They lie in `target/kit/bench`, and all have the kit's root file system, which is mounted read-only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::contestant::Slot;
use super::start::Case;
use crate::place;

/// Where they are made.
#[derive(Debug)]
pub(crate) struct Bundles {
    folder: PathBuf,
    rootfs: PathBuf,
    filter: Value,
}

impl Bundles {
    pub(crate) fn new(sampan: &Path) -> Result<Self> {
        let folder = place::kit().join("bench").join(format!("bundles-{}", std::process::id()));
        let rootfs = fs::canonicalize(place::kit().join("rootfs")).context("find the root file system")?;
        let filter = filter(sampan, &folder)?;
        Ok(Self { folder, rootfs, filter })
    }

    /// Writes the bundle of a container, and says all that is to be known of it.
    pub(crate) fn slot(&self, case: &Case, number: usize, command: &[&str]) -> Result<Slot> {
        let id = format!("sampan-bench-{}-{number}", std::process::id());
        let bundle = self.folder.join(&id);
        fs::create_dir_all(&bundle).with_context(|| format!("make {}", bundle.display()))?;
        let text = serde_json::to_string_pretty(&self.config(case, &id, command))?;
        let path = bundle.join("config.json");
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        let command = command.iter().map(|&word| word.to_owned()).collect();
        Ok(Slot { id, bundle, rootfs: self.rootfs.clone(), command, cgroups: Vec::new() })
    }

    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }

    fn config(&self, case: &Case, id: &str, command: &[&str]) -> Value {
        let few = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        let mut kinds = vec!["pid", "ipc", "uts", "mount"];
        kinds.extend(case.network.then_some("network"));
        let namespaces: Vec<_> = kinds.into_iter().map(|kind| json!({ "type": kind })).collect();
        let mut linux = json!({
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        });
        if case.cgroups {
            linux["cgroupsPath"] = json!(format!("/{id}"));
        }
        if case.seccomp {
            linux["seccomp"] = self.filter.clone();
        }
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": command,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
                "cwd": "/",
                "capabilities": { "bounding": few, "effective": few, "permitted": few },
                "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
                "noNewPrivileges": true,
            },
            "root": { "path": self.rootfs, "readonly": true },
            "hostname": "bench",
            "mounts": mounts(case),
            "linux": linux,
        })
    }
}

fn mounts(case: &Case) -> Value {
    let strict = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&strict, more].concat();
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": with(&["mode=1777", "size=65536k"]) }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": strict }),
    ];
    if case.network {
        mounts.push(
            json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": with(&["ro"]) }),
        );
    } else {
        // What runc's documents have for a container that shares the host's network.
        mounts.push(json!({ "destination": "/sys", "type": "bind", "source": "/sys", "options": with(&["rbind", "ro"]) }));
    }
    if case.cgroups && case.network {
        mounts.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": with(&["relatime", "ro"]) }));
    }
    Value::Array(mounts)
}

/// The filter that `sampan-runtime spec` writes, which is Docker's default for a container with few capabilities.
fn filter(sampan: &Path, folder: &Path) -> Result<Value> {
    let folder = folder.join("spec");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let status = Command::new(sampan).args(["spec", "--bundle"]).arg(&folder).status();
    if !status.with_context(|| format!("run {}", sampan.display()))?.success() {
        bail!("{} spec failed", sampan.display());
    }
    let path = folder.join("config.json");
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let spec: Value = serde_json::from_slice(&text)?;
    Ok(spec["linux"]["seccomp"].clone())
}
