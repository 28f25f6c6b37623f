//! `linux.namespaces`, `uidMappings`, `gidMappings`, `timeOffsets`: translated for chapter 2.
//!
//! A namespace with a path is entered, one without is made. A kind that is not in the list is the host's.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use ::namespaces::{Config, IdMap, Join, Kind, Maps, TimeOffset};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Spec};
use rustix::fs::{Mode, OFlags};

use crate::Error;

/// Which namespaces the init process gets.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Its own.
    pub(crate) new: Vec<Kind>,
    /// Others'.
    joined: Vec<Joined>,
    uid_map: Vec<IdMap>,
    gid_map: Vec<IdMap>,
    time_offsets: Vec<TimeOffset>,
}

/// A namespace that is there already.
#[derive(Debug)]
struct Joined {
    kind: Kind,
    /// An open file that stands for it.
    fd: OwnedFd,
    /// Whether this process is in it too.
    hosts: bool,
}

impl Namespaces {
    /// Reads the configuration and opens the paths.
    ///
    /// # Errors
    /// [`Error::Config`] for a kind that is named twice, for another's mount namespace, and for what goes with a namespace that
    /// is not asked for;
    /// [`Error::File`] for a path.
    pub(crate) fn new(linux: &Linux) -> Result<Self, Error> {
        let mut all = Self::default();
        for namespace in linux.namespaces().iter().flatten() {
            let kind = kind(namespace.typ());
            if all.owns(kind) || all.joined.iter().any(|join| join.kind == kind) {
                return Err(Error::config("linux.namespaces", format!("{kind} is there twice")));
            }
            match namespace.path() {
                Some(path) => all.joined.push(open(kind, path)?),
                None => all.new.push(kind),
            }
        }
        if all.joined.iter().any(|join| join.kind == Kind::Mount) {
            return Err(Error::config(
                "linux.namespaces",
                "a container cannot have a root of its own in another's mount namespace: leave the path out",
            ));
        }
        all.uid_map = maps(linux.uid_mappings().as_deref());
        all.gid_map = maps(linux.gid_mappings().as_deref());
        // With a path they may be repeated: the namespace's own are in force.
        let mapped = !all.uid_map.is_empty() && !all.gid_map.is_empty();
        if all.owns(Kind::User) && !mapped || !all.has(Kind::User) && !all.uid_map.is_empty() {
            return Err(Error::config("linux.uidMappings", "id mappings and a user namespace go together"));
        }
        all.time_offsets = time_offsets(linux)?;
        if !all.time_offsets.is_empty() && !all.owns(Kind::Time) {
            return Err(Error::config(
                "linux.timeOffsets",
                "they are set in a new time namespace, and none is asked for",
            ));
        }
        Ok(all)
    }

    /// Whether the container has a namespace of this kind for itself.
    pub(crate) fn owns(&self, kind: Kind) -> bool {
        self.new.contains(&kind)
    }

    /// What is in the configuration would change the host's own namespaces, or show it what is the container's.
    ///
    /// # Errors
    /// [`Error::Config`], with the field.
    pub(crate) fn check(&self, spec: &Spec, linux: &Linux) -> Result<(), Error> {
        let named = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
        let some = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(|paths| !paths.is_empty());
        let readonly = spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false));
        let host = [
            ("hostname", Kind::Uts, named(spec.hostname())),
            ("domainname", Kind::Uts, named(spec.domainname())),
            ("mounts", Kind::Mount, spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty())),
            ("linux.maskedPaths", Kind::Mount, some(linux.masked_paths())),
            ("linux.readonlyPaths", Kind::Mount, some(linux.readonly_paths())),
            ("root.readonly", Kind::Mount, readonly),
            ("linux.rootfsPropagation", Kind::Mount, named(linux.rootfs_propagation())),
        ];
        match host.into_iter().find(|(_, kind, asked)| *asked && !self.has(*kind)) {
            Some((field, kind, _)) => Err(Error::config(
                field,
                format!("the container shares the host's {kind} namespace, and this would change the host"),
            )),
            None => Ok(()),
        }
    }

    /// Whether the container is in one of this kind that is not the host's: for itself, or another's.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.owns(kind) || self.joined.iter().any(|join| join.kind == kind && !join.hosts)
    }

    /// Whether the group `tty`, to which terminals belong, exists inside.
    pub(crate) fn has_tty_group(&self) -> bool {
        const TTY: u32 = 5;
        let holds = |map: &IdMap| map.inside <= TTY && TTY - map.inside < map.count;
        !self.owns(Kind::User) || self.gid_map.iter().any(holds)
    }

    /// The maps of its own user namespace; empty where it has none.
    pub(crate) fn id_maps(&self) -> Maps {
        Maps { uid: self.uid_map.clone(), gid: self.gid_map.clone() }
    }

    /// Whether root inside is somebody else outside than this process is.
    pub(crate) fn shifted(&self) -> bool {
        let own = nix::unistd::geteuid().as_raw();
        self.owns(Kind::User) && self.uid_map.iter().any(|map| map.inside == 0 && map.outside != own)
    }

    /// As chapter 2 wants it.
    pub(crate) fn config(
        self,
        into_cgroup: Option<OwnedFd>,
        mapped_mounts: Vec<OwnedFd>,
        die_with_parent: bool,
    ) -> Config {
        let join = self.joined.into_iter().map(|join| Join { kinds: vec![join.kind], fd: join.fd }).collect();
        Config {
            new: self.new,
            join,
            uid_map: self.uid_map,
            gid_map: self.gid_map,
            mapped_mounts,
            into_cgroup,
            time_offsets: self.time_offsets,
            die_with_parent,
            same_work: false,
        }
    }
}

