//! What leaves a container, as an archive or an image: all of it, also while it works, and the container goes on.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{Host, Need, Outcome, Test, wait_until};

use super::hostile_layers::Tar;
use super::{Result, Store};

const RUN: &[Need] = &[Need::Root, Need::Overlay, Need::Rootfs, Need::Binary("sampan")];
/// Version 2 freezes every cgroup, without a controller.
const FREEZE: &[Need] =
    &[Need::Root, Need::Overlay, Need::Rootfs, Need::Binary("sampan"), Need::Cgroup("pids")];
const USER: &[Need] = &[
    Need::OverlayUser,
    Need::SubordinateIds,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("newuidmap"),
];
const SOON: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("image::an_export_keeps_attributes_and_holes", RUN, attributes_and_holes),
        test("image::a_container_at_work_is_exported", RUN, busy),
        test("image::a_commit_of_nothing_has_no_layer", RUN, nothing),
        test("image::a_commit_stops_the_container_and_lets_it_go_on", FREEZE, pauses),
        test("image::a_full_disk_ends_a_commit", RUN, full_disk),
        test("image::an_ordinary_user_commits_and_exports", USER, rootless),
        test("image::a_container_with_folders_without_end_is_removed", RUN, deep),
    ]
}

/// Starts a container that does this, and gives the folder of what it writes.
fn start(store: &Store<'_>, script: &str) -> Result<PathBuf> {
    let run = ["run", "-d", "--name", "one", "--network", "none", "busybox", "sh", "-c", script];
    Ok(store.root.join("containers").join(store.ok(&run)?).join("upper"))
}

fn attributes_and_holes(host: &Host) -> Outcome {
    const END: u64 = 1 << 30;
    let (store, folder) = (Store::new(host)?, host.new_dir()?);
    let path = folder.join("export.tar");
    let export = |name: &str| store.ok(&["export", "-o", &path.to_string_lossy(), name]);
    // A program's capabilities as the second version has them, and a user's own attribute.
    let capability = [&[1, 0, 0, 2][..], &[0, 4, 0, 0], &[0; 12]].concat();
    let image = Tar::new()
        .pax("SCHILY.xattr.security.capability", &capability)
        .file("ping", "x")
        .pax("SCHILY.xattr.user.note", b"plank")
        .file("note", "x");
    host.cmd("sampan", store.args(&["import", "-", "attributes"])).input(image.end()).run()?.success()?;
    store.ok(&["create", "--name", "attributes", "attributes", "x"])?;
    export("attributes")?;
    let bytes = fs::read(&path)?;
    for (key, value) in [("security.capability", capability.as_slice()), ("user.note", b"plank")] {
        let record = [format!("SCHILY.xattr.{key}=").as_bytes(), value, b"\n"].concat();
        assert!(bytes.windows(record.len()).any(|window| window == record), "{key} is missing");
    }
    // A gigabyte in which there are a few bytes, and nothing but a hole.
    store.import("busybox")?;
    let script = format!(
        "echo begin > /holes; printf end | dd of=/holes bs=1 seek={END} conv=notrunc; chown 7:8 /holes; \
         ln /holes /same; truncate -s {END} /void"
    );
    store.ok(&["run", "--name", "holes", "--network", "none", "busybox", "sh", "-c", &script])?;
    export("holes")?;
    let length = fs::metadata(&path)?.len();
    assert!(length < 64 << 20, "{length} bytes");
    let listed = host.command("tar", ["-tvf", &path.to_string_lossy()])?.success()?.stdout;
    let line = |end: &str| listed.lines().find(|line| line.ends_with(end)).unwrap_or_default();
    assert!(line(" holes").contains("7/8") && line(" holes").contains(&(END + 3).to_string()), "{listed}");
    assert!(line(" same link to holes").starts_with('h'), "{listed}");
    assert!(line(" void").contains(&END.to_string()), "{listed}");
    // GNU tar and we make the same of it.
    let other = folder.join("unpacked");
    fs::create_dir(&other)?;
    host.command("tar", ["-C", &other.to_string_lossy(), "-xf", &path.to_string_lossy(), "holes", "void"])?
        .success()?;
    let before = store.names("layers/sha256")?;
    store.ok(&["import", &path.to_string_lossy(), "again"])?;
    let new =
        store.names("layers/sha256")?.into_iter().find(|name| !before.contains(name)).ok_or("no layer")?;
    for root in [other, store.root.join("layers/sha256").join(new)] {
        let holes = fs::metadata(root.join("holes"))?;
        assert_eq!((holes.len(), holes.uid(), holes.gid()), (END + 3, 7, 8));
        assert!(holes.blocks() < 10_000 && fs::metadata(root.join("void"))?.blocks() < 10_000);
        let mut file = fs::File::open(root.join("holes"))?;
        let mut begin = [0; 8];
        file.read_exact(&mut begin)?;
        assert_eq!(&begin, b"begin\n\0\0");
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(END - 1))?;
        let mut end = String::new();
        file.read_to_string(&mut end)?;
        assert_eq!(end, "\0end");
    }
    Ok(())
}

