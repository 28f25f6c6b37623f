//! Each cause of pivot_root's EINVAL, made for real in a mount namespace of its own. The binary meets none of them, for it makes
//! a mount of every rootfs; whoever uses the library can.
//!
//! Each case runs in a child that nothing of the host can suffer from: a mount namespace of its own, and for an ordinary user a
//! user namespace around it.

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use namespaces::{Config, Kind, Maps, StageError, new_root, pivot_root, spawn};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::unistd::chroot;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Runs in a mount namespace of its own, and says how pivot_root answered.
type Case = fn() -> Result<()>;

/// One after another: a clone copies the thread that calls, and its lock on the allocator must not be another's.
#[test]
fn every_cause_of_einval_is_named() {
    let cases: [(&str, Case, &str); 6] = [
        ("a plain directory", plain_directory, "no mount point"),
        ("a shared parent of the new root", shared_parent, "make / private first"),
        ("a chroot", in_a_chroot, "in a chroot"),
        ("a ramdisk", on_a_ramdisk, "the root is a ramdisk"),
        ("the root itself", the_root_itself, "EBUSY"),
        ("a proper new root", proper, "no error"),
    ];
    let root = nix::unistd::geteuid().is_root();
    for (name, case, expected) in cases {
        // In a user namespace the host's root is locked in its place.
        if !root && ["a ramdisk", "the root itself"].contains(&name) {
            continue;
        }
        let said = said_by(case);
        assert!(said.contains(expected), "{name}: {said}");
    }
}

/// What the case's error says, with its causes, after it ran in a namespace of its own.
fn said_by(case: Case) -> String {
    let root = nix::unistd::geteuid().is_root();
    let maps = if root { Maps::default() } else { Maps::for_this_user() };
    let new = if root { vec![Kind::Mount] } else { vec![Kind::Mount, Kind::User] };
    let config =
        Config { new, uid_map: maps.uid, gid_map: maps.gid, die_with_parent: true, ..Config::default() };
    let created = spawn(&config, |_| {
        let outcome =
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .map_err(Into::into)
                .and_then(|()| case());
        match outcome {
            Ok(()) => Err::<Infallible, _>(StageError::new("case", &std::io::Error::other("no error"), 0)),
            Err(error) => Err(StageError::new("case", &*error, 1)),
        }
    });
    match created.and_then(namespaces::Created::proceed) {
        Ok(_) => "it ran on".into(),
        Err(error) => step::report(&error, &[namespaces::HINTS]),
    }
}

/// A new directory in a file system of the case's own, over `/mnt`.
fn scratch() -> Result<&'static Path> {
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let path = Path::new("/mnt/new");
    fs::create_dir(path)?;
    Ok(path)
}

fn bind(path: &Path) -> Result<()> {
    Ok(mount(Some(path), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

fn enter(path: &Path) -> Result<()> {
    Ok(pivot_root::enter(new_root::mounted(path)?.as_fd())?)
}

fn plain_directory() -> Result<()> {
    enter(scratch()?)
}

fn shared_parent() -> Result<()> {
    let path = scratch()?;
    mount(None::<&str>, "/mnt", None::<&str>, MsFlags::MS_SHARED, None::<&str>)?;
    bind(path)?;
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)?;
    enter(path)
}

fn in_a_chroot() -> Result<()> {
    let path = scratch()?;
    fs::create_dir_all(path.join("root/inner"))?;
    fs::create_dir(path.join("root/proc"))?;
    mount(
        Some("/proc"),
        &path.join("root/proc"),
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?;
    chroot(&path.join("root"))?;
    bind(Path::new("/inner"))?;
    enter(Path::new("/inner"))
}

/// The first root of a mount namespace lies under what is seen as `/`: with that away, setns shows it.
fn on_a_ramdisk() -> Result<()> {
    let namespace = fs::File::open("/proc/self/ns/mnt")?;
    let proc = new_root::detached(Path::new("/proc"))?;
    umount2("/", MntFlags::MNT_DETACH)?;
    setns(&namespace, CloneFlags::CLONE_NEWNS)?;
    let made_proc = fs::create_dir("/proc").is_ok();
    fs::create_dir("/sampan-new")?;
    let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&proc, "", rustix::fs::CWD, "/proc", flags)?;
    mount(Some("tmpfs"), "/sampan-new", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let refused = enter(Path::new("/sampan-new"));
    // The ramdisk is the machine's own: nothing stays in it.
    nix::unistd::chdir("/")?;
    umount2("/sampan-new", MntFlags::MNT_DETACH)?;
    fs::remove_dir("/sampan-new")?;
    umount2("/proc", MntFlags::MNT_DETACH)?;
    if made_proc {
        fs::remove_dir("/proc")?;
    }
    refused
}

fn the_root_itself() -> Result<()> {
    enter(Path::new("/"))
}

fn proper() -> Result<()> {
    let path = scratch()?;
    bind(path)?;
    enter(path)?;
    if fs::read_dir("/")?.count() == 0 { Ok(()) } else { Err("the old root is still there".into()) }
}
