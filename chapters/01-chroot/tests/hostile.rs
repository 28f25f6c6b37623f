//! Archives of every kind of malice and accident, unpacked as whoever runs the tests: nothing is written outside, nothing panics,
//! and memory and time stay within bounds.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use chroot::unpack::unpack_into;
use chroot::{Error, Unpack};
use proptest::prelude::*;
use tar::{EntryType, Header};
use tempfile::TempDir;

/// One entry, its header with any bytes in it.
fn entry(kind: u8, name: &[u8], target: &[u8], mode: u32, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(mode);
    header.set_uid(u64::from(nix::unistd::geteuid().as_raw()));
    header.set_gid(u64::from(nix::unistd::getegid().as_raw()));
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    let old = header.as_old_mut();
    old.name[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    old.linkname[..target.len().min(100)].copy_from_slice(&target[..target.len().min(100)]);
    if kind == b'3' || kind == b'4' {
        let _ = header.set_device_major(1).and_then(|()| header.set_device_minor(3));
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    length = rest + length.to_string().len();
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

fn pax(records: &[(&[u8], &[u8])]) -> Vec<u8> {
    let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    entry(b'x', b"pax", b"", 0, &records)
}

/// A folder to unpack into, beside one that must stay as it is.
struct Scene(TempDir);

const SECRET: (&str, u32) = ("secret", 0o600);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        for name in ["root", "outside"] {
            fs::create_dir(scene.0.path().join(name)).unwrap();
        }
        fs::write(scene.secret(), SECRET.0).unwrap();
        fs::set_permissions(scene.secret(), fs::Permissions::from_mode(SECRET.1)).unwrap();
        scene
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn secret(&self) -> PathBuf {
        self.0.path().join("outside/secret")
    }

    /// Unpacks, and looks outside.
    fn unpack(&self, archive: &[u8]) -> Result<(), Error> {
        let outcome = unpack_into(archive, &self.root(), &Unpack::default(), &mut |_, _| Ok(false));
        let about = fs::symlink_metadata(self.secret()).unwrap();
        assert_eq!(fs::read_to_string(self.secret()).unwrap(), SECRET.0);
        assert_eq!((about.mode() & 0o7777, about.nlink()), (SECRET.1, 1), "changed outside");
        let count = |path: &Path| fs::read_dir(path).unwrap().count();
        assert_eq!((count(self.0.path()), count(&self.0.path().join("outside"))), (2, 1), "made outside");
        outcome.map(drop)
    }

    fn refused(&self, archive: &[u8], words: &str) {
        let error = self.unpack(archive).unwrap_err();
        let text = format!(
            "{error}: {}",
            std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
        );
        assert!(text.contains(words) && text.len() < 1000, "{text}");
    }
}

#[test]
fn a_directorys_mode_goes_to_no_link_that_took_its_place() {
    let scene = Scene::new();
    let secret = scene.secret();
    // The directory is l/x = d/x when it is made, and e/x, a link to a file outside, when it gets its mode.
    let archive = [
        entry(b'5', b"d", b"", 0o755, b""),
        entry(b'5', b"e", b"", 0o755, b""),
        entry(b'2', b"l", b"d", 0o777, b""),
        entry(b'5', b"l/x", b"", 0o777, b""),
        entry(b'2', b"l", b"e", 0o777, b""),
        entry(b'2', b"e/x", secret.as_os_str().as_encoded_bytes(), 0o777, b""),
    ];
    scene.refused(&archive.concat(), "chmod");
}

#[test]
fn names_without_end_and_names_of_nothing_are_refused() {
    let scene = Scene::new();
    let long = |length| pax(&[(b"path", &b"x".repeat(length))]);
    for length in [256, 4096, 70_000] {
        scene.refused(
            &[long(length), entry(b'0', b"x", b"", 0o644, b"")].concat(),
            "longer name than Linux allows",
        );
    }
    let deep = pax(&[(b"path", &b"a/".repeat(3000))]);
    scene.refused(&[deep, entry(b'5', b"x", b"", 0o755, b"")].concat(), "longer name than Linux allows");
    let gnu = entry(b'L', b"././@LongLink", b"", 0o644, &b"y".repeat(5000));
    scene.refused(&[gnu, entry(b'0', b"x", b"", 0o644, b"")].concat(), "longer name than Linux allows");
    for kind in [b'0', b'1', b'2', b'6'] {
        scene.refused(&entry(kind, b".", b"x", 0o644, b""), "has no name");
    }
    scene.refused(&entry(b'2', b"x", b"", 0o644, b""), "link to nothing");
    scene.refused(&[pax(&[(b"path", b"a\0b")]), entry(b'0', b"x", b"", 0o644, b"")].concat(), "NUL");
}

#[test]
fn a_path_of_two_thousand_folders_is_made_without_recursion() {
    let scene = Scene::new();
    let path = [b"a/".repeat(2040), b"end".to_vec()].concat();
    let archive = [pax(&[(b"path", &path)]), entry(b'0', b"x", b"", 0o644, b"deep")].concat();
    // In a thread with the smallest stack.
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, || scene.unpack(&archive));
        thread.unwrap().join().unwrap().unwrap();
    });
}