/// Folders and files come and go while it is read.
fn busy(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    store.import("busybox")?;
    // What comes before takes time to be written, and what was seen behind it is gone by then.
    let script = "mkdir /a /w; i=0; while [ $i -lt 3000 ]; do echo $i > /a/$i; i=$((i+1)); done; cd /w; \
        while :; do for i in 1 2 3 4 5 6 7 8 9; do mkdir -p $i/d; echo x > $i/d/f; ln $i/d/f $i/l; done; \
        rm -rf 1 2 3; rm 4/d/f; rm -rf 5 6 7 8 9; mkdir 4/d/f; rm -rf 4; done";
    let upper = start(&store, script)?;
    wait_until("it works", SOON, || upper.join("w/1").exists())?;
    let path = host.new_dir()?.join("export.tar").to_string_lossy().into_owned();
    for round in 0..20 {
        store.ok(&["export", "-o", &path, "one"])?;
        let listed = host.command("tar", ["-tf", &path])?.success()?.stdout;
        assert!(listed.contains("bin/busybox"), "round {round}");
        store.ok(&["diff", "one"])?;
        // An image of it can be unpacked.
        store.ok(&["commit", "--pause=false", "one", "busy"])?;
    }
    store.ok(&["rm", "-f", "one"])?;
    Ok(())
}

fn nothing(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    store.import("busybox")?;
    store.ok(&["create", "--name", "one", "busybox", "true"])?;
    let id = store.ok(&["commit", "one", "same"])?;
    let layers = |name: &str| store.ok(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", name]);
    assert_eq!(layers("same")?, layers("busybox")?);
    let path = store.root.join("images/blobs/sha256").join(id.trim_start_matches("sha256:"));
    let config: Value = serde_json::from_slice(&fs::read(path)?)?;
    let steps = config["history"].as_array().ok_or("no history")?;
    let empty: Vec<_> = steps.iter().map(|step| step["empty_layer"] == true).collect();
    assert_eq!(empty, [false, true], "as many steps with a layer as layers: {steps:?}");
    assert!(store.ok(&["history", "-H=false", "--format", "{{.Size}}", "same"])?.starts_with("0\n"));
    store.ok(&["rm", "one"])?;
    Ok(())
}

/// Whether the kernel has it frozen, by either version's freezer.
fn is_frozen(id: &str) -> bool {
    let root = Path::new("/sys/fs/cgroup");
    ["freezer", "unified", "."].iter().any(|hierarchy| {
        let folder = root.join(hierarchy).join("sampan").join(id);
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        read("freezer.state").trim() == "FROZEN" || read("cgroup.freeze").trim() == "1"
    })
}

fn pauses(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    store.import("busybox")?;
    // It takes a while to read.
    let script = "truncate -s 2G /large; while :; do echo x >> /count; sleep 0.02; done";
    let upper = start(&store, script)?;
    let id = upper.parent().and_then(Path::file_name).ok_or("no id")?.to_string_lossy().into_owned();
    let count = || fs::metadata(upper.join("count")).map_or(0, |file| file.len());
    let goes_on = |what: &str| {
        wait_until(what, SOON, || !is_frozen(&id))?;
        let before = count();
        wait_until(what, SOON, || count() > before)
    };
    wait_until("it works", SOON, || count() > 0)?;
    let frozen = |options: &[&str]| -> Result<tests::Child> {
        let args = store.args(&[&["commit"], options, &["one", "large"]].concat());
        let child = host.spawn("sampan", args)?;
        wait_until("it stands still", SOON, || is_frozen(&id))?;
        Ok(child)
    };
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let child = frozen(&[])?;
        let before = count();
        sleep(Duration::from_millis(100));
        assert!(is_frozen(&id) && count() == before, "it stands still meanwhile");
        child.signal(signal)?;
        child.wait()?;
        goes_on("after a commit that was killed")?;
    }
    wait_until("nobody of it is left", SOON, || {
        let left = tests::ask::descendants(std::process::id().cast_signed());
        left.iter().all(|&pid| !tests::ask::command_line(pid).contains("commit"))
    })?;
    // Nobody asked for it.
    let child = host.spawn("sampan", store.args(&["commit", "--pause=false", "one", "large"]))?;
    let before = count();
    sleep(Duration::from_millis(200));
    assert!(!is_frozen(&id));
    wait_until("it goes on meanwhile", SOON, || count() > before)?;
    child.signal(Signal::SIGKILL)?;
    child.wait()?;
    // And one that comes to its end.
    store.ok(&["exec", "one", "rm", "/large"])?;
    store.ok(&["commit", "one", "small"])?;
    goes_on("after a commit")?;
    store.ok(&["rm", "-f", "one"])?;
    store.ok(&["image", "prune", "-f"])?;
    assert_eq!(store.names("tmp")?, [""; 0]);
    Ok(())
}