fn kind(typ: LinuxNamespaceType) -> Kind {
    match typ {
        LinuxNamespaceType::Mount => Kind::Mount,
        LinuxNamespaceType::Cgroup => Kind::Cgroup,
        LinuxNamespaceType::Uts => Kind::Uts,
        LinuxNamespaceType::Ipc => Kind::Ipc,
        LinuxNamespaceType::User => Kind::User,
        LinuxNamespaceType::Pid => Kind::Pid,
        LinuxNamespaceType::Network => Kind::Network,
        LinuxNamespaceType::Time => Kind::Time,
    }
}

/// Opens a namespace by a path, `/proc/PID/ns/net` or a file that it is bound at, and looks whether it is one of this kind.
fn open(kind: Kind, path: &Path) -> Result<Joined, Error> {
    let failed = |source: std::io::Error| Error::File { path: path.to_owned(), source };
    // Without O_NONBLOCK a FIFO would be waited at.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    match Kind::of(fd.as_fd()) {
        Ok(found) if found == kind => {}
        Ok(found) => {
            return Err(Error::config(
                "linux.namespaces",
                format!("{path:?} is a {found} namespace, and not a {kind} namespace"),
            ));
        }
        Err(_) => return Err(Error::config("linux.namespaces", format!("{path:?} is no namespace"))),
    }
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let that = rustix::fs::fstat(&fd).map(identity).map_err(|errno| failed(errno.into()))?;
    let own = rustix::fs::stat(format!("/proc/self/ns/{}", kind.proc_name())).map(identity);
    Ok(Joined { kind, fd, hosts: own == Ok(that) })
}

pub(crate) fn maps(maps: Option<&[LinuxIdMapping]>) -> Vec<IdMap> {
    let map = |map: &LinuxIdMapping| IdMap {
        inside: map.container_id(),
        outside: map.host_id(),
        count: map.size(),
    };
    maps.unwrap_or_default().iter().map(map).collect()
}

fn time_offsets(linux: &Linux) -> Result<Vec<TimeOffset>, Error> {
    let mut offsets = Vec::new();
    for (name, offset) in linux.time_offsets().iter().flatten() {
        let clock = ["monotonic", "boottime"].into_iter().find(|clock| clock == name);
        let clock = clock.ok_or_else(|| Error::config("linux.timeOffsets", format!("no clock {name:?}")))?;
        offsets.push(TimeOffset {
            clock,
            seconds: offset.secs().unwrap_or_default(),
            nanoseconds: offset.nanosecs().unwrap_or_default(),
        });
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Namespaces, Error> {
        Namespaces::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_path_is_entered_and_no_path_is_made() {
        let all = read(r#"{"namespaces":[{"type":"mount"},{"type":"network","path":"/proc/self/ns/net"}]}"#)
            .unwrap();
        assert!(all.owns(Kind::Mount) && !all.owns(Kind::Network) && all.joined.len() == 1);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for json in [
            r#"{"namespaces":[{"type":"mount"},{"type":"mount"}]}"#,
            r#"{"namespaces":[{"type":"mount","path":"/proc/self/ns/mnt"}]}"#,
            r#"{"namespaces":[{"type":"mount"}],"timeOffsets":{"monotonic":{"secs":1}}}"#,
            r#"{"namespaces":[{"type":"mount"},{"type":"time"}],"timeOffsets":{"realtime":{"secs":1}}}"#,
            r#"{"namespaces":[{"type":"mount"},{"type":"user"}]}"#,
            r#"{"namespaces":[{"type":"mount"}],"uidMappings":[{"containerID":0,"hostID":1,"size":1}]}"#,
            r#"{"namespaces":[{"type":"mount"},{"type":"network","path":"/nowhere"}]}"#,
            r#"{"namespaces":[{"type":"mount"},{"type":"network","path":"/proc/self/ns/ipc"}]}"#,
            r#"{"namespaces":[{"type":"mount"},{"type":"network","path":"/dev/null"}]}"#,
        ] {
            read(json).unwrap_err();
        }
    }

    #[test]
    fn the_tty_group_is_there_when_it_is_mapped() {
        let map = |size| {
            format!(
                r#"{{"namespaces":[{{"type":"mount"}},{{"type":"user"}}],"uidMappings":[{{"containerID":0,"hostID":9,"size":1}}],
                "gidMappings":[{{"containerID":0,"hostID":9,"size":{size}}}]}}"#
            )
        };
        assert!(!read(&map(1)).unwrap().has_tty_group());
        assert!(read(&map(6)).unwrap().has_tty_group());
    }
}
