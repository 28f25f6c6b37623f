//! A mount of type `cgroup`: the container sees its own cgroup.
//!
//! On a host with version 2 alone it is one file system. In a cgroup namespace its root is the container's cgroup; without one
//! the container sees the host's whole tree, and finds itself in it by `/proc/self/cgroup`.
//!
//! Version 1 has a hierarchy for each controller: a tmpfs, and in it each hierarchy in which the container has a cgroup. That cgroup's
//! directory is bound, which is what a mount in the namespace would show. A hierarchy of several controllers has a link by each
//! one's name, as systemd makes them.
//!
//! What the kernel requires: 1. to mount version 2 in a user namespace, a cgroup namespace that belongs to it: else the host's
//! mount is bound. Read-only is the mount alone, never the file system: that is the host's too.
//!
//! See cgroups(7), cgroup_namespaces(7).

use std::path::{Path, PathBuf};

use ::cgroups::{Cgroup, Version};
use ::namespaces::Kind;
use ::namespaces::mounts::{Change, More, Mount, MountAttrFlags, Source};

use crate::mount_options::Options;
use crate::mounts::Plan;
use crate::namespaces::Namespaces;

/// Where the hierarchies are on the host.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

const WHY: &str = "the container sees its own cgroup, and what it may use";

/// Adds what a mount of type `cgroup` at `target` is made of.
pub(crate) fn show(
    plan: &mut Plan,
    target: &Path,
    options: &Options,
    namespaces: &Namespaces,
    cgroup: Option<&Cgroup>,
) {
    let places = cgroup.map(Cgroup::places).unwrap_or_default();
    let flags = options.own.set | options.tree.set;
    if places.iter().all(|place| place.version == Version::V2) && is_cgroup2(Path::new(CGROUPS)) {
        plan.mounts.push(version_2(target, flags, options, namespaces));
        return;
    }
    if places.is_empty() {
        return;
    }
    let data = "mode=755,size=1m".to_owned();
    let source = Source::New { fstype: "tmpfs".to_owned(), source: "cgroup".to_owned(), data };
    plan.mounts.push(Mount {
        source,
        target: target.to_owned(),
        flags: flags - MountAttrFlags::MOUNT_ATTR_RDONLY,
        why: "a place for each hierarchy of version 1",
        more: More::default(),
    });
    for place in places {
        let (name, links) = names(place);
        let source = Source::Bind { path: place.dir.clone(), recursive: false };
        let changes = vec![Change { set: flags, ..Change::default() }];
        let more = More { changes: if flags.is_empty() { Vec::new() } else { changes }, ..More::default() };
        let flags = MountAttrFlags::empty();
        for link in links {
            plan.links.push((target.join(link), PathBuf::from(&name)));
        }
        plan.mounts.push(Mount { source, target: target.join(name), flags, why: WHY, more });
    }
    if flags.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        plan.close.push(target.display().to_string());
    }
}

fn version_2(target: &Path, flags: MountAttrFlags, options: &Options, namespaces: &Namespaces) -> Mount {
    let target = target.to_owned();
    // Requirement 1.
    if namespaces.owns(Kind::User) && !namespaces.owns(Kind::Cgroup) {
        let more = More { changes: options.changes(true, true), ..More::default() };
        let source = Source::Bind { path: CGROUPS.into(), recursive: false };
        return Mount { source, target, flags: MountAttrFlags::empty(), why: WHY, more };
    }
    let data = String::new();
    let source = Source::New { fstype: "cgroup2".to_owned(), source: "cgroup".to_owned(), data };
    Mount { source, target, flags, why: WHY, more: More::default() }
}

/// What a hierarchy is called, as on the host; and the other names under which it is looked for.
fn names(place: &::cgroups::plan::Place) -> (String, Vec<String>) {
    if place.version == Version::V2 {
        return ("unified".to_owned(), Vec::new());
    }
    let all: Vec<_> =
        place.controllers.iter().map(|controller| controller.name(Version::V1).to_owned()).collect();
    let mounted = place.dir.strip_prefix(CGROUPS).ok().and_then(|path| path.iter().next());
    let name = mounted.map_or_else(|| all.join(","), |name| name.to_string_lossy().into_owned());
    // The host's name is the order that its tools expect: cpu,cpuacct.
    let parts: Vec<String> =
        if name.contains(',') { name.split(',').map(str::to_owned).collect() } else { all };
    let links = parts.into_iter().filter(|part| *part != name).collect();
    (name, links)
}

fn is_cgroup2(path: &Path) -> bool {
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    rustix::fs::statfs(path)
        .is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|magic| magic == CGROUP2_SUPER_MAGIC))
}
