//! Tests of images: the store on the disk is what other programs read, and what is left when a command is killed.

mod answers;
mod commands;
mod exports;
mod fake;
mod hostile;
mod hostile_disk;
mod hostile_layers;
mod hostile_registry;
mod like_docker;
mod logins;
mod owners;
mod pulls;
mod pushes;
mod registries;
mod serve;
mod serve_http;
mod together;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{Host, Need, Outcome, Output, Test, wait_until};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const STORE: &[Need] = &[Need::Rootfs, Need::Binary("sampan")];
const RUN: &[Need] = &[Need::Root, Need::Overlay, Need::Rootfs, Need::Binary("sampan")];
const OTHERS: &[Need] = &[
    Need::Root,
    Need::Overlay,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("skopeo"),
    Need::Program("umoci"),
];

pub(crate) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("image::skopeo_and_umoci_read_the_store", OTHERS, others_read),
        test("image::what_skopeo_writes_is_an_image", OTHERS, others_write),
        test("image::layers_are_unpacked_once_and_shared", STORE, shared),
        test("image::a_removed_image_takes_its_files_along", RUN, removed),
        test("image::a_killed_import_is_no_image", STORE, killed),
        test("image::imports_at_once_lose_nothing", STORE, at_once),
        test("image::a_full_disk_changes_nothing", RUN, full_disk),
        test(
            "image::an_ordinary_user_has_a_store",
            &[Need::UserNamespaces, Need::Rootfs, Need::Binary("sampan")],
            rootless,
        ),
    ]
    .into_iter()
    .chain(registries::tests())
    .chain(commands::tests())
    .chain(exports::tests())
    .chain(together::tests())
    .chain(like_docker::tests())
    .chain(hostile::tests())
    .chain(hostile_layers::tests())
    .chain(hostile_registry::tests())
    .chain(hostile_disk::tests())
    .chain(answers::tests())
    .chain(serve::tests())
    .chain(serve_http::tests())
    .chain(pulls::tests())
    .chain(logins::tests())
    .chain(owners::tests())
    .chain(pushes::tests())
    .collect()
}

/// A store of its own.
struct Store<'a> {
    host: &'a Host,
    root: PathBuf,
    run: PathBuf,
}

impl<'a> Store<'a> {
    fn new(host: &'a Host) -> Result<Self> {
        Ok(Self { host, root: host.new_dir()?.join("data"), run: host.new_dir()?.join("sampan") })
    }

    fn args(&self, args: &[&str]) -> Vec<String> {
        let roots = ["--root", &self.root.to_string_lossy(), "--run-root", &self.run.to_string_lossy()]
            .map(str::to_owned);
        roots.into_iter().chain(args.iter().map(ToString::to_string)).collect()
    }

    fn call(&self, args: &[&str]) -> Result<Output> {
        self.host.command("sampan", self.args(args))
    }

    fn ok(&self, args: &[&str]) -> Result<String> {
        Ok(self.call(args)?.success()?.stdout.trim_end().to_owned())
    }

    fn import(&self, name: &str) -> Result<String> {
        self.ok(&["import", &self.host.tar().to_string_lossy(), name])
    }

    fn layout(&self) -> String {
        format!("oci:{}", self.root.join("images").display())
    }

