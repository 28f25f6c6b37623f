//! A layer there and back: whatever a container does, its diff laid over the same layers shows the same tree.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use unionfs::{Change, Kind, Whiteouts, changes, write_diff};

use crate::place::{Place, userxattr};
use crate::snapshot::{self, Snapshot, in_seconds};
use crate::{Case, Outcome};

pub(crate) const CASES: &[Case] = &[
    ("what_is_copied_up_unchanged_is_no_change", identical_copy_up),
    ("each_kind_of_change_is_found", each_kind),
    ("an_archive_with_whiteouts_in_any_order", any_order),
    ("a_hostile_whiteout_is_refused", hostile),
    ("diff_is_deterministic_and_has_whiteouts", deterministic),
    ("random_changes_there_and_back", random),
];

/// What a program in a container may do. Paths are short and few, so that they meet.
#[derive(Debug, Clone)]
enum Act {
    Write(PathBuf, u8),
    Append(PathBuf),
    OpenForWriting(PathBuf),
    Mkdir(PathBuf),
    Remove(PathBuf),
    Chmod(PathBuf, u32),
    Chown(PathBuf),
    Symlink(PathBuf),
    Link(PathBuf, PathBuf),
    Rename(PathBuf, PathBuf),
    Fifo(PathBuf),
    Touch(PathBuf, u64),
    Attribute(PathBuf, u8),
}

/// Does it, or fails as it would fail for the program.
fn act(root: &Path, act: &Act) -> std::io::Result<()> {
    let at = |path: &PathBuf| root.join(path);
    match act {
        // A FIFO without a reader would keep the test waiting.
        Act::Write(path, _) | Act::Append(path) | Act::OpenForWriting(path)
            if fs::symlink_metadata(at(path)).is_ok_and(|about| about.file_type().is_fifo()) =>
        {
            Ok(())
        }
        Act::Write(path, byte) => fs::write(at(path), vec![*byte; usize::from(*byte) * 40]),
        Act::Append(path) => OpenOptions::new().append(true).open(at(path))?.write_all(b"more"),
        Act::OpenForWriting(path) => OpenOptions::new().write(true).open(at(path)).map(drop),
        Act::Mkdir(path) => fs::create_dir(at(path)),
        Act::Remove(path) => match fs::symlink_metadata(at(path))?.is_dir() {
            true => fs::remove_dir_all(at(path)),
            false => fs::remove_file(at(path)),
        },
        Act::Chmod(path, _) if fs::symlink_metadata(at(path))?.is_symlink() => Ok(()),
        Act::Chmod(path, mode) => fs::set_permissions(at(path), fs::Permissions::from_mode(*mode)),
        Act::Chown(_) if userxattr() => Ok(()),
        Act::Chown(path) => std::os::unix::fs::lchown(at(path), Some(7), Some(3_000_000)),
        Act::Symlink(path) => symlink("../else/where", at(path)),
        Act::Link(from, to) => fs::hard_link(at(from), at(to)),
        Act::Rename(from, to) => fs::rename(at(from), at(to)),
        Act::Fifo(path) => Ok(rustix::fs::mknodat(CWD, at(path), FileType::Fifo, Mode::from(0o644), 0)?),
        Act::Attribute(path, byte) => {
            Ok(rustix::fs::lsetxattr(at(path), "user.note", &[*byte, 0, 0xff], XattrFlags::empty())?)
        }
        Act::Touch(path, seconds) => match fs::symlink_metadata(at(path))?.is_file() {
            true => OpenOptions::new()
                .write(true)
                .open(at(path))?
                .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds)),
            false => Ok(()),
        },
    }
}

