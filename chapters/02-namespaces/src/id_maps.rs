//! Which ids of the host stand for which ids inside.
//!
//! In a user namespace each user id is two numbers: the one inside, which its processes see, and the one outside, by which the
//! kernel decides what they may do to anything that is not theirs. `/proc/PID/uid_map` holds the translation, lines of
//! `inside outside count`; an id without a line is shown as 65534, nobody.
//!
//! What the kernel requires: 1. a map is written once, in one write; 2. by somebody with `CAP_SETUID` in the parent namespace, or
//! it has one line that names the writer's own id; 3. in that case the groups only after `deny` was written to `setgroups`, for a
//! group may be there to take a right away.
//!
//! So root chooses any ids, and chooses 65536 that nobody else has: root inside is then a user without any right outside. An
//! ordinary user has its own id, and more by the set-user-id programs `newuidmap` and `newgidmap`, which look them up in
//! `/etc/subuid` and `/etc/subgid`.
//!
//! See user_namespaces(7), newuidmap(1), subuid(5).

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::{Pid, getegid, geteuid};
use step::step;

use crate::Error;

/// One line of `/proc/PID/uid_map`: `count` ids from `inside` on are the host's ids from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The first id as the container sees it.
    pub inside: u32,
    /// The first id as the host sees it.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The maps of a container's user namespace. Empty ones mean that it has none of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maps {
    /// Users.
    pub uid: Vec<IdMap>,
    /// Groups.
    pub gid: Vec<IdMap>,
}

/// As many as the ids that a system uses, nobody (65534) among them.
const COUNT: u32 = 65536;
/// Where distributions begin with subordinate ids.
const FIRST: u32 = 100_000;

impl Maps {
    /// What suits whoever runs this: root gets 65536 ids that nobody else uses, an ordinary user its own id and, where
    /// `/etc/subuid` grants them and `newuidmap` is installed, the subordinate ones.
    pub fn for_this_user() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let host = Host {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            passwd: read("/etc/passwd"),
            subuid: read("/etc/subuid"),
            subgid: read("/etc/subgid"),
            uid_map: read("/proc/self/uid_map"),
            gid_map: read("/proc/self/gid_map"),
            programs: !geteuid().is_root()
                && program("newuidmap").is_some()
                && program("newgidmap").is_some(),
        };
        host.plan()
    }

    /// Each id that this process has is itself inside: a user namespace that confines capabilities and shifts no id, for
    /// file systems that cannot be shown under other ids.
    pub fn identity() -> Self {
        let read = |path: &str| identity(&fs::read_to_string(path).unwrap_or_default());
        Self { uid: read("/proc/self/uid_map"), gid: read("/proc/self/gid_map") }
    }

    /// Whether root inside is somebody else outside than this process is: then the root file system's owners must be mapped too
    /// (see [`crate::new_root::detached`] and [`crate::Config::mapped_mounts`]).
    pub fn shifted(&self) -> bool {
        self.uid.iter().any(|map| map.inside == 0 && map.outside != geteuid().as_raw())
    }

    /// Whether group 5, `tty`, exists inside.
    pub fn has_tty_group(&self) -> bool {
        self.gid.is_empty() || self.gid.iter().any(|map| map.inside <= 5 && 5 - map.inside < map.count)
    }
}

/// Whether this process is in a user namespace of somebody's, where even root makes no device: rootless Podman, say, calls its
/// runtime there.
pub fn in_user_namespace() -> bool {
    // Where nothing can be read there are no user namespaces.
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_whole(&map))
}

/// All that the plan depends on.
struct Host {
    uid: u32,
    gid: u32,
    passwd: String,
    subuid: String,
    subgid: String,
    uid_map: String,
    gid_map: String,
    programs: bool,
}

impl Host {
    fn plan(&self) -> Maps {
        let user = self.user();
        let (users, groups) =
            (Range::of(&self.subuid, &user, self.uid), Range::of(&self.subgid, &user, self.uid));
        if self.uid == 0 {
            if !is_whole(&self.uid_map) || !is_whole(&self.gid_map) {
                // Root of a user namespace itself: it can give on only what it has.
                return Maps { uid: identity(&self.uid_map), gid: identity(&self.gid_map) };
            }
            let whole = |start| vec![IdMap { inside: 0, outside: start, count: COUNT }];
            return Maps {
                uid: whole(users.map_or_else(|| unused(&self.subuid), |range| range.start)),
                gid: whole(groups.map_or_else(|| unused(&self.subgid), |range| range.start)),
            };
        }
        let own = |id, more: Option<Range>| {
            let mut maps = vec![IdMap { inside: 0, outside: id, count: 1 }];
            maps.extend(more.map(|range| IdMap { inside: 1, outside: range.start, count: range.count }));
            maps
        };
        match (users, groups) {
            (Some(users), Some(groups)) if self.programs => {
                Maps { uid: own(self.uid, Some(users)), gid: own(self.gid, Some(groups)) }
            }
            _ => Maps { uid: own(self.uid, None), gid: own(self.gid, None) },
        }
    }

    /// The user's name: in a static program no name service can be asked, and the file is where subordinate ids' users are.
    fn user(&self) -> String {
        let mut lines = self.passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let own = lines.find(|fields| fields.get(2).is_some_and(|uid| *uid == self.uid.to_string()));
        own.and_then(|fields| fields.first().map(ToString::to_string)).unwrap_or_default()
    }
}

/// A line of `/etc/subuid`.
#[derive(Clone, Copy)]
struct Range {
    start: u32,
    count: u32,
}

