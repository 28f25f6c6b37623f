//! cgroups: which versions, which controllers, and may this user make one?

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde_json::json;

use super::Finding;
use crate::host::as_root;
use crate::mountinfo::{self, Mount};

/// What chapter 3 sets limits with: version 2's name, version 1's.
const CONTROLLERS: [(&str, &str); 5] =
    [("cpu", "cpu"), ("memory", "memory"), ("pids", "pids"), ("io", "blkio"), ("cpuset", "cpuset")];

fn mounts() -> Vec<Mount> {
    let mut mounts = mountinfo::read(Path::new("/proc/self"));
    mounts.retain(|mount| mount.fstype == "cgroup" || mount.fstype == "cgroup2");
    mounts
}

pub(super) fn hierarchies() -> Finding {
    let mounts = mounts();
    let count = |fstype: &str| mounts.iter().filter(|mount| mount.fstype == fstype).count();
    let (kind, fact) = match (count("cgroup"), count("cgroup2")) {
        (0, 0) => {
            let mend = as_root("mount -t cgroup2 none /sys/fs/cgroup");
            return Finding::missing("none is mounted", mend).with(json!({ "kind": "none" }));
        }
        (0, _) => ("v2", "version 2".to_owned()),
        (old, 0) => ("v1", format!("version 1 ({old} hierarchies)")),
        (old, _) => ("hybrid", format!("hybrid: version 2, and {old} hierarchies of version 1")),
    };
    Finding::works(fact).with(json!({ "kind": kind }))
}

/// Where each controller is: the folder of the hierarchy and its version.
fn found() -> BTreeMap<&'static str, (PathBuf, &'static str)> {
    let mut found = BTreeMap::new();
    for mount in mounts() {
        let list = fs::read_to_string(mount.target.join("cgroup.controllers")).unwrap_or_default();
        for (name, old_name) in CONTROLLERS {
            if mount.fstype == "cgroup2" && list.split_whitespace().any(|word| word == name) {
                found.insert(name, (mount.target.clone(), "v2"));
            } else if mount.fstype == "cgroup" && mount.options.iter().any(|option| option == old_name) {
                found.insert(name, (mount.target.clone(), "v1"));
            }
        }
    }
    found
}

pub(super) fn controllers() -> Finding {
    let found = found();
    let data = json!(found.iter().map(|(name, (_, version))| (*name, *version)).collect::<BTreeMap<_, _>>());
    let list =
        found.iter().map(|(name, (_, version))| format!("{name} ({version})")).collect::<Vec<_>>().join(", ");
    let lacking: Vec<&str> =
        CONTROLLERS.iter().map(|(name, _)| *name).filter(|name| !found.contains_key(name)).collect();
    if lacking.is_empty() {
        return Finding::works(list).with(data);
    }
    let fact = format!("{} not there; {list}", lacking.join(", "));
    let mend = if lacking.contains(&"memory") {
        "add cgroup_enable=memory to the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub), and boot again"
    } else {
        "a kernel with these controllers, which every distribution's has, and no cgroup_disable= on its command line"
    };
    Finding::missing(fact, mend).with(data)
}

/// Makes a cgroup and removes it: root anywhere, an ordinary user in the subtree that was delegated to them.
pub(super) fn writable() -> Finding {
    if !geteuid().is_root() {
        return delegated();
    }
    for (name, (folder, _)) in found() {
        if let Err(error) = try_cgroup(&folder) {
            let fact = format!("{name}: no cgroup can be made in {}: {error}", folder.display());
            return Finding::missing(fact, as_root(&format!("mount -o remount,rw {}", folder.display())));
        }
    }
    Finding::works("root makes cgroups in each hierarchy")
}

/// The name carries this process's number, by which `cargo kit leaks` finds it if this process is killed here.
fn try_cgroup(folder: &Path) -> std::io::Result<()> {
    let ours = folder.join("sampan");
    let cgroup = ours.join(format!("kit-{}", std::process::id()));
    fs::create_dir_all(&cgroup)?;
    fs::remove_dir(&cgroup)?;
    // It stays where another program's cgroups are in it.
    let _ = fs::remove_dir(&ours);
    Ok(())
}

/// systemd gives an ordinary user a subtree of version 2; version 1 is never given away.
fn delegated() -> Finding {
    let scope = "systemd-run --user --scope -p Delegate=yes bash   # a shell in a cgroup of your own";
    let Some(mount) = mounts().into_iter().find(|mount| mount.fstype == "cgroup2") else {
        return Finding::missing(
            "version 1 is root's alone",
            "sudo -s   # version 1 is root's alone: run chapter 3 as root",
        );
    };
    let lines = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = lines.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let folder = mount.target.join(own.trim_start_matches('/'));
    let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let lacking: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| !controllers.split_whitespace().any(|word| word == *name))
        .collect();
    let data = json!({ "cgroup": own, "controllers": controllers.split_whitespace().collect::<Vec<_>>() });
    let writable = ["", "cgroup.procs"]
        .iter()
        .all(|file| nix::unistd::access(&folder.join(file), nix::unistd::AccessFlags::W_OK).is_ok());
    if writable && lacking.is_empty() {
        return Finding::works(format!("{own} is yours")).with(data);
    }
    let fact = if writable {
        format!("{own} is yours, but without {}", lacking.join(", "))
    } else {
        format!("{own} is not yours: no subtree was delegated to you")
    };
    let systemd = Path::new("/run/systemd/system").exists();
    Finding::missing(
        fact,
        if systemd { scope } else { "sudo -s   # version 1 is root's alone: run chapter 3 as root" },
    )
    .with(data)
}
