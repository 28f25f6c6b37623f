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
//! What root alone can do, root does before the clone: see [`crate::mount_sources`].
//!
//! See mount(8), mount_setattr(2); runtime-spec: config.md, "Mounts".

use std::path::{Component, Path, PathBuf};

use ::cgroups::Cgroup;
use ::namespaces::Kind;
use ::namespaces::mounts::{Change, Covered, More, Mount, MountAttrFlags, Propagation, Source};
use oci_spec::runtime::{Mount as Entry, Spec};

use crate::Error;
use crate::devices::{Dev, Devices};
use crate::mount_options::Options;
use crate::mount_sources::{IdMapped, id_mapped};
use crate::namespaces::Namespaces;
use crate::{cgroup_mounts, labels, mount_sources};

const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;

/// Files of `/proc` that may be covered by others, as LXCFS does; everything else there is how a container is confined.
const PROC_FILES: [&str; 11] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "net/dev",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// File systems that the kernel fills, or that have no disk: to be read-only is a matter of the mount alone.
const WITHOUT_DISK: [&str; 8] =
    ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay"];

/// What is to be mounted, in its order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) dev: Dev,
    /// Whether proc is mounted at `/proc`.
    pub(crate) own_proc: bool,
    /// Directories to be made read-only when all that lies in them is mounted.
    pub(crate) close: Vec<String>,
    /// Symbolic links to be made in what is mounted, and what they hold.
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    /// Which of the mounts show owners through other ids.
    pub(crate) id_maps: Vec<IdMapped>,
    /// What SELinux knows the container's files by.
    pub(crate) label: Option<String>,
}

/// Reads the configuration's mounts, and opens what is to be opened before the clone. Relative sources begin in the bundle.
///
/// # Errors
/// [`Error::Config`], with the entry; and as [`mount_sources::open`].
pub(crate) fn prepare(
    spec: &Spec,
    bundle: &Path,
    namespaces: &Namespaces,
    cgroup: Option<&Cgroup>,
) -> Result<Plan, Error> {
    let mut plan = plan(spec, bundle, namespaces, cgroup)?;
    mount_sources::open(&mut plan, namespaces)?;
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().clone());
    if let Some(label) = label.filter(|label| !label.is_empty()) {
        labels::label_mounts(&mut plan.mounts, &label);
        plan.label = Some(label);
    }
    Ok(plan)
}

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
        let options = Options::read(entry.options().as_deref().unwrap_or_default());
        let typ = entry.typ().as_deref().unwrap_or_default();
        let bind = options.bind || typ == "bind" || (typ.is_empty() && entry.source().is_some());
        check(entry, &options, bind, &target).map_err(|reason| field(&reason))?;
        let nodev = confined;
        if options.remount {
            plan.mounts.push(remount(typ, target, &options, bind, nodev));
        } else if bind {
            if let Some(mapped) = id_mapped(entry, &options, namespaces, plan.mounts.len()) {
                plan.id_maps.push(mapped.map_err(field)?);
            }
            if target == Path::new("/dev") {
                plan.dev = Dev::Bound;
            }
            let source = bundle.join(entry.source().as_deref().unwrap_or(Path::new("")));
            plan.mounts.push(bound(source, target, options, nodev));
        } else if typ == "cgroup" || typ == "cgroup2" {
            cgroup_mounts::show(&mut plan, &target, &options, namespaces, cgroup);
        } else {
            if target == Path::new("/dev") {
                plan.dev = Dev::Own;
            }
            plan.own_proc |= typ == "proc" && target == Path::new("/proc");
            let mut mount = instance(typ, entry, target, &options, namespaces);
            mount.flags.set(NODEV, mount.flags.contains(NODEV) || nodev && !has_devices(&mount));
            plan.mounts.push(mount);
        }
    }
    Ok(plan)
}

/// What contradicts itself, or what the kernel would take no notice of.
fn check(entry: &Entry, options: &Options, bind: bool, target: &Path) -> Result<(), String> {
    let typ = entry.typ().as_deref().unwrap_or_default();
    let over_proc = covers_proc(target, entry.source().as_deref().filter(|_| bind), typ == "proc" && !bind);
    if over_proc && !options.remount {
        return Err("a mount over /proc would undo what confines the container".to_owned());
    }
    if bind && entry.source().is_none() && !options.remount {
        return Err("a bind mount needs a source".to_owned());
    }
    if let Some(option) = options.data.first().filter(|_| bind) {
        return Err(format!(
            "the option {option} belongs to the file system, which a bind mount shares with its source: leave it out"
        ));
    }
    if options.copy_up && typ != "tmpfs" {
        return Err("tmpcopyup fills a tmpfs, and this is none".to_owned());
    }
    let maps = entry.uid_mappings().is_some() || entry.gid_mappings().is_some();
    if (options.id_map.is_some() || maps) && !bind {
        return Err("owners are shown under other ids in bind mounts alone".to_owned());
    }
    Ok(())
}

/// Why a bind is made; others are the runtime's own.
pub(crate) const BOUND: &str = "a file or directory of the host, as the configuration asks";

fn bound(path: PathBuf, target: PathBuf, mut options: Options, nodev: bool) -> Mount {
    if nodev {
        options.own.clear -= NODEV;
        options.tree.set |= NODEV;
    }
    if let Some((Propagation::Slave, everything)) = options.propagation.first_mut() {
        // The mounts beneath would go on handing theirs to the host.
        *everything = true;
    }
    let recursive = options.recursive;
    let changes = options.changes(!recursive, true);
    let source = Source::Bind { path, recursive };
    let more = More { changes, ..More::default() };
    Mount { source, target, flags: MountAttrFlags::empty(), why: BOUND, more }
}

