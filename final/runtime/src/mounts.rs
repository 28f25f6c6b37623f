//! `mounts`: translated for chapter 2.
//!
//! An entry is a file system with options, as in fstab(5), or with `bind` a piece of the host. Some of the options are attributes
//! of the mount (`ro`, `nosuid`), some say how mounts spread (`rprivate`), and what is left over is the file system's own
//! (`mode=755`).
//!
//! Where the container cannot have a file system of its own, because it has not the namespace that the file system shows, it
//! gets the host's: see [`::namespaces::mounts`] for what the kernel requires.
//!
//! *No device works* on anything mounted here: see [`crate::devices`].
//!
//! Not covered yet: `rslave` and `rshared`, idmapped mounts, `tmpcopyup`.
//!
//! See mount(8), mount_setattr(2); runtime-spec: config.md, "Mounts".

use std::path::{Component, Path, PathBuf};

use ::cgroups::{Cgroup, Version};
use ::namespaces::Kind;
use ::namespaces::mounts::{Mount, MountAttrFlags, Source};
use oci_spec::runtime::{Mount as Entry, Spec};

use crate::Error;
use crate::devices::Devices;
use crate::namespaces::Namespaces;

/// Files of `/proc` that may be covered by others, as LXCFS does; everything else there is how a container is confined.
const PROC_FILES: [&str; 8] =
    ["cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"];
/// Where version 1's hierarchies are shown.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

/// What is to be mounted, in its order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) mounts: Vec<Mount>,
    /// Whether `/dev` is a file system of the container's own, in which devices are made.
    pub(crate) own_dev: bool,
    /// Whether proc is mounted at `/proc`.
    pub(crate) own_proc: bool,
    /// Directories to be made read-only when all that lies in them is mounted.
    pub(crate) close: Vec<String>,
}

/// Reads the configuration's mounts. Relative sources begin in the bundle.
///
/// # Errors
/// [`Error::Config`], with the entry.
pub(crate) fn plan(
    spec: &Spec,
    bundle: &Path,
    namespaces: &Namespaces,
    cgroup: Option<&Cgroup>,
) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let confined = spec.linux().as_ref().is_none_or(|linux| Devices::new(linux, cgroup).confined);
    for (at, entry) in spec.mounts().iter().flatten().enumerate() {
        let field =
            |reason: &str| Error::config(format!("mounts[{at}] {}", entry.destination().display()), reason);
        let target =
            normal(entry.destination()).ok_or_else(|| field("the destination is no absolute path"))?;
        let options =
            Options::read(entry.options().as_deref().unwrap_or_default()).map_err(|reason| field(&reason))?;
        let typ = entry.typ().as_deref().unwrap_or_default();
        if options.bind || typ == "bind" || (typ.is_empty() && entry.source().is_some()) {
            if covers_proc(&target, entry.source().as_deref()) {
                return Err(field("a mount over /proc would undo what confines the container"));
            }
            let source = entry.source().as_ref().ok_or_else(|| field("a bind mount needs a source"))?;
            let source = Source::Bind { path: bundle.join(source), recursive: options.recursive };
            plan.mounts.push(Mount {
                source,
                target,
                flags: options.flags,
                why: "a file or directory of the host, as the configuration asks",
            });
        } else if typ == "cgroup" || typ == "cgroup2" {
            show_cgroups(&mut plan, &target, &options, namespaces, cgroup);
        } else {
            plan.own_dev |= target == Path::new("/dev");
            plan.own_proc |= typ == "proc" && target == Path::new("/proc");
            plan.mounts.push(instance(typ, entry, target, options, namespaces));
        }
    }
    for mount in plan.mounts.iter_mut().filter(|mount| confined && !has_devices(mount)) {
        mount.flags |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    Ok(plan)
}

/// The two file systems whose devices a container needs.
fn has_devices(mount: &Mount) -> bool {
    matches!(&mount.source, Source::New { fstype, .. } if fstype == "devpts" || mount.target == Path::new("/dev"))
}

/// A path without `.` and `..`; none where it is relative.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::from("/");
    for part in path.is_absolute().then(|| path.components())? {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            _ => {}
        }
    }
    Some(normal)
}

fn covers_proc(target: &Path, source: Option<&Path>) -> bool {
    match target.strip_prefix("/proc") {
        Ok(rest) if rest.as_os_str().is_empty() => source != Some(Path::new("/proc")),
        Ok(rest) => !PROC_FILES.iter().any(|file| rest == Path::new(file)),
        Err(_) => false,
    }
}