#[test]
fn pax_records_replace_the_header_and_do_not_cheat_the_checks() {
    let scene = Scene::new();
    let evil = entry(b'0', b"good", b"", 0o644, b"");
    scene.refused(&[pax(&[(b"path", b"../outside/evil")]), evil.clone()].concat(), "climbs");
    let link = entry(b'1', b"hard", b"good", 0o644, b"");
    scene.refused(&[evil.clone(), pax(&[(b"linkpath", b"../outside/secret")]), link].concat(), "climbs");
    // A size of their own: what the header says is not the content's.
    scene.refused(&[pax(&[(b"size", b"99999999999")]), evil.clone()].concat(), "middle of an entry");
    scene.refused(&[pax(&[(b"size", b"18446744073709551615")]), evil].concat(), "size");
    let negative = [pax(&[(b"mtime", b"-1.5")]), entry(b'0', b"old", b"", 0o644, b"")].concat();
    scene.unpack(&negative).unwrap();
    let about = fs::metadata(scene.root().join("old")).unwrap();
    assert_eq!((about.mtime(), about.mtime_nsec()), (-2, 500_000_000));
}

/// Zeros for ever, counted.
struct Endless(u64);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'1');
        self.0 += buffer.len() as u64;
        Ok(buffer.len())
    }
}

#[test]
fn an_extension_without_end_is_not_read_into_memory() {
    for kind in [b'x', b'L', b'K'] {
        let scene = Scene::new();
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(kind));
        header.set_size(8 << 30);
        header.set_cksum();
        let mut endless = Endless(0);
        let stream = header.as_bytes().chain(&mut endless);
        unpack_into(stream, &scene.root(), &Unpack::default(), &mut |_, _| Ok(false)).unwrap_err();
        assert!(endless.0 < 1 << 20, "{} bytes were read", endless.0);
    }
}

#[test]
fn extensions_that_follow_each_other_have_one_limit() {
    let scene = Scene::new();
    let one = pax(&[(b"SCHILY.xattr.user.a", &b"x".repeat(300_000))]);
    scene.refused(&one.repeat(4), "bytes of names and attributes");
}

