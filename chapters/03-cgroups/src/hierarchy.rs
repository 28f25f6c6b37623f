//! Find where the cgroup file systems are mounted, and which controller is where.
//!
//! A *hierarchy* is a tree of cgroups, and each directory in it is one cgroup. A *controller* is the part of the kernel that
//! watches one resource. Version 1 (2008) has a hierarchy for each controller, or for a few together (`cpu,cpuacct`), and a
//! process is in one cgroup of each. Version 2 (2016) has one hierarchy for all of them. A *hybrid* host has both: a controller
//! belongs to version 1 or to version 2, never to both at once.
//!
//! Where they are is never assumed; the kernel says it in two files: 1. `/proc/self/mountinfo` names each mount, its mount
//! point, which directory of the hierarchy is its root (a container sees only a part), and its options, which for version 1
//! are the controllers; 2. `/proc/self/cgroup` names this process's own cgroup in each hierarchy, one line each. For version
//! 2 a third one, `cgroup.controllers`, lists what a directory has to share out.
//!
//! See cgroups(7), proc_pid_mountinfo(5), proc_pid_cgroup(5).

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::file::read;

/// The two interfaces of the kernel to cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller, from 2008.
    V1,
    /// One hierarchy for all controllers, from 2016.
    V2,
}

/// One tree of cgroups that is mounted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Which interface its files have.
    pub version: Version,
    /// Where it is mounted: the topmost cgroup that can be seen.
    pub mount_point: PathBuf,
    /// The directory of this process's own cgroup; the mount point where that cannot be seen.
    pub own: PathBuf,
    /// The controllers that it has. In version 2: those that its topmost directory has to share out.
    pub controllers: Vec<String>,
}

/// All hierarchies that are mounted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// Finds them for the process whose directory in /proc is given: `/proc/self`.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`] where there is none, [`Error::Read`] where /proc is not there.
    pub fn find(proc_self: &Path) -> Result<Self, Error> {
        let mut found = Self::parse(&read(&proc_self.join("mountinfo"))?, &read(&proc_self.join("cgroup"))?);
        if found.0.is_empty() {
            return Err(Error::NoHierarchy);
        }
        for hierarchy in found.0.iter_mut().filter(|hierarchy| hierarchy.version == Version::V2) {
            let list =
                fs::read_to_string(hierarchy.mount_point.join("cgroup.controllers")).unwrap_or_default();
            hierarchy.controllers = list.split_whitespace().map(str::to_owned).collect();
        }
        Ok(found)
    }

    /// The hierarchies that the text of `mountinfo` and of `cgroup` tell of; version 2's controllers are in neither.
    pub fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let mut found: Vec<Hierarchy> = Vec::new();
        for mount in mountinfo.lines().filter_map(Mount::parse) {
            let (version, controllers, own) = match mount.fstype {
                "cgroup2" => (Version::V2, Vec::new(), own_path(cgroup, |id, _| id == "0")),
                "cgroup" => {
                    // The options also name what is no controller ("rw", "name=systemd"): /proc/self/cgroup tells them apart.
                    let line = cgroup.lines().find_map(|line| {
                        let names = line.split(':').nth(1)?;
                        let all = !names.is_empty()
                            && names.split(',').all(|name| mount.options.split(',').any(|o| o == name));
                        all.then_some(names)
                    });
                    let Some(names) = line else { continue };
                    let controllers = names.split(',').filter(|name| !name.starts_with("name="));
                    (
                        Version::V1,
                        controllers.map(str::to_owned).collect(),
                        own_path(cgroup, |_, list| list == names),
                    )
                }
                _ => continue,
            };
            // A hierarchy may be mounted more than once; the first mount is the one that the host's tools use.
            let again = |other: &Hierarchy| other.version == version && other.controllers == controllers;
            if found.iter().any(again) {
                continue;
            }
            let own = own.and_then(|own| Path::new(own).strip_prefix(&mount.root).ok().map(Path::to_owned));
            let own = own.filter(|own| own != Path::new("")).map(|own| mount.mount_point.join(own));
            let own = own.unwrap_or_else(|| mount.mount_point.clone());
            found.push(Hierarchy { version, own, mount_point: mount.mount_point, controllers });
        }
        found.retain(|hierarchy| hierarchy.version == Version::V2 || !hierarchy.controllers.is_empty());
        Self(found)
    }

    /// The hierarchy of version 2, where one is mounted. On a hybrid host it may have no controller.
    pub fn v2(&self) -> Option<&Hierarchy> {
        self.0.iter().find(|hierarchy| hierarchy.version == Version::V2)
    }

    /// The hierarchy that has the controller, under its name in either version.
    pub fn with(&self, v2_name: &str, v1_name: &str) -> Option<&Hierarchy> {
        self.0.iter().find(|hierarchy| {
            let name = if hierarchy.version == Version::V2 { v2_name } else { v1_name };
            hierarchy.controllers.iter().any(|controller| controller == name)
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.0.iter()
    }
}

/// The path in the line of /proc/self/cgroup that fits: `7:cpu,cpuacct:/user.slice`, and `0::/` for version 2.
fn own_path(cgroup: &str, fits: impl Fn(&str, &str) -> bool) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        fits(id, controllers).then_some(path)
    })
}