/// A new instance of a file system; where the kernel would refuse one, the host's.
fn instance(
    typ: &str,
    entry: &Entry,
    target: PathBuf,
    mut options: Options,
    namespaces: &Namespaces,
) -> Mount {
    let needs = match typ {
        "proc" => Some(Kind::Pid),
        "sysfs" => Some(Kind::Network),
        "mqueue" => Some(Kind::Ipc),
        _ => None,
    };
    let refused = namespaces.owns(Kind::User) && needs.is_some_and(|kind| !namespaces.owns(kind));
    if refused && let Some(path) = host_path(typ) {
        let source = Source::Bind { path, recursive: true };
        // The attributes that the host has set are locked, and stay.
        let flags = options.flags & MountAttrFlags::MOUNT_ATTR_RDONLY;
        return Mount { source, target, flags, why: "shown as the host has it, whose namespace it shares" };
    }
    if typ == "devpts" && !namespaces.has_tty_group() {
        options.data.retain(|option| !option.starts_with("gid="));
    }
    let source =
        entry.source().as_ref().map_or_else(|| typ.to_owned(), |source| source.display().to_string());
    let source = Source::New { fstype: typ.to_owned(), source, data: options.data.join(",") };
    Mount { source, target, flags: options.flags, why: why(typ) }
}

fn host_path(typ: &str) -> Option<PathBuf> {
    let path = match typ {
        "proc" => "/proc",
        "sysfs" => "/sys",
        "mqueue" => "/dev/mqueue",
        _ => return None,
    };
    Some(path.into())
}

fn why(typ: &str) -> &'static str {
    match typ {
        "proc" => "shows the processes of the pid namespace of whoever mounts it",
        "sysfs" => "shows the network namespace's interfaces; the machine's switches are in it too",
        "devpts" => "terminals of its own, numbered from 0",
        "mqueue" => "shows the message queues of the ipc namespace",
        "tmpfs" => "files in memory, the container's own",
        _ => "as the configuration asks",
    }
}

/// Shows the container its own cgroup. Version 2 has one tree for that; of version 1 each hierarchy is shown by itself.
fn show_cgroups(
    plan: &mut Plan,
    target: &Path,
    options: &Options,
    namespaces: &Namespaces,
    cgroup: Option<&Cgroup>,
) {
    let places = cgroup.map(Cgroup::places).unwrap_or_default();
    let v2_alone = places.iter().all(|place| place.version == Version::V2) && is_cgroup2(Path::new(CGROUPS));
    let why = "the container sees its own cgroup, and what it may use";
    if v2_alone {
        if namespaces.owns(Kind::Cgroup) {
            let source = Source::New {
                fstype: "cgroup2".to_owned(),
                source: "cgroup".to_owned(),
                data: String::new(),
            };
            plan.mounts.push(Mount { source, target: target.to_owned(), flags: options.flags, why });
        }
        return;
    }
    if places.is_empty() {
        return;
    }
    let data = "mode=755,size=1m".to_owned();
    let source = Source::New { fstype: "tmpfs".to_owned(), source: "cgroup".to_owned(), data };
    let closed = options.flags - MountAttrFlags::MOUNT_ATTR_RDONLY;
    plan.mounts.push(Mount {
        source,
        target: target.to_owned(),
        flags: closed,
        why: "a place for each hierarchy of version 1",
    });
    for place in places {
        let name = match place.version {
            Version::V2 => "unified".to_owned(),
            Version::V1 => {
                let names: Vec<_> =
                    place.controllers.iter().map(|controller| controller.name(Version::V1)).collect();
                names.join(",")
            }
        };
        let source = Source::Bind { path: place.dir.clone(), recursive: false };
        plan.mounts.push(Mount { source, target: target.join(name), flags: options.flags, why });
    }
    if options.flags.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        plan.close.push(target.display().to_string());
    }
}

fn is_cgroup2(path: &Path) -> bool {
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    rustix::fs::statfs(path)
        .is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|magic| magic == CGROUP2_SUPER_MAGIC))
}

/// An entry's options, sorted by whom they concern.
#[derive(Debug, PartialEq)]
struct Options {
    flags: MountAttrFlags,
    bind: bool,
    recursive: bool,
    data: Vec<String>,
}

