//! Layers that mean harm: `import` refuses them in words, or takes what is harmless in them.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use tar::{EntryType, Header};
use tests::{Host, Need, Outcome, Test};

use super::Result;
use super::hostile::Scene;

const STORE: &[Need] = &[Need::Root, Need::Rootfs, Need::Binary("sampan")];
const USER: &[Need] = &[Need::UserNamespaces, Need::Rootfs, Need::Binary("sampan")];
const LONG: &[Need] = &[Need::Root, Need::Rootfs, Need::Binary("sampan"), Need::Patience];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("hostile::a_layer_that_reaches_out_is_refused", STORE, reaches_out),
        test("hostile::a_layer_that_is_odd_stays_inside", STORE, odd),
        test("hostile::an_ordinary_users_layer_has_no_devices", USER, devices),
        test("hostile::a_folder_deeper_than_any_path_is_removed", STORE, deep),
        test("hostile::many_entries_take_no_more_memory_than_one", LONG, many),
    ]
}

/// An archive in the making; names and numbers go in as they are.
#[derive(Clone, Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A header that announces so many bytes.
    pub(super) fn raw(mut self, kind: u8, name: &[u8], target: &[u8], size: u64) -> Self {
        self.0.extend(header(kind, name, target, size, 0o755));
        self
    }

    /// What is not an entry.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.extend(bytes);
        self.0
    }

    fn entry(self, kind: u8, name: &[u8], target: &[u8], content: &[u8]) -> Self {
        let mut tar = self.raw(kind, name, target, content.len() as u64);
        tar.0.extend(content);
        tar.0.resize(tar.0.len().next_multiple_of(512), 0);
        tar
    }

    pub(super) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(b'0', name.as_bytes(), b"", content.as_ref())
    }

    fn folder(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", b"")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name.as_bytes(), target.as_bytes(), b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name.as_bytes(), target.as_bytes(), b"")
    }

    /// A PAX record for the next entry.
    pub(super) fn pax(self, key: &str, value: &[u8]) -> Self {
        let rest = key.len() + value.len() + 3;
        let length = rest + (rest + rest.to_string().len()).to_string().len();
        let record = [format!("{length} {key}=").as_bytes(), value, b"\n"].concat();
        self.entry(b'x', b"pax", b"", &record)
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn header(kind: u8, name: &[u8], target: &[u8], size: u64, mode: u32) -> [u8; 512] {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(mode);
    header.set_uid(u64::from(nix::unistd::geteuid().as_raw()));
    header.set_gid(u64::from(nix::unistd::getegid().as_raw()));
    header.set_mtime(1);
    header.set_size(size);
    let old = header.as_old_mut();
    old.name[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    old.linkname[..target.len().min(100)].copy_from_slice(&target[..target.len().min(100)]);
    if matches!(kind, b'3' | b'4') {
        // Both fit.
        let _ = header.set_device_major(1).and_then(|()| header.set_device_minor(3));
    }
    header.set_cksum();
    *header.as_bytes()
}

fn reaches_out(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let (secret, outside) = (scene.secret(), scene.outside.to_string_lossy().into_owned());
    let new = Tar::new;
    let swapped = new()
        .folder("d")
        .folder("e")
        .symlink("l", "d")
        .folder("l/x")
        .symlink("l", "e")
        .symlink("e/x", &secret);
    let cases = [
        ("up", new().file("../evil", "x"), "climbs out"),
        ("up by PAX", new().pax("path", b"a/../../evil").file("good", "x"), "climbs out"),
        ("a hard link up", new().hard_link("h", "../../secret"), "climbs out"),
        ("a hard link to the host", new().hard_link("h", &secret), "linkat"),
        ("a hard link by PAX", new().pax("linkpath", secret.as_bytes()).hard_link("h", "x"), "linkat"),
        ("a hard link by a link", new().symlink("l", &outside).hard_link("h", "l/secret"), "linkat"),
        ("a link in the place of a directory", swapped, "chmod"),
        (
            "a name of 4096 bytes",
            new().pax("path", &b"x".repeat(4096)).file("x", ""),
            "longer name than Linux allows",
        ),
        (
            "a path of 5000 bytes",
            new().pax("path", &b"xy/".repeat(1700)).file("x", ""),
            "longer name than Linux allows",
        ),
        ("a NUL", new().pax("path", b"good\0../evil").file("x", ""), "NUL"),
        ("a whiteout of nothing", new().file(".wh.", ""), "whiteout"),
        ("a whiteout of .", new().file("a/.wh..", ""), "whiteout"),
        ("a whiteout of ..", new().file("a/.wh...", ""), "whiteout"),
        ("a whiteout as a folder", new().file(".wh.a/b", "x"), "whiteout"),
        ("a file for the root", new().file(".", "x"), "has no name"),
        ("a kind that is none", new().entry(b'Z', b"z", b"", b""), "is of a kind that no file system has"),
        ("a size beyond the archive", new().pax("size", b"99999999").file("x", "x"), "middle of an entry"),
        ("a size beyond all", new().pax("size", b"18446744073709551615").file("x", "x"), "size"),
        ("a record that lies", new().entry(b'x', b"x", b"", b"99 path=a\n").file("x", ""), "PAX record"),
        ("content that is cut", Tar(new().raw(b'0', b"cut", b"", 5000).bytes(&[b'x'; 700])), "\"cut\""),
    ];
    for (what, tar, words) in cases {
        // Cut where it ends: a header of zeros would be content.
        let archive = if what == "content that is cut" { tar.0 } else { tar.end() };
        let output = scene.client.input(&["import", "-", "evil"], archive)?;
        scene.refused(what, &output, &[words])?;
    }
    Ok(())
}

/// The folder of the one layer that a new image has.
fn import(scene: &Scene<'_>, archive: Vec<u8>) -> Result<std::path::PathBuf> {
    let store = &scene.client.store;
    let before = store.names("layers/sha256")?;
    scene.client.input(&["import", "-", "odd"], archive)?.success()?;
    let after = store.names("layers/sha256")?;
    let new = after.iter().find(|name| !before.contains(name)).ok_or("no new layer")?;
    Ok(store.root.join("layers/sha256").join(new))
}

fn odd(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let secret = scene.secret();
    let name = b"\xff\xfe\x1b[2J";
    let archive = Tar::new()
        .file(&secret, "absolute")
        .symlink("door", scene.outside.to_string_lossy().as_ref())
        .file("door/evil", "through the door")
        .file("twice", "one")
        .file("twice", "two")
        .entry(b'0', name, b"", b"bytes")
        .pax("mtime", b"-1.5")
        .file("before-1970", "")
        .pax("SCHILY.xattr.trusted.overlay.redirect", b"/etc")
        .pax("SCHILY.xattr.user.overlay.opaque", b"y")
        .folder("marked");
    let mut archive = archive.0;
    archive.extend(header(b'0', b"su", b"", 0, 0o6755));
    let layer = import(&scene, Tar(archive).end())?;
    let read = |name: &str| fs::read_to_string(layer.join(name.trim_start_matches('/')));
    assert_eq!(read(&secret)?, "absolute");
    assert_eq!(
        read(&format!("{}/evil", scene.outside.display()))?,
        "through the door",
        "a door leads inside"
    );
    assert_eq!(read("twice")?, "two");
    assert_eq!(fs::read(layer.join(OsStr::from_bytes(name)))?, b"bytes");
    assert_eq!(fs::metadata(layer.join("before-1970"))?.mtime(), -2);
    assert_eq!(fs::metadata(layer.join("su"))?.permissions().mode() & 0o7777, 0o6755);
    assert_eq!(
        fs::metadata(layer.parent().and_then(|layers| layers.parent()).ok_or("no parent")?)?.mode() & 0o077,
        0,
        "and nobody else gets at it"
    );
    scene.client.ok(&["rmi", "odd"])?;
    scene.unchanged("an odd layer")
}

fn devices(host: &Host) -> Outcome {
    let host = &host.as_user();
    let scene = Scene::new(host)?;
    let archive =
        Tar::new().entry(b'3', b"null", b"", b"").entry(b'4', b"disk", b"", b"").file("after", "it");
    let layer = import(&scene, archive.end())?;
    assert_eq!(super::names(&layer)?, ["after"]);
    // A folder that shuts its owner out goes as well.
    let mut shut = header(b'5', b"shut", b"", 0, 0).to_vec();
    shut.extend(header(b'0', b"shut/in", b"", 0, 0o600));
    scene.client.input(&["import", "-", "shut"], Tar(shut).end())?.success()?;
    scene.client.ok(&["rmi", "odd", "shut"])?;
    scene.unchanged("devices")
}

/// Links make it possible: each entry goes on where the last one's link leads.
fn deep(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let chain = "d/".repeat(1000);
    let mut tar = Tar::new();
    for number in 0..4 {
        let target = match number {
            0 => chain.clone(),
            number => format!("l{}/{chain}", number - 1),
        };
        tar = tar.pax("path", target.as_bytes()).folder("x");
        tar = tar.pax("linkpath", target.as_bytes()).symlink(&format!("l{number}"), "x");
    }
    let layer = import(&scene, tar.clone().end())?;
    assert!(fs::metadata(layer.join("l3")).is_ok(), "four thousand folders");
    scene.client.ok(&["system", "df"])?;
    scene.client.ok(&["rmi", "odd"])?;
    scene.unchanged("four thousand folders")?;
    let output = scene.client.input(&["import", "-", "odd"], tar.file("../x", "").end())?;
    scene.refused("the same in an archive that is refused", &output, &["climbs out"])
}

fn many(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let store = &scene.client.store;
    let mut child = host.cmd("sampan", store.args(&["import", "-", "many"])).input_pipe().spawn()?;
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    let some =
        (0..1000).fold(Tar::new(), |tar, number| tar.entry(b'1', format!("f{number}").as_bytes(), b"f", b""));
    stdin.write_all(&Tar::new().file("f", "x").0)?;
    for _ in 0..100 {
        stdin.write_all(&some.0)?;
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.pid()))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.is_some_and(|kib| kib < 64 << 10), "{peak:?} KiB");
    stdin.write_all(&[0; 1024])?;
    drop(stdin);
    child.wait()?.success()?;
    scene.client.ok(&["rmi", "many"])?;
    scene.unchanged("many")
}