#[test]
fn attributes_that_are_orders_to_the_kernel_are_left_out() {
    let scene = Scene::new();
    let of_a_namespace = [&[1, 0, 0, 3][..], &[0xff; 16], &[0xe8, 3, 0, 0]].concat();
    let archive = [
        pax(&[
            (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
            (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            (b"SCHILY.xattr.user.overlay.opaque", b"y"),
            (b"SCHILY.xattr.security.selinux", b"x"),
            (b"SCHILY.xattr.system.posix_acl_access", b"x"),
            (b"SCHILY.xattr.security.capability", &of_a_namespace),
            (b"SCHILY.xattr.user.two\nlines", b"a\nb=c\n"),
        ]),
        entry(b'5', b"d", b"", 0o755, b""),
        // On a link nobody may set it, and it is no reason to fail.
        pax(&[(b"SCHILY.xattr.user.a", b"b")]),
        entry(b'2', b"l", b"d", 0o777, b""),
    ];
    scene.unpack(&archive.concat()).unwrap();
    let mut names = [0; 1000];
    let path = scene.root().join("d");
    match rustix::fs::listxattr(&path, &mut names) {
        Ok(length) if length > 0 => assert_eq!(&names[..length], b"user.two\nlines\0"),
        // A file system that keeps none of the user's.
        _ => return,
    }
    let length = rustix::fs::getxattr(&path, "user.two\nlines", &mut names).unwrap();
    assert_eq!(&names[..length], b"a\nb=c\n");
}

#[test]
fn a_file_with_holes_keeps_them_and_lies_about_them_are_refused() {
    let sparse = |map: &[u8], size: &[u8], content: &[u8]| {
        let records =
            pax(&[(b"GNU.sparse.map", map), (b"GNU.sparse.size", size), (b"GNU.sparse.name", b"holes")]);
        [records, entry(b'0', b"GNUSparseFile.0/holes", b"", 0o644, content)].concat()
    };
    let scene = Scene::new();
    scene.unpack(&sparse(b"4096,3,1099511627770,2", b"1099511627776", b"onexx")).unwrap();
    let about = fs::metadata(scene.root().join("holes")).unwrap();
    assert_eq!(about.len(), 1 << 40);
    assert!(about.blocks() < 100);
    for (map, size) in [
        (&b"0,5"[..], &b"4"[..]),
        (b"0,3,2,2", b"9"),
        (b"5,1,0,4", b"9"),
        (b"0,4", b"9"),
        (b"0,5,1", b"9"),
        (b"18446744073709551615,5", b"9"),
        (b"0,5", b"18446744073709551615"),
        (b"x", b"9"),
    ] {
        scene.refused(&sparse(map, size, b"12345"), "");
    }
    // The list before the content.
    let records = pax(&[
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"later"),
        (b"GNU.sparse.realsize", b"10"),
    ]);
    let mut content = b"1\n5\n5\n".to_vec();
    content.resize(512, 0);
    content.extend(b"tail!");
    scene.unpack(&[records, entry(b'0', b"x", b"", 0o644, &content)].concat()).unwrap();
    assert_eq!(fs::read(scene.root().join("later")).unwrap(), b"\0\0\0\0\0tail!");
}

#[test]
fn names_are_bytes_and_the_later_of_two_counts() {
    let scene = Scene::new();
    let name = b"\xff\xfe\x1b[2J";
    let archive = [entry(b'0', name, b"", 0o644, b"one"), entry(b'0', name, b"", 0o600, b"two")];
    scene.unpack(&archive.concat()).unwrap();
    use std::os::unix::ffi::OsStrExt;
    assert_eq!(fs::read(scene.root().join(std::ffi::OsStr::from_bytes(name))).unwrap(), b"two");
    // What a terminal would obey is escaped in a message.
    let climbs = scene.unpack(&entry(b'0', b"../\x1b[2J", b"", 0o644, b"")).unwrap_err().to_string();
    assert!(!climbs.contains('\x1b'), "{climbs:?}");
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "(a|b|c|d)(/(a|b|c|d)){0,3}".prop_map(String::into_bytes),
        "(/|\\./|\\.\\./|a/\\.\\./){0,2}(a|b|outside/secret|\\.wh\\.a|\\.)?".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..100),
    ]
}

fn targets() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        names(),
        Just(b"OUTSIDE".to_vec()),
        Just(b"/proc/self/root".to_vec()),
        Just(b"../outside/secret".to_vec())
    ]
}

/// Kind, name, target, mode and content.
type Any = (u8, Vec<u8>, Vec<u8>, u32, Vec<u8>);

fn entries() -> impl Strategy<Value = Vec<Any>> {
    let kind = prop_oneof![4 => Just(b'0'), 4 => Just(b'5'), 4 => Just(b'2'), 3 => Just(b'1'), 1 => Just(b'6'), 1 => Just(b'x'), 1 => Just(b'L'), 1 => Just(b'S'), 1 => any::<u8>()];
    let content = proptest::collection::vec(any::<u8>(), 0..40);
    proptest::collection::vec((kind, names(), targets(), 0..=0o7777_u32, content), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_archive_reaches_outside(entries in entries(), wounds in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
        let scene = Scene::new();
        let secret = scene.secret().into_os_string().into_encoded_bytes();
        let mut archive = Vec::new();
        for (kind, name, target, mode, content) in &entries {
            let target = if target == b"OUTSIDE" { &secret } else { target };
            archive.extend(entry(*kind, name, target, *mode, content));
        }
        let _ = scene.unpack(&archive);
        // The same with some bytes changed, over what is there.
        let count = if archive.is_empty() { 0 } else { wounds.len() };
        for (at, byte) in &wounds[..count] {
            *at.get_mut(&mut archive) = *byte;
        }
        let _ = scene.unpack(&archive);
        open(&scene.root());
    }

    #[test]
    fn bytes_are_refused_or_understood(bytes in proptest::collection::vec(any::<u8>(), 0..2000), records in proptest::collection::vec(any::<u8>(), 0..200)) {
        let scene = Scene::new();
        let _ = scene.unpack(&bytes);
        let _ = scene.unpack(&[entry(b'x', b"x", b"", 0, &records), entry(b'0', b"y", b"", 0o644, b"z")].concat());
    }
}

/// So that an ordinary user can remove it.
fn open(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open(&entry.path());
        }
    }
}

#[test]
fn the_scene_notices() {
    let scene = Scene::new();
    symlink(scene.secret(), scene.root().join("link")).unwrap();
    fs::set_permissions(scene.root().join("link"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(std::panic::catch_unwind(|| scene.unpack(&[])).is_err());
}