impl Options {
    fn read(options: &[String]) -> Result<Self, String> {
        let mut read =
            Self { flags: MountAttrFlags::empty(), bind: false, recursive: false, data: Vec::new() };
        for option in options {
            match option.as_str() {
                "bind" => read.bind = true,
                "rbind" => (read.bind, read.recursive) = (true, true),
                "ro" | "rro" => read.flags |= MountAttrFlags::MOUNT_ATTR_RDONLY,
                "rw" => read.flags -= MountAttrFlags::MOUNT_ATTR_RDONLY,
                "nosuid" => read.flags |= MountAttrFlags::MOUNT_ATTR_NOSUID,
                "nodev" => read.flags |= MountAttrFlags::MOUNT_ATTR_NODEV,
                "noexec" => read.flags |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
                "nosymfollow" => read.flags |= MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
                "noatime" => read.flags |= MountAttrFlags::MOUNT_ATTR_NOATIME,
                "strictatime" => read.flags |= MountAttrFlags::MOUNT_ATTR_STRICTATIME,
                "nodiratime" => read.flags |= MountAttrFlags::MOUNT_ATTR_NODIRATIME,
                // What a new mount is anyway, and propagation that chapter 2 has seen to: nothing here is shared.
                "suid" | "dev" | "exec" | "symfollow" | "atime" | "diratime" | "relatime" | "defaults"
                | "async" | "private" | "rprivate" => {}
                "slave" | "rslave" | "shared" | "rshared" | "unbindable" | "runbindable" | "idmap"
                | "ridmap" | "tmpcopyup" | "remount" => {
                    return Err(format!("the option {option} is not supported"));
                }
                _ => read.data.push(option.clone()),
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Linux;

    fn namespaces(kinds: &[&str]) -> Namespaces {
        let kinds: Vec<_> = kinds.iter().map(|kind| format!(r#"{{"type":"{kind}"}}"#)).collect();
        let maps = r#""uidMappings":[{"containerID":0,"hostID":0,"size":1}],"gidMappings":[{"containerID":0,"hostID":0,"size":1}]"#;
        let maps =
            if kinds.iter().any(|kind| kind.contains("user")) { format!(",{maps}") } else { String::new() };
        let linux: Linux =
            serde_json::from_str(&format!(r#"{{"namespaces":[{}]{maps}}}"#, kinds.join(","))).unwrap();
        Namespaces::new(&linux).unwrap()
    }

    fn planned(mounts: &str, kinds: &[&str]) -> Result<Plan, Error> {
        let spec: Spec =
            serde_json::from_str(&format!(r#"{{"ociVersion":"1.2.0","mounts":{mounts}}}"#)).unwrap();
        plan(&spec, Path::new("/bundle"), &namespaces(kinds), None)
    }

    #[test]
    fn options_are_sorted_by_whom_they_concern() {
        let mounts = r#"[{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","ro","mode=755","size=1m"]}]"#;
        let plan = planned(mounts, &["mount"]).unwrap();
        let Source::New { data, .. } = &plan.mounts[0].source else { panic!("{plan:?}") };
        assert_eq!(data, "mode=755,size=1m");
        assert_eq!(
            plan.mounts[0].flags,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_RDONLY
        );
        assert!(plan.own_dev);
    }

    #[test]
    fn a_bind_begins_in_the_bundle_and_has_no_devices() {
        let mounts = r#"[{"destination":"/data/../x","type":"bind","source":"v","options":["rbind","ro","rprivate"]}]"#;
        let plan = planned(mounts, &["mount"]).unwrap();
        let Source::Bind { path, recursive: true } = &plan.mounts[0].source else { panic!("{plan:?}") };
        assert_eq!(
            (path.as_path(), plan.mounts[0].target.as_path()),
            (Path::new("/bundle/v"), Path::new("/x"))
        );
        assert_eq!(
            plan.mounts[0].flags,
            MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV
        );
    }

    #[test]
    fn nothing_is_mounted_over_proc() {
        for (destination, good) in
            [("/proc", false), ("/proc/sys/kernel", false), ("/a/../proc/1", false), ("/proc/meminfo", true)]
        {
            let mounts = format!(r#"[{{"destination":"{destination}","source":"/x","options":["bind"]}}]"#);
            assert_eq!(planned(&mounts, &["mount"]).is_ok(), good, "{destination}");
        }
    }

    #[test]
    fn what_cannot_be_ones_own_is_the_hosts() {
        let mounts = r#"[{"destination":"/sys","type":"sysfs","options":["nosuid","ro"]},
            {"destination":"/dev/pts","type":"devpts","options":["mode=0620","gid=5"]}]"#;
        let plan = planned(mounts, &["mount", "user"]).unwrap();
        assert!(
            matches!(&plan.mounts[0].source, Source::Bind { path, recursive: true } if path == Path::new("/sys"))
        );
        assert!(matches!(&plan.mounts[1].source, Source::New { data, .. } if data == "mode=0620"));
        let plan = planned(mounts, &["mount", "network", "user"]).unwrap();
        assert!(matches!(&plan.mounts[0].source, Source::New { .. }));
    }

    #[test]
    fn what_is_not_supported_says_so() {
        let error =
            planned(r#"[{"destination":"/x","source":"/x","options":["rbind","rshared"]}]"#, &["mount"])
                .unwrap_err();
        assert_eq!(error.to_string(), "config: mounts[0] /x: the option rshared is not supported");
    }
}