fn path() -> impl Strategy<Value = PathBuf> {
    let name = prop_oneof!["a", "b", "c", Just("with space".to_owned()), Just("n".repeat(120))];
    prop::collection::vec(name, 1..4).prop_map(|names| names.iter().collect())
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (path(), 0..200u8).prop_map(|(path, byte)| Act::Write(path, byte)),
        1 => path().prop_map(Act::Append),
        1 => path().prop_map(Act::OpenForWriting),
        5 => path().prop_map(Act::Mkdir),
        4 => path().prop_map(Act::Remove),
        2 => (path(), prop_oneof![Just(0o700), Just(0o755), Just(0o4755), Just(0o1777), Just(0o600)])
            .prop_map(|(path, mode)| Act::Chmod(path, mode)),
        1 => path().prop_map(Act::Chown),
        1 => path().prop_map(Act::Symlink),
        2 => (path(), path()).prop_map(|(from, to)| Act::Link(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Act::Rename(from, to)),
        1 => path().prop_map(Act::Fifo),
        // A line feed in a value is beyond the reader of archives.
        2 => (path(), 11..255u8).prop_map(|(path, byte)| Act::Attribute(path, byte)),
        1 => (path(), 0..2_000_000_000u64).prop_map(|(path, seconds)| Act::Touch(path, seconds)),
    ]
}

fn unpack(archive: &[u8], into: &Path) -> Outcome {
    let mut whiteouts = Whiteouts::new(userxattr());
    let how = chroot::Unpack { as_root: !userxattr(), devices: !userxattr() };
    chroot::unpack::unpack_into(archive, into, &how, &mut |root, path| whiteouts.intercept(root, path))?;
    whiteouts.apply(fs::File::open(into)?.as_fd())?;
    Ok(())
}

fn diff(upper: &Path, lower: &[PathBuf]) -> Result<Vec<u8>, unionfs::Error> {
    let mut archive = Vec::new();
    write_diff(upper, userxattr(), lower, &mut archive)?;
    Ok(archive)
}

/// Containers one after another, each over the layers that those before it left: three ways to keep such a layer.
fn random(_: &Place) -> Outcome {
    let rounds = prop::collection::vec(prop::collection::vec(any_act(), 1..25), 1..4);
    let mut runner = TestRunner::new(Config {
        cases: 150,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..Config::default()
    });
    runner.run(&(prop::collection::vec(any_act(), 0..30), rounds), |(base, rounds)| {
        let run = Place::new().and_then(|place| {
            there_and_back(&place, &base, &rounds).map_err(|error| crate::chain(error.as_ref()).into())
        });
        run.map_err(|error: Box<dyn std::error::Error>| TestCaseError::fail(error.to_string()))
    })?;
    Ok(())
}

fn there_and_back(place: &Place, base: &[Act], rounds: &[Vec<Act>]) -> Outcome {
    let lowest = place.dir("base")?;
    base.iter().for_each(|one| drop(act(&lowest, one)));
    let mut layers = vec![lowest];
    for (round, acts) in rounds.iter().enumerate() {
        let overlay = place.overlay(&layers)?;
        let (before, after) = {
            let mounted = place.mounted(&overlay)?;
            let before = snapshot::of(&mounted.0)?;
            acts.iter().for_each(|one| drop(act(&mounted.0, one)));
            (before, snapshot::of(&mounted.0)?)
        };
        // Without the host's privileges overlay cannot note whence a file was copied up, and shows two names of one as two files
        // until it is mounted again.
        let after = if userxattr() { snapshot::of(&place.mounted(&overlay)?.0)? } else { after };
        agrees(&changes(&overlay.upper, userxattr(), &layers)?, &before, &after)?;
        let known = place.dir(&format!("known{round}"))?;
        unpack(&diff(&overlay.upper, &layers)?, &known)?;
        let whole = place.dir(&format!("whole{round}"))?;
        unpack(&diff(&overlay.upper, &[])?, &whole)?;
        for (way, layer) in [("upper as it is", &overlay.upper), ("diff", &known), ("diff of all", &whole)] {
            let stack = [layers.as_slice(), std::slice::from_ref(layer)].concat();
            let shown = place.mounted(&place.overlay(&stack)?)?;
            same(&in_seconds(snapshot::of(&shown.0)?), &in_seconds(after.clone()))
                .map_err(|error| format!("{way}: {error}"))?;
        }
        layers.push(if round % 2 == 0 { known } else { overlay.upper });
    }
    Ok(())
}