    fn names(&self, folder: &str) -> Result<Vec<String>> {
        names(&self.root.join(folder))
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut names = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Each file of a tree with its mode, owner, size or target.
fn attributes(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut all = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        let target =
            if metadata.is_symlink() { fs::read_link(&path)?.display().to_string() } else { String::new() };
        let size = if metadata.is_file() { metadata.size() } else { 0 };
        let line = format!(
            "{:o} {}:{} {size} {} {target}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime()
        );
        if path != root {
            all.insert(path.strip_prefix(root)?.to_owned(), line);
        }
        if metadata.is_dir() {
            left.extend(
                fs::read_dir(&path)?
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<std::io::Result<Vec<_>>>()?,
            );
        }
    }
    Ok(all)
}

fn others_read(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let id = store.import("busybox:latest")?;
    let image = format!("{}:docker.io/library/busybox:latest", store.layout());
    let inspected = host.command("skopeo", ["inspect", &image])?.success()?.json()?;
    let layers = inspected["Layers"].as_array().ok_or("no layers")?;
    let layer = layers[0].as_str().ok_or("no layer")?.trim_start_matches("sha256:").to_owned();
    assert_eq!(layers.len(), 1);
    let sum = host.command("sha256sum", [host.tar()])?.success()?.stdout;
    assert!(sum.starts_with(&layer), "the layer is the archive as it was: {sum} {layer}");
    let config: Value = host.command("skopeo", ["inspect", "--config", &image])?.success()?.json()?;
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{layer}"));
    let sum = host.command(
        "sha256sum",
        [store.root.join("images/blobs/sha256").join(id.trim_start_matches("sha256:"))],
    )?;
    assert!(
        sum.success()?.stdout.starts_with(id.trim_start_matches("sha256:")),
        "the id is the config's digest"
    );
    // skopeo checks every digest when it copies.
    let copy = format!("oci:{}:copy", host.new_dir()?.join("copy").display());
    host.command("skopeo", ["copy", &image, &copy])?.success()?;
    let bundle = host.new_dir()?.join("bundle");
    let layout = format!("{}:docker.io/library/busybox:latest", store.root.join("images").display());
    host.command("umoci", ["unpack", "--image", &layout, &bundle.to_string_lossy()])?.success()?;
    let ours = attributes(&store.root.join("layers/sha256").join(&layer))?;
    assert!(ours.len() > 10);
    assert_eq!(attributes(&bundle.join("rootfs"))?, ours, "umoci and we unpack the same tree");
    Ok(())
}

fn others_write(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    store.import("busybox:latest")?;
    let other = format!("oci:{}:moved", host.new_dir()?.join("other").display());
    let name = |name: &str| format!("{}:{name}", store.layout());
    // Away, compressed, and back under another name.
    host.command("skopeo", ["copy", &name("docker.io/library/busybox:latest"), &other])?.success()?;
    store.ok(&["rmi", "busybox"])?;
    assert_eq!(store.names("layers/sha256")?, [""; 0]);
    host.command("skopeo", ["copy", &other, &name("back:v2")])?.success()?;
    assert!(store.ok(&["images"])?.contains("back"));
    let seen: Value =
        store.call(&["run", "--rm", "--network", "none", "back:v2", "/kit/probe"])?.success()?.json()?;
    assert_eq!(seen["pid"], 1);
    host.command("umoci", ["tag", "--image", &name("back:v2").replace("oci:", ""), "third"])?.success()?;
    store.ok(&["run", "--rm", "--network", "none", "third", "true"])?;
    // What we write leaves what they wrote.
    store.import("busybox:again")?;
    host.command("skopeo", ["inspect", &name("third")])?.success()?;
    Ok(())
}

fn shared(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let tar = host.tar();
    let packed = host.new_dir()?.join("busybox.tar.gz");
    fs::write(&packed, host.cmd("gzip", ["-1", "-c"]).arg(&tar).inner().output()?.stdout)?;
    let first = store.import("plain")?;
    let second = store.ok(&["import", &packed.to_string_lossy(), "packed"])?;
    assert_ne!(first, second);
    let layers = store.names("layers/sha256")?;
    assert_eq!(layers.len(), 1, "one folder for the same files, however they came: {layers:?}");
    let inode = fs::metadata(store.root.join("layers/sha256").join(&layers[0]).join("bin"))?.ino();
    store.ok(&["rmi", "plain"])?;
    assert_eq!(fs::metadata(store.root.join("layers/sha256").join(&layers[0]).join("bin"))?.ino(), inode);
    // A pipe is as good as a file.
    let output = host.cmd("sampan", store.args(&["import", "-", "piped"])).input(fs::read(&tar)?).run()?;
    output.success()?;
    assert_eq!(store.names("layers/sha256")?, layers);
    Ok(())
}

fn removed(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    store.import("busybox")?;
    store.ok(&["run", "--name", "one", "--network", "none", "busybox", "true"])?;
    let output = store.call(&["rmi", "busybox"])?;
    assert!(output.code != 0 && output.stderr.contains("used by container one"), "{output}");
    assert_eq!(store.names("images/blobs/sha256")?.len(), 3);
    store.ok(&["rm", "one"])?;
    let said = store.ok(&["rmi", "busybox"])?;
    assert!(said.contains("Untagged: busybox:latest") && said.contains("Deleted: sha256:"), "{said}");
    for folder in ["images/blobs/sha256", "layers/sha256", "tmp"] {
        assert_eq!(store.names(folder)?, [""; 0], "{folder}");
    }
    assert_eq!(store.call(&["rmi", "busybox"])?.code, 1);
    Ok(())
}

/// What must hold at any instant: blobs have the bytes of their names, and the index names only what is there.
fn check(host: &Host, store: &Store<'_>) -> Outcome {
    let blobs = store.root.join("images/blobs/sha256");
    for name in names(&blobs)? {
        let sum = host.command("sha256sum", [blobs.join(&name)])?.success()?.stdout;
        assert!(sum.starts_with(&name), "{name} is half a blob");
    }
    let Ok(index) = fs::read(store.root.join("images/index.json")) else { return Ok(()) };
    let index: Value = serde_json::from_slice(&index)?;
    for entry in index["manifests"].as_array().into_iter().flatten() {
        let digest = entry["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:");
        assert!(blobs.join(digest).is_file(), "the index names what is not there");
    }
    let tar = attributes(&host.rootfs()?)?.len();
    for layer in store.names("layers/sha256")? {
        let files = attributes(&store.root.join("layers/sha256").join(layer))?.len();
        assert!(files >= tar / 2, "half a layer: {files} of about {tar}");
    }
    Ok(())
}

fn killed(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let archive = fs::read(host.tar())?;
    // Once in the middle of the stream, for certain.
    let mut child = host.cmd("sampan", store.args(&["import", "-", "killed"])).input_pipe().spawn()?;
    child.stdin.as_mut().ok_or("no stdin")?.write_all(&archive[..archive.len() / 2])?;
    let begun = || store.names("tmp").is_ok_and(|all| all.len() == 2);
    wait_until("a blob and a layer are under way", Duration::from_secs(60), begun)?;
    child.signal(Signal::SIGKILL)?;
    child.wait()?;
    check(host, &store)?;
    assert_eq!((store.names("images/blobs/sha256")?, store.names("layers/sha256")?), (vec![], vec![]));
    // And at moments of its whole life.
    for moment in 0..10 {
        let child = host
            .spawn("sampan", store.args(&["import", &host.tar().to_string_lossy(), &format!("n{moment}")]))?;
        sleep(Duration::from_millis(3 * moment));
        let _ = child.signal(Signal::SIGKILL);
        child.wait()?;
        check(host, &store)?;
    }
    store.import("whole")?;
    for image in store.ok(&["images", "-q"])?.lines() {
        store.ok(&["rmi", "-f", image])?;
    }
    for folder in ["images/blobs/sha256", "layers/sha256", "tmp"] {
        assert_eq!(store.names(folder)?, [""; 0], "{folder} is swept of what killed commands left");
    }
    Ok(())
}

fn at_once(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let tar = host.tar();
    let children = (0..8)
        .map(|number| {
            host.spawn("sampan", store.args(&["import", &tar.to_string_lossy(), &format!("n{number}")]))
        })
        .collect::<Result<Vec<_>>>()?;
    for child in children {
        child.wait()?.success()?;
    }
    let images = store.ok(&["images"])?;
    assert!((0..8).all(|number| images.contains(&format!("n{number} "))), "{images}");
    assert_eq!((store.names("layers/sha256")?.len(), store.names("tmp")?.len()), (1, 0));
    check(host, &store)
}

fn full_disk(host: &Host) -> Outcome {
    let mut store = Store::new(host)?;
    store.root = host.new_dir()?;
    let size = fs::metadata(host.tar())?.len();
    let mount = |data: String| {
        nix::mount::mount(
            Some("tmpfs"),
            &store.root,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(data.as_str()),
        )
    };
    mount(format!("size={}", size + size / 2))?;
    let output = store.call(&["import", &host.tar().to_string_lossy(), "busybox"])?;
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("ENOSPC") || output.stderr.contains("No space left"), "{output}");
    for folder in ["images/blobs/sha256", "layers/sha256", "tmp"] {
        assert_eq!(store.names(folder)?, [""; 0], "{folder}");
    }
    assert_eq!(store.ok(&["images", "-q"])?, "");
    Ok(())
}

fn rootless(host: &Host) -> Outcome {
    let host = &host.as_user();
    let store = Store::new(host)?;
    store.import("busybox")?;
    let layers = store.names("layers/sha256")?;
    let owner = fs::metadata(store.root.join("layers/sha256").join(&layers[0]).join("bin"))?.uid();
    assert_eq!(owner, host.ids().0, "an ordinary user's layers are his own");
    assert_eq!(fs::metadata(&store.root)?.mode() & 0o077, 0, "and closed to others");
    store.ok(&["rmi", "busybox"])?;
    assert_eq!(store.names("layers/sha256")?, [""; 0]);
    Ok(())
}
