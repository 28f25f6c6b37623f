//! Mounts, cgroups and directories of owners that are gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::owner::{Owner, is_id};
use super::{Kind, Leak, Roots, states};
use crate::mountinfo;

/// The engine makes a container's folder, and then its shim's mark in it: for so long a folder may be without.
const BIRTH: Duration = Duration::from_secs(2);

pub(crate) fn find(roots: &Roots) -> Vec<Leak> {
    let directories = directories(roots);
    let mut leaks = mounts(roots, &directories);
    leaks.extend(cgroups(roots));
    leaks.extend(directories);
    leaks
}

/// The names in a folder; none where it cannot be read.
pub(crate) fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}

fn directories(roots: &Roots) -> Vec<Leak> {
    let temporary =
        roots.temporary.iter().flat_map(|folder| names(folder).map(move |name| folder.join(name)));
    let temporary = temporary.filter_map(|path| Some((temporary_owner(path.file_name()?.to_str()?)?, path)));
    let run = roots
        .run
        .iter()
        .flat_map(|folder| names(folder).filter(|name| is_id(name)).map(move |id| folder.join(id)));
    let run = run
        .filter(|path| !is_being_born(path))
        .filter_map(|path| Some((Owner::parse(path.file_name()?.to_str()?), path)));
    let mut leaks: Vec<Leak> = temporary
        .chain(run)
        .filter(|(owner, path)| {
            !owner.lives(roots) && fs::symlink_metadata(path).is_ok_and(|data| data.is_dir())
        })
        .map(|(owner, path)| Leak {
            kind: Kind::Directory,
            name: path.display().to_string(),
            why: owner.gone(),
        })
        .collect();
    leaks.sort_by(|a, b| a.name.cmp(&b.name));
    leaks.dedup();
    leaks
}

/// `sampan-4711-aB3xYz`.
fn temporary_owner(name: &str) -> Option<Owner> {
    let (pid, rest) = name.strip_prefix("sampan-")?.split_once('-')?;
    if rest.is_empty() {
        return None;
    }
    pid.parse().ok().map(Owner::Process)
}

fn is_being_born(folder: &Path) -> bool {
    let age = fs::metadata(folder).and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
    !folder.join("shim.json").exists() && age.is_some_and(|age| age < BIRTH)
}

/// No mount of a container is ever made in this mount namespace: one below a folder of a dead owner is a leak. Deepest first.
fn mounts(roots: &Roots, directories: &[Leak]) -> Vec<Leak> {
    let mut targets: Vec<(PathBuf, &Leak)> = mountinfo::read(&roots.proc.join("self"))
        .into_iter()
        .filter_map(|mount| {
            let folder = directories.iter().find(|folder| mount.target.starts_with(&folder.name))?;
            Some((mount.target, folder))
        })
        .collect();
    targets.reverse();
    targets.sort_by_key(|(target, _)| std::cmp::Reverse(target.components().count()));
    targets
        .into_iter()
        .map(|(target, folder)| Leak {
            kind: Kind::Mount,
            name: target.display().to_string(),
            why: format!("below {}", folder.name),
        })
        .collect()
}

/// Looked for below the top of each hierarchy, and below this process's own cgroup and those above it, where a delegated
/// subtree may be.
fn cgroups(roots: &Roots) -> Vec<Leak> {
    let own = fs::read_to_string(roots.proc.join("self/cgroup")).unwrap_or_default();
    let mut folders = Vec::new();
    for mount in mountinfo::read(&roots.proc.join("self")) {
        let version2 = mount.fstype == "cgroup2";
        if !version2 && mount.fstype != "cgroup" {
            continue;
        }
        folders.push(mount.target.join("sampan"));
        let path = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            let named = |name: &str| mount.options.iter().any(|option| option == name);
            let fits = if version2 { names.is_empty() } else { names.split(',').all(named) };
            fits.then(|| path.trim_start_matches('/').to_owned())
        });
        let own = mount.target.join(path.unwrap_or_default());
        folders.extend(
            own.ancestors()
                .take_while(|path| path.starts_with(&mount.target))
                .map(|path| path.join("sampan")),
        );
    }
    folders.sort();
    folders.dedup();
    let mut leaks = Vec::new();
    for folder in folders {
        for name in names(&folder).filter(|name| folder.join(name).is_dir()) {
            let owner = Owner::parse(&name);
            if !owner.lives(roots) && !states::lives(roots, &name) {
                leaks.push(Leak {
                    kind: Kind::Cgroup,
                    name: folder.join(name).display().to_string(),
                    why: owner.gone(),
                });
            }
        }
    }
    leaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_of_dead_owners_are_leaks() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for path in [
            "proc/self",
            "proc/7",
            "cg/sampan/03-cgroups-7",
            "cg/sampan/03-cgroups-8",
            "cg/other-8",
            "cg/me/sampan/x-8",
        ] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for path in [
            "tmp/sampan-7-abc",
            "tmp/sampan-8-abc/inner",
            "tmp/sampan-notes",
            "tmp/sampan-8",
            "tmp/samp-8-abc",
        ] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::write(at("tmp/sampan-8-file"), "").unwrap();
        fs::write(at("proc/7/comm"), "03-cgroups\n").unwrap();
        fs::write(at("proc/7/stat"), "7 (03-cgroups) S 1").unwrap();
        fs::write(at("proc/self/cgroup"), "0::/me\n").unwrap();
        let mountinfo = format!(
            "1 0 0:1 / {} rw - cgroup2 none rw\n2 0 0:1 / {} rw - tmpfs none rw\n3 2 0:1 / {} rw - tmpfs none rw\n4 2 0:1 / {} rw - tmpfs none rw\n",
            at("cg").display(),
            at("tmp/sampan-8-abc").display(),
            at("tmp/sampan-8-abc/inner").display(),
            at("tmp/sampan-7-abc").display(),
        );
        fs::write(at("proc/self/mountinfo"), mountinfo).unwrap();
        let temporary = vec![at("tmp")];
        let roots =
            Roots { proc: at("proc"), temporary, run: vec![], states: vec![], foreign_states: vec![] };
        let found: Vec<(Kind, String)> =
            find(&roots).into_iter().map(|leak| (leak.kind, leak.name)).collect();
        let expected = [
            (Kind::Mount, "tmp/sampan-8-abc/inner"),
            (Kind::Mount, "tmp/sampan-8-abc"),
            (Kind::Cgroup, "cg/me/sampan/x-8"),
            (Kind::Cgroup, "cg/sampan/03-cgroups-8"),
            (Kind::Directory, "tmp/sampan-8-abc"),
        ];
        assert_eq!(found, expected.map(|(kind, path)| (kind, at(path).display().to_string())));
    }
}