fn same(one: &Snapshot, other: &Snapshot) -> Outcome {
    for path in one.keys().chain(other.keys()) {
        if one.get(path) != other.get(path) {
            return Err(format!("{path:?}\n  is {:?}\n  not {:?}", one.get(path), other.get(path)).into());
        }
    }
    Ok(())
}

/// The list of changes against what the container saw before and after.
fn agrees(changes: &[Change], before: &Snapshot, after: &Snapshot) -> Outcome {
    let mut listed = Vec::new();
    for Change { kind, path } in changes {
        let fits = match kind {
            Kind::Added => !before.contains_key(path) && after.contains_key(path),
            Kind::Modified => before.contains_key(path) && after.contains_key(path),
            Kind::Deleted => before.contains_key(path) && !after.contains_key(path),
        };
        if !fits {
            return Err(format!("{kind:?} {path:?} is not so").into());
        }
        listed.push(path);
    }
    if !listed.is_sorted() {
        return Err("not sorted".into());
    }
    for path in before.keys().chain(after.keys()) {
        let explained = path.ancestors().any(|above| {
            changes.iter().any(|change| change.path == above && (above == path || change.kind != Kind::Added))
        });
        let alike = before.get(path).zip(after.get(path)).is_some_and(|(one, other)| one.is_like(other));
        if !alike && !explained {
            return Err(format!("{path:?} is other and not listed").into());
        }
    }
    Ok(())
}

fn identical_copy_up(place: &Place) -> Outcome {
    let lower = [place.layer("a", &[("etc/deep/file", "text"), ("etc/other", "text")])?];
    let overlay = place.overlay(&lower)?;
    let mounted = place.mounted(&overlay)?;
    act(&mounted.0, &Act::OpenForWriting("etc/deep/file".into()))?;
    assert!(overlay.upper.join("etc/deep/file").exists());
    assert_eq!(changes(&overlay.upper, userxattr(), &lower)?, []);
    assert_eq!(diff(&overlay.upper, &lower)?, vec![0; 1024], "an empty archive is two empty blocks");
    Ok(())
}

fn each_kind(place: &Place) -> Outcome {
    let files = [
        ("etc/mode", "x"),
        ("etc/gone", "x"),
        ("file", "x"),
        ("folder/a", "x"),
        ("new/a", "x"),
        ("new/b", "x"),
        ("back", "x"),
    ];
    let lower = [place.layer("a", &files)?];
    let overlay = place.overlay(&lower)?;
    let mounted = place.mounted(&overlay)?;
    for one in [
        Act::Chmod("etc/mode".into(), 0o4755),
        Act::Remove("etc/gone".into()),
        Act::Remove("file".into()),
        Act::Mkdir("file".into()),
        Act::Remove("folder".into()),
        Act::Write("folder".into(), 1),
        Act::Remove("new".into()),
        Act::Mkdir("new".into()),
        Act::Write("new/b".into(), 1),
        Act::Write("never".into(), 1),
        Act::Remove("never".into()),
        Act::Symlink("link".into()),
        Act::Link("back".into(), "second".into()),
    ] {
        act(&mounted.0, &one)?;
    }
    let found: Vec<_> = changes(&overlay.upper, userxattr(), &lower)?
        .into_iter()
        .map(|change| (change.kind, change.path.to_string_lossy().into_owned()))
        .collect();
    let expected = [
        (Kind::Modified, "back"),
        (Kind::Modified, "etc"),
        (Kind::Deleted, "etc/gone"),
        (Kind::Modified, "etc/mode"),
        (Kind::Modified, "file"),
        (Kind::Modified, "folder"),
        (Kind::Added, "link"),
        (Kind::Modified, "new"),
        (Kind::Deleted, "new/a"),
        (Kind::Modified, "new/b"),
        (Kind::Added, "second"),
    ];
    assert_eq!(found, expected.map(|(kind, path)| (kind, path.to_owned())));
    Ok(())
}