/// The columns of one line of mountinfo that matter here.
struct Mount<'a> {
    root: PathBuf,
    mount_point: PathBuf,
    fstype: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// `33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu`: optional columns end with a dash.
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut columns = mount.split(' ').skip(3);
        let (root, mount_point) = (unescape(columns.next()?), unescape(columns.next()?));
        let mut columns = filesystem.split(' ');
        let (fstype, options) = (columns.next()?, columns.nth(1)?);
        Some(Self { root, mount_point, fstype, options })
    }
}

/// The kernel writes a blank in a path as `\040`, three octal digits, and so for tab, newline and the backslash itself.
fn unescape(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(char::from(byte));
                path.push_str(&part[3..]);
            }
            None => path.push_str(part),
        }
    }
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURE_V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw
33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /user /mnt/a\\040b/memory rw - cgroup cgroup rw,memory
36 31 0:31 / /elsewhere rw - cgroup cgroup rw,cpu,cpuacct
";
    const OWN: &str =
        "12:cpu,cpuacct:/user.slice\n5:memory:/user/me\n1:name=systemd:/x\n0::/user.slice/me.scope\n";

    #[test]
    fn pure_version_2() {
        let found = Hierarchies::parse(PURE_V2, "0::/user.slice/me.scope\n");
        let v2 = found.v2().unwrap();
        assert_eq!(v2.mount_point, Path::new("/sys/fs/cgroup"));
        assert_eq!(v2.own, Path::new("/sys/fs/cgroup/user.slice/me.scope"));
        assert_eq!(found.iter().count(), 1);
    }

    #[test]
    fn hybrid_with_controllers_mounted_together() {
        let found = Hierarchies::parse(HYBRID, OWN);
        let cpu = found.with("cpu", "cpu").unwrap();
        assert_eq!(cpu.version, Version::V1);
        assert_eq!(cpu.controllers, ["cpu", "cpuacct"]);
        assert_eq!(found.with("", "cpuacct"), Some(cpu));
        assert_eq!(cpu.mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert!(found.with("pids", "pids").is_none());
        assert!(found.iter().all(|hierarchy| hierarchy.mount_point != Path::new("/sys/fs/cgroup/systemd")));
        assert_eq!(found.iter().count(), 3);
    }

    #[test]
    fn a_mount_may_show_a_part_of_the_hierarchy_and_have_a_blank_in_its_path() {
        let found = Hierarchies::parse(HYBRID, OWN);
        let memory = found.with("memory", "memory").unwrap();
        assert_eq!(memory.mount_point, Path::new("/mnt/a b/memory"));
        assert_eq!(memory.own, Path::new("/mnt/a b/memory/me"));
    }

    #[test]
    fn controllers_of_version_2_are_read_from_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().display();
        fs::write(dir.path().join("mountinfo"), format!("30 23 0:26 / {mount} rw - cgroup2 none rw\n"))
            .unwrap();
        fs::write(dir.path().join("cgroup"), "0::/\n").unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        let found = Hierarchies::find(dir.path()).unwrap();
        assert_eq!(found.with("io", "blkio").unwrap().version, Version::V2);
        fs::write(dir.path().join("mountinfo"), "").unwrap();
        assert!(matches!(Hierarchies::find(dir.path()), Err(Error::NoHierarchy)));
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        assert_eq!(Hierarchies::parse("rubbish\n1 2 - cgroup\n - \n", "x\n").iter().count(), 0);
    }
}