impl Range {
    fn all(text: &str) -> impl Iterator<Item = (&str, Self)> {
        text.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (user, start, count) = (fields.next()?, fields.next()?, fields.next()?);
            Some((user, Self { start: start.parse().ok()?, count: count.parse().ok()? }))
        })
    }

    /// The first range of a user, who may stand there by name or by number. Root's must hold all ids of a system.
    fn of(text: &str, name: &str, uid: u32) -> Option<Self> {
        let number = uid.to_string();
        let least = if uid == 0 { COUNT } else { 1 };
        Self::all(text)
            .filter(|(user, range)| (*user == name || *user == number) && range.count >= least)
            .map(|(_, range)| range)
            .next()
    }
}

/// The first range that no user has been given: a container of root's must not meet a container of a user's.
fn unused(text: &str) -> u32 {
    let mut start = FIRST;
    while let Some((_, range)) = Range::all(text).find(|(_, range)| {
        start < range.start.saturating_add(range.count) && range.start < start.saturating_add(COUNT)
    }) {
        start = range.start.saturating_add(range.count);
    }
    start
}

/// Whether a map is the host's own, in which every id is itself.
fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn identity(map: &str) -> Vec<IdMap> {
    map.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (inside, count) = (fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?);
            Some(IdMap { inside, outside: inside, count })
        })
        .collect()
}

/// Writes the maps of the process `pid`, from its parent namespace.
// ANCHOR: write
pub(crate) fn write(pid: Pid, uid: &[IdMap], gid: &[IdMap]) -> Result<(), Error> {
    let alone = !geteuid().is_root();
    // One's own id is all that one may map oneself.
    let is_own = |maps: &[IdMap], id| matches!(maps, [map] if (map.outside, map.count) == (id, 1));
    if alone && !(is_own(uid, geteuid().as_raw()) && is_own(gid, getegid().as_raw())) {
        by_program("newuidmap", pid, uid)?;
        return by_program("newgidmap", pid, gid);
    }
    let mut files = vec![
        ("uid_map", lines(uid), "who root inside is outside"),
        ("gid_map", lines(gid), "the same for groups"),
    ];
    if alone {
        files.insert(
            1,
            ("setgroups", "deny".into(), "else a user could drop a group that denies a file to its members"),
        );
    }
    for (file, text, why) in files {
        let path = format!("/proc/{pid}/{file}");
        step("write", format_args!("{file} {:?} of process {pid}", text.trim_end()), why)
            .run(|| fs::write(&path, &text))?;
    }
    Ok(())
}
// ANCHOR_END: write

fn lines(maps: &[IdMap]) -> String {
    maps.iter().fold(String::new(), |mut text, map| {
        let _ = writeln!(text, "{} {} {}", map.inside, map.outside, map.count);
        text
    })
}

fn by_program(name: &'static str, pid: Pid, maps: &[IdMap]) -> Result<(), Error> {
    let text = lines(maps);
    let output = step(
        name,
        format_args!("{pid} {}", text.split_whitespace().collect::<Vec<_>>().join(" ")),
        "a set-user-id program gives an ordinary user the ids that /etc/subuid grants",
    )
    .run(|| Command::new(name).arg(pid.to_string()).args(text.split_whitespace()).output())?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::IdMap { program: name, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "         0          0 4294967295\n";

    fn host(uid: u32, subuid: &str, programs: bool) -> Host {
        Host {
            uid,
            gid: uid,
            passwd: "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n".into(),
            subuid: subuid.into(),
            subgid: subuid.into(),
            uid_map: WHOLE.into(),
            gid_map: WHOLE.into(),
            programs,
        }
    }

    fn map(inside: u32, outside: u32, count: u32) -> IdMap {
        IdMap { inside, outside, count }
    }

    #[test]
    fn root_takes_ids_that_no_user_has() {
        assert_eq!(host(0, "", false).plan().uid, [map(0, 100_000, 65536)]);
        assert_eq!(
            host(0, "ada:100000:65536\nbob:165536:65536\n", true).plan().uid,
            [map(0, 231_072, 65536)]
        );
        assert_eq!(host(0, "root:500000:65536\n", true).plan().gid, [map(0, 500_000, 65536)]);
        assert_eq!(host(0, "root:500000:10\n", true).plan().gid, [map(0, 100_000, 65536)]);
    }

    #[test]
    fn root_of_a_user_namespace_gives_on_what_it_has() {
        let mut host = host(0, "", false);
        host.uid_map = "0 100000 65536\n".into();
        assert_eq!(host.plan().uid, [map(0, 0, 65536)]);
    }

    #[test]
    fn a_user_is_root_and_has_the_granted_ids_where_the_programs_are() {
        let granted = "ada:100000:65536\n";
        assert_eq!(host(1000, granted, true).plan().uid, [map(0, 1000, 1), map(1, 100_000, 65536)]);
        assert_eq!(host(1000, granted, false).plan().uid, [map(0, 1000, 1)]);
        assert_eq!(host(1000, "1000:7:9\n", true).plan().gid, [map(0, 1000, 1), map(1, 7, 9)]);
        assert_eq!(host(1001, granted, true).plan().uid, [map(0, 1001, 1)]);
    }

    #[test]
    fn damaged_lines_are_passed_over() {
        assert_eq!(host(0, "ada\nada:x:y\n:::\n", true).plan().uid, [map(0, 100_000, 65536)]);
    }

    #[test]
    fn group_five_is_there_only_where_it_is_mapped() {
        assert!(host(0, "", false).plan().has_tty_group());
        assert!(!host(1000, "", false).plan().has_tty_group());
        assert!(Maps::default().has_tty_group());
    }
}