/// As mount(8) does it: attributes that are not named are cleared, but for access times.
fn remount(typ: &str, target: PathBuf, options: &Options, bind: bool, nodev: bool) -> Mount {
    let simple = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW
        | MountAttrFlags::MOUNT_ATTR_NODIRATIME
        | RDONLY
        | if nodev { MountAttrFlags::empty() } else { NODEV };
    let mut options = options.clone();
    options.own.clear |= simple - options.own.set;
    if !bind && !typ.is_empty() && !WITHOUT_DISK.contains(&typ) {
        options.data.push(if options.own.set.contains(RDONLY) { "ro" } else { "rw" }.to_owned());
    }
    let changes = options.changes(false, false);
    Mount {
        source: Source::Remount { data: options.data.join(",") },
        target,
        flags: MountAttrFlags::empty(),
        why: "what is mounted here already, with other options",
        more: More { changes, ..More::default() },
    }
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

fn covers_proc(target: &Path, bound: Option<&Path>, is_proc: bool) -> bool {
    match target.strip_prefix("/proc") {
        Ok(rest) if rest.as_os_str().is_empty() => !is_proc && bound != Some(Path::new("/proc")),
        Ok(rest) => !PROC_FILES.iter().any(|file| rest == Path::new(file)),
        Err(_) => false,
    }
}

/// A new instance of a file system; where the kernel would refuse one, the host's.
fn instance(typ: &str, entry: &Entry, target: PathBuf, options: &Options, namespaces: &Namespaces) -> Mount {
    let needs = match typ {
        "proc" => Some(Kind::Pid),
        "sysfs" => Some(Kind::Network),
        "mqueue" => Some(Kind::Ipc),
        _ => None,
    };
    let refused = namespaces.owns(Kind::User) && needs.is_some_and(|kind| !namespaces.owns(kind));
    let mut flags = options.own.set | options.tree.set;
    if refused && let Some(path) = host_path(typ) {
        let source = Source::Bind { path, recursive: true };
        let why = "shown as the host has it, whose namespace it shares";
        // The attributes that the host has set are locked, and stay.
        return Mount { source, target, flags: flags & RDONLY, why, more: More::default() };
    }
    let mut data = options.data.clone();
    if typ == "devpts" && !namespaces.has_tty_group() {
        data.retain(|option| !option.starts_with("gid="));
    }
    let mut more = More::default();
    let private = Options { propagation: options.propagation.clone(), ..Options::default() };
    more.changes = private.changes(true, true);
    if typ == "tmpfs" {
        let mode = data.iter().any(|option| option.starts_with("mode="));
        if options.copy_up {
            more.covered = Covered::Copied { dress: !mode };
            if flags.contains(RDONLY) {
                flags -= RDONLY;
                more.changes.push(Change { set: RDONLY, ..Change::default() });
            }
        } else if !mode {
            more.covered = Covered::Mode;
        }
    } else if flags.contains(RDONLY) && !WITHOUT_DISK.contains(&typ) {
        data.push("ro".to_owned());
    }
    let source =
        entry.source().as_ref().map_or_else(|| typ.to_owned(), |source| source.display().to_string());
    let source = Source::New { fstype: typ.to_owned(), source, data: data.join(",") };
    Mount { source, target, flags, why: why(typ), more }
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
        assert_eq!(plan.dev, Dev::Own);
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
        let change = |set, recursive| Change { set, recursive, ..Change::default() };
        assert_eq!(plan.mounts[0].more.changes, [change(RDONLY, false), change(NODEV, true)]);
    }

    #[test]
    fn nothing_is_mounted_over_proc() {
        for (destination, good) in
            [("/proc", false), ("/proc/sys/kernel", false), ("/a/../proc/1", false), ("/proc/meminfo", true)]
        {
            for typ in ["bind", "proc"] {
                let mounts = format!(
                    r#"[{{"destination":"{destination}","type":"{typ}","source":"/x","options":["bind"]}}]"#
                );
                assert_eq!(planned(&mounts, &["mount"]).is_ok(), good, "{destination} {typ}");
            }
        }
        let tmpfs = r#"[{"destination":"/proc","type":"tmpfs","source":"/proc"}]"#;
        assert!(planned(tmpfs, &["mount"]).is_err());
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
    fn what_cannot_be_says_so_and_names_its_field() {
        for (mount, reason) in [
            (
                r#""source":"/x","options":["rbind","mode=755"]"#,
                "the option mode=755 belongs to the file system",
            ),
            (r#""type":"bind""#, "a bind mount needs a source"),
            (r#""source":"/x","options":["bind","idmap"]"#, "idmap needs uidMappings"),
            (r#""type":"proc","options":["tmpcopyup"]"#, "tmpcopyup fills a tmpfs"),
            (r#""type":"tmpfs","options":["idmap"]"#, "owners are shown"),
        ] {
            let error = planned(&format!(r#"[{{"destination":"/x",{mount}}}]"#), &["mount"]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("config: mounts[0] /x: {reason}")), "{error}");
        }
    }

    #[test]
    fn a_tmpfs_looks_like_what_it_covers_unless_it_is_told_otherwise() {
        let covered = |options: &str| {
            let mounts = format!(r#"[{{"destination":"/x","type":"tmpfs","options":{options}}}]"#);
            planned(&mounts, &["mount"]).unwrap().mounts.remove(0).more.covered
        };
        assert_eq!(covered("[]"), Covered::Mode);
        assert_eq!(covered(r#"["mode=700"]"#), Covered::Hidden);
        assert_eq!(covered(r#"["tmpcopyup"]"#), Covered::Copied { dress: true });
    }
}