fn names(archive: &[u8]) -> std::io::Result<Vec<String>> {
    tar::Archive::new(archive)
        .entries()?
        .map(|entry| Ok(String::from_utf8_lossy(&entry?.path_bytes()).into_owned()))
        .collect()
}

fn deterministic(place: &Place) -> Outcome {
    let lower = [place.layer("a", &[("gone", "x"), ("new/a", "x"), ("z", "x")])?];
    let overlay = place.overlay(&lower)?;
    let mounted = place.mounted(&overlay)?;
    for one in [
        Act::Remove("gone".into()),
        Act::Remove("new".into()),
        Act::Mkdir("new".into()),
        Act::Write("new/b".into(), 3),
        Act::Link("new/b".into(), "first".into()),
        Act::Append("z".into()),
    ] {
        act(&mounted.0, &one)?;
    }
    let archive = diff(&overlay.upper, &lower)?;
    assert_eq!(names(&archive)?, ["first", ".wh.gone", "new/", "new/.wh..wh..opq", "new/b", "z"]);
    let copy = place.dir("copy")?;
    assert!(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(overlay.upper.join("."))
            .arg(&copy)
            .status()?
            .success()
    );
    assert_eq!(diff(&copy, &lower)?, archive, "the same tree gives the same bytes");
    Ok(())
}

/// A whiteout hides what lies under its layer, and never what is in it.
fn any_order(place: &Place) -> Outcome {
    let lower = place.layer(
        "a",
        &[("x/old", "x"), ("y/old", "x"), ("z", "x"), ("o/old", "x"), ("p/old", "x"), ("q/old", "x")],
    )?;
    let entries = [
        "y/",
        "y/new",
        ".wh.y",
        ".wh.x",
        "x/",
        "x/new",
        "z",
        ".wh.z",
        "o/",
        "o/.wh..wh..opq",
        "o/new",
        "p/.wh.old",
        "q/",
        "q/.wh.old",
        ".wh..wh.plnk",
    ];
    let mut builder = tar::Builder::new(Vec::new());
    for name in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(if name.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_mode(0o755);
        header.set_size(0);
        header.set_mtime(1_000_000);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, std::io::empty())?;
    }
    let layer = place.dir("layer")?;
    unpack(&builder.into_inner()?, &layer)?;
    let mounted = place.mounted(&place.overlay(&[lower, layer])?)?;
    let shown: Vec<_> =
        snapshot::of(&mounted.0)?.into_keys().map(|path| path.to_string_lossy().into_owned()).collect();
    assert_eq!(shown, ["o", "o/new", "p", "q", "x", "x/new", "y", "y/new", "z"]);
    for folder in ["o", "q"] {
        let modified = snapshot::of(&mounted.0)?[Path::new(folder)].modified;
        assert_eq!(modified, (1_000_000, 0), "a whiteout leaves {folder}'s time as the archive has it");
    }
    Ok(())
}

fn hostile(place: &Place) -> Outcome {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        let mut whiteouts = Whiteouts::new(userxattr());
        let root = fs::File::open(&place.root)?;
        assert!(whiteouts.intercept(root.as_fd(), Path::new(name)).is_err(), "{name}");
    }
    // A link in the layer must not lead a whiteout out of it.
    let layer = place.dir("layer")?;
    let outside = place.layer("outside", &[("file", "text")])?;
    symlink(&outside, layer.join("link"))?;
    let mut whiteouts = Whiteouts::new(userxattr());
    let root = fs::File::open(&layer)?;
    assert!(whiteouts.intercept(root.as_fd(), Path::new("link/.wh.file"))?);
    assert!(whiteouts.intercept(root.as_fd(), Path::new("link/.wh..wh..opq"))?);
    let _ = whiteouts.apply(root.as_fd());
    assert_eq!(fs::read_to_string(outside.join("file"))?, "text");
    assert_eq!(fs::read_dir(&outside)?.count(), 1);
    Ok(())
}
