//! An ordinary user's images: the files have the owners that they have for root.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use tar::{EntryType, Header};
use tests::{Host, Need, Outcome, Test, wait_until};

use super::answers::Shelf;
use super::fake::Fake;
use super::{Result, Store};

const USER: &[Need] = &[
    Need::Root,
    Need::OverlayUser,
    Need::SubordinateIds,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("newuidmap"),
];
const SOON: Duration = Duration::from_secs(10);
/// What a closed file of another user holds.
const LARGE: usize = 4 << 20;

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("image::a_users_files_have_their_owners_however_they_come", USER, come),
        test("image::a_users_files_of_others_are_counted_and_removed", USER, go),
        test("image::a_users_files_keep_their_owners_on_their_way_out", USER, out),
        test("image::a_users_build_gives_files_away", USER, build),
        test("image::a_users_killed_import_is_swept", USER, killed),
        test("image::an_owner_beyond_a_users_ids_is_refused", USER, beyond),
        test("image::a_user_with_one_id_is_told", USER, alone),
    ]
}

/// A header with its content.
fn entry(kind: EntryType, name: &str, mode: u32, (user, group): (u64, u64), content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(user);
    header.set_gid(group);
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    let mut bytes = [header.as_bytes().as_slice(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// The root file system with the home of a user that nobody else enters.
fn archive(host: &Host) -> Result<Vec<u8>> {
    let (folder, file) = (EntryType::Directory, EntryType::Regular);
    let app = (1000, 33);
    let passwd = b"root:x:0:0::/root:/bin/sh\napp:x:1000:33::/home/app:/bin/sh\n";
    let before = [
        entry(folder, "home", 0o755, (0, 0), b""),
        entry(folder, "home/app", 0o700, app, b""),
        entry(file, "home/app/note", 0o600, app, &[b'x'; LARGE]),
        entry(file, "home/app/su", 0o4700, app, b"#!/bin/sh\n"),
    ];
    // Of two of one name the later counts.
    let mut kit = fs::read(host.tar())?;
    let end = kit.iter().rposition(|byte| *byte != 0).ok_or("an empty archive")? + 1;
    kit.truncate(end.next_multiple_of(512));
    Ok([before.concat(), kit, entry(file, "etc/passwd", 0o644, (0, 0), passwd), vec![0; 1024]].concat())
}

fn import(store: &Store<'_>, archive: Vec<u8>) -> Result<String> {
    let cmd = store.host.cmd("sampan", store.args(&["import", "-c", "USER app", "-", "owned"]));
    Ok(cmd.input(archive).run()?.success()?.stdout.trim_end().to_owned())
}

/// The user of the image writes where it may, and sees whose all is.
fn works(store: &Store<'_>, image: &str) -> Outcome {
    let script = "echo x > /home/app/new && cd /home/app && stat -c '%n %u:%g %a' . note su new && id -u";
    let said = store.ok(&["run", "--rm", "--network", "none", image, "sh", "-c", script])?;
    assert_eq!(said, ". 1000:33 700\nnote 1000:33 600\nsu 1000:33 4700\nnew 1000:33 644\n1000", "{image}");
    Ok(())
}

fn come(host: &Host) -> Outcome {
    let user = host.as_user();
    let (roots, store) = (Store::new(host)?, Store::new(&user)?);
    let id = import(&roots, archive(host)?)?;
    let path = host.new_dir()?.join("owned.tar").to_string_lossy().into_owned();
    roots.ok(&["save", "-o", &path, "owned"])?;
    import(&store, archive(host)?)?;
    works(&store, "owned")?;
    // What has no folder, as after a push to this store's registry, gets it when it is needed.
    let folder = store.root.join("layers/sha256").join(&store.names("layers/sha256")?[0]);
    fs::remove_dir_all(folder)?;
    works(&store, "owned")?;
    store.ok(&["rmi", "owned"])?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    store.ok(&["load", "-i", &path])?;
    assert!(store.ok(&["images", "-q", "--no-trunc"])?.contains(&id), "it is root's image");
    works(&store, "owned")?;
    store.ok(&["rmi", "owned"])?;
    let shelf = Shelf::of(&roots)?;
    let fake = Fake::start("127.0.0.1", move |request| shelf.answer(request))?;
    let name = format!("{}/a/b:v1", fake.address);
    store.ok(&["pull", &name])?;
    works(&store, &name)?;
    store.ok(&["rmi", &name])?;
    assert_eq!(store.names("layers/sha256")?, [""; 0]);
    // A container that pulls it first, and one that cannot.
    works(&store, &name)?;
    for (verb, code) in [("run", 125), ("create", 1)] {
        let output = store.call(&[verb, &format!("{}/a/b:v2", fake.address), "true"])?;
        assert_eq!(output.code, code, "{output}");
        assert_eq!(output.stderr.matches("has no manifest v2").count(), 1, "{output}");
    }
    Ok(())
}

fn go(host: &Host) -> Outcome {
    let user = host.as_user();
    let store = &Store::new(&user)?;
    import(store, archive(host)?)?;
    let megabytes = || -> Result<f64> {
        let said = store.ok(&["system", "df", "--format", "{{.Type}} {{.Size}}"])?;
        let size = said.lines().find_map(|line| line.strip_prefix("Images ")).ok_or("no images")?.to_owned();
        Ok(size.strip_suffix("MB").ok_or(size.clone())?.parse()?)
    };
    let all = megabytes()?;
    fs::remove_file(
        store.root.join("layers/sha256").join(&store.names("layers/sha256")?[0]).join("home/app/note"),
    )?;
    let less = megabytes()?;
    assert!((all - less - 4.2).abs() < 0.2, "{all} MB, and {less} MB without a closed file of 4.2 MB");
    // Closed as well: what a container has written there.
    store.ok(&[
        "run",
        "--name",
        "one",
        "--network",
        "none",
        "owned",
        "cp",
        "/bin/busybox",
        "/home/app/new",
    ])?;
    assert!(!store.ok(&["system", "df", "--format", "{{.Type}} {{.Size}}"])?.contains("Containers 0B"));
    store.ok(&["rm", "one"])?;
    store.ok(&["rmi", "owned"])?;
    assert_eq!((store.names("layers/sha256")?, store.names("tmp")?), (vec![], vec![]));
    import(store, archive(host)?)?;
    assert!(store.ok(&["image", "prune", "-af"])?.contains("deleted: sha256:"));
    assert_eq!((store.names("layers/sha256")?, store.names("tmp")?), (vec![], vec![]));
    Ok(())
}

/// Mode, owner and name of each entry of an archive.
fn listed(host: &Host, path: &Path) -> Result<Vec<String>> {
    let said = host.command("tar", ["--numeric-owner", "-tvf", &path.to_string_lossy()])?.success()?.stdout;
    let words = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        format!("{} {} {}", words[0], words[1], words[5..].join(" "))
    };
    let mut lines: Vec<_> = said.lines().map(words).collect();
    lines.sort();
    Ok(lines)
}

/// The blob of an image's uppermost layer.
fn uppermost(store: &Store<'_>, image: &str) -> Result<PathBuf> {
    let layers = store.ok(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", image])?;
    let layers: Vec<String> = serde_json::from_str(&layers)?;
    let hex = layers.last().ok_or("no layer")?.trim_start_matches("sha256:").to_owned();
    Ok(store.root.join("images/blobs/sha256").join(hex))
}

fn out(host: &Host) -> Outcome {
    let user = host.as_user();
    let (roots, users) = (Store::new(host)?, Store::new(&user)?);
    let script = "echo x > /home/app/new; chmod 700 /home/app/new; rm /home/app/su; touch /home/app/note";
    let mut seen = Vec::new();
    for store in [&roots, &users] {
        import(store, archive(host)?)?;
        let folder = store.host.new_dir()?;
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        store.ok(&["create", "--name", "new", "owned", "true"])?;
        store.ok(&["export", "-o", &path("new.tar"), "new"])?;
        let run = ["run", "--name", "one", "--network", "none", "owned", "sh", "-c", script];
        store.ok(&run)?;
        store.ok(&["export", "-o", &path("export.tar"), "one"])?;
        store.ok(&["commit", "one", "two"])?;
        store.ok(&["save", "-o", &path("save.tar"), "owned"])?;
        seen.push((
            store.ok(&["diff", "one"])?,
            listed(host, &folder.join("new.tar"))?,
            listed(host, &folder.join("export.tar"))?,
            listed(host, &uppermost(store, "two")?)?,
            uppermost(store, "owned")?.file_name().map(ToOwned::to_owned),
        ));
        store.ok(&["rm", "new", "one"])?;
        store.ok(&["rmi", "owned", "two"])?;
        assert_eq!(store.names("layers/sha256")?, [""; 0]);
        store.ok(&["load", "-i", &path("save.tar")])?;
        works(store, "owned")?;
    }
    assert!(seen[0].3.iter().any(|line| line == "-rwx------ 1000/33 home/app/new"), "{:?}", seen[0].3);
    assert_eq!(seen[0], seen[1], "root's and a user's");
    Ok(())
}

fn build(host: &Host) -> Outcome {
    let user = host.as_user();
    let (roots, users) = (Store::new(host)?, Store::new(&user)?);
    let text = "\
FROM owned AS base
FROM base
USER root
RUN mkdir /given && echo x > /given/a && chown -R 7:8 /given && chmod 700 /given
COPY --chown=app f /given/copied
COPY --from=base --chown=5:6 /home/app/note /noted
ADD owned.tar /added
WORKDIR /given/work
USER app
RUN echo y > /home/app/made; id -u
";
    let extra = [entry(EntryType::Regular, "in", 0o640, (9, 10), b"x"), vec![0; 1024]].concat();
    let mut seen = Vec::new();
    for store in [&roots, &users] {
        import(store, archive(host)?)?;
        let context = store.host.new_dir()?;
        for (name, bytes) in [("Dockerfile", text.as_bytes()), ("f", b"F"), ("owned.tar", &extra)] {
            fs::write(context.join(name), bytes)?;
            fs::set_permissions(context.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        }
        let context = context.to_string_lossy().into_owned();
        let args = ["build", "-t", "built", "--network", "none", &context];
        let said = store.ok(&args)?;
        assert!(said.contains("\n1000\n"), "{said}");
        let layers = store.ok(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", "built"])?;
        let layers: Vec<String> = serde_json::from_str(&layers)?;
        let blob = |hex: &String| {
            listed(host, &store.root.join("images/blobs/sha256").join(hex.trim_start_matches("sha256:")))
        };
        seen.push(layers.iter().skip(1).map(blob).collect::<Result<Vec<_>>>()?);
        let stat = "stat -c %u:%g /home/app/made /noted; cat /home/app/made";
        let said = store.ok(&["run", "--rm", "--network", "none", "built", "sh", "-c", stat])?;
        assert_eq!(said, "1000:33\n5:6\ny");
        assert!(!store.ok(&args)?.contains("Running"), "and again out of the cache");
        // The command's end is the build's, and what cannot be started is told once.
        fs::write(Path::new(&context).join("Dockerfile"), "FROM owned\nRUN exit 7\n")?;
        assert_eq!(store.call(&args)?.code, 7);
        fs::write(Path::new(&context).join("Dockerfile"), "FROM owned\nRUN [\"/nothing\"]\n")?;
        let output = store.call(&args)?;
        assert_eq!((output.code, output.stderr.matches("/nothing").count()), (127, 1), "{output}");
        store.ok(&["rmi", "built", "owned"])?;
        for folder in ["layers/sha256", "tmp", "build"] {
            assert_eq!(store.names(folder)?, [""; 0], "{folder}");
        }
    }
    assert!(seen[0].concat().iter().any(|line| line == "-rw-r--r-- 7/8 given/a"), "{:?}", seen[0]);
    assert_eq!(seen[0], seen[1], "root's layers and a user's");
    Ok(())
}

fn killed(host: &Host) -> Outcome {
    let user = host.as_user();
    let store = &Store::new(&user)?;
    let archive = archive(host)?;
    let args = store.args(&["import", "-", "killed"]);
    let mut child = store.host.cmd("sampan", args).input_pipe().spawn()?;
    child.stdin.as_mut().ok_or("no stdin")?.write_all(&archive[..archive.len() / 2])?;
    wait_until("a blob and a layer are under way", SOON, || {
        store.names("tmp").is_ok_and(|names| names.len() == 2)
    })?;
    sleep(Duration::from_millis(50));
    child.signal(Signal::SIGKILL)?;
    child.wait()?;
    assert_eq!((store.names("images/blobs/sha256")?, store.names("layers/sha256")?), (vec![], vec![]));
    // The process that did it dies with the command, and holds its lock to its own end.
    wait_until("all is swept", SOON, || {
        store.ok(&["image", "prune", "-f"]).is_ok() && store.names("tmp").is_ok_and(|names| names.is_empty())
    })?;
    Ok(())
}

fn beyond(host: &Host) -> Outcome {
    let user = host.as_user();
    let store = &Store::new(&user)?;
    let archive = [entry(EntryType::Regular, "far", 0o644, (70_000, 5), b"x"), vec![0; 1024]].concat();
    let output = store.host.cmd("sampan", store.args(&["import", "-", "far"])).input(archive).run()?;
    assert_eq!(output.code, 1, "{output}");
    for words in ["\"far\" belongs to user 70000 and group 5", "/etc/subuid", "cargo kit doctor"] {
        assert!(output.stderr.contains(words), "{output}");
    }
    for folder in ["images/blobs/sha256", "layers/sha256", "tmp"] {
        assert_eq!(store.names(folder)?, [""; 0], "{folder}");
    }
    Ok(())
}

fn alone(host: &Host) -> Outcome {
    let user = host.as_user();
    let store = &Store::new(&user)?;
    // This test's own.
    fs::write("/etc/subuid", "")?;
    let output =
        store.host.cmd("sampan", store.args(&["import", "-", "owned"])).input(archive(host)?).run()?;
    assert_eq!((output.code, output.stderr.matches("/etc/subuid").count()), (0, 1), "once: {output}");
    assert!(!store.ok(&["images"])?.is_empty());
    let stat = ["run", "--rm", "--network", "none", "owned", "stat", "-c", "%u:%g", "/home/app/note"];
    assert_eq!(store.ok(&stat)?, "0:0");
    // Of root's files alone there is nothing to tell.
    let output = store.call(&["import", &host.tar().to_string_lossy(), "busybox"])?;
    assert_eq!(output.success()?.stderr, "");
    store.ok(&["rmi", "owned", "busybox"])?;
    assert_eq!((store.names("layers/sha256")?, store.names("tmp")?), (vec![], vec![]));
    Ok(())
}