fn full_disk(host: &Host) -> Outcome {
    let mut store = Store::new(host)?;
    store.root = host.new_dir()?;
    let size = 4 * fs::metadata(host.tar())?.len() + (8 << 20);
    let data = format!("size={size}");
    mount(Some("tmpfs"), &store.root, Some("tmpfs"), MsFlags::empty(), Some(data.as_str()))?;
    store.import("busybox")?;
    let count = (size >> 20) / 2;
    let upper =
        start(&store, &format!("dd if=/dev/zero of=/large bs=1M count={count}; touch /done; sleep 60"))?;
    wait_until("it has written", SOON, || upper.join("done").exists())?;
    let all = || -> Result<_> {
        Ok((
            fs::read(store.root.join("images/index.json"))?,
            store.names("images/blobs/sha256")?,
            store.names("layers/sha256")?,
            store.names("tmp")?,
        ))
    };
    let before = all()?;
    let output = store.call(&["commit", "one", "large"])?;
    assert!(output.code != 0 && output.stderr.contains("o space left on device"), "{output}");
    assert!(all()? == before, "the store is as it was");
    store.ok(&["exec", "one", "rm", "/large"])?;
    store.ok(&["commit", "one", "small"])?;
    store.ok(&["rm", "-f", "one"])?;
    Ok(())
}

fn rootless(host: &Host) -> Outcome {
    let host = &host.as_user();
    let store = Store::new(host)?;
    store.import("busybox")?;
    let script = "mkdir -m 700 /d; echo x > /d/a; ln /d/a /d/b; chown -R 7:8 /d; chmod 4711 /d/a; rm /etc/passwd; sleep 60";
    let upper = start(&store, script)?;
    wait_until("it has done it", SOON, || {
        store.ok(&["diff", "one"]).is_ok_and(|diff| diff.contains("D /etc/passwd"))
    })?;
    assert!(upper.join("d").exists());
    store.ok(&["commit", "one", "two"])?;
    let stat = ["run", "--rm", "--network", "none", "two", "stat", "-c", "%a %h", "/d", "/d/b"];
    assert_eq!(store.ok(&stat)?, "700 2\n4711 2");
    let path = host.new_dir()?.join("export.tar").to_string_lossy().into_owned();
    store.ok(&["export", "-o", &path, "one"])?;
    let listed = host.command("tar", ["-tvf", &path])?.success()?.stdout;
    let line = |end: &str| listed.lines().find(|line| line.ends_with(end)).unwrap_or_default();
    assert!(line(" d/a").starts_with("-rws--x--x 7/8"), "{listed}");
    assert!(!listed.contains("etc/passwd") && line(" d/b link to d/a").starts_with('h'), "{listed}");
    store.ok(&["rm", "-f", "one"])?;
    Ok(())
}

/// Deeper than files may be open.
fn deep(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    store.import("busybox")?;
    let script = "i=0; while [ $i -lt 1500 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; echo done";
    let run = ["run", "--name", "one", "--network", "none", "busybox", "sh", "-c", script];
    assert_eq!(store.ok(&run)?, "done");
    let few = |words: &[&str]| {
        let script = format!("ulimit -n 300; exec {} \"$@\"", host.bin("sampan").display());
        let args = ["-c".to_owned(), script, "sh".to_owned()].into_iter().chain(store.args(words));
        host.command("sh", args)
    };
    assert!(few(&["system", "df"])?.success()?.stdout.contains("Containers"));
    for words in [["diff", "one"], ["commit", "one"]] {
        let output = few(&words)?;
        assert!(output.code != 0 && output.stderr.contains("EMFILE"), "{output}");
    }
    few(&["rm", "one"])?.success()?;
    assert_eq!(store.names("containers")?, [""; 0]);
    Ok(())
}
