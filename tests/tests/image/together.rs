//! Commands about images that meet each other, or an end: what is named is there, and what runs has its files.

use std::fs;
use std::thread::sleep;
use std::time::Instant;

use nix::sys::signal::Signal;
use tests::{Host, Need, Outcome, Test};

use super::fake::{Fake, Reply};
use super::hostile_layers::Tar;
use super::registries::Client;
use super::{Store, check};
use crate::peers::{Engine, IMAGE, Kind};

const STORE: &[Need] = &[Need::Rootfs, Need::Binary("sampan")];
const RUN: &[Need] = &[Need::Root, Need::Overlay, Need::Rootfs, Need::Binary("sampan")];
const PODMAN: &[Need] = &[Need::Root, Need::Rootfs, Need::Binary("sampan"), Need::Program("/usr/bin/podman")];
const DOCKER: &[Need] = &[
    Need::Root,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("/usr/bin/docker"),
    Need::Program("dockerd"),
];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("image::what_is_taken_into_use_is_not_removed", RUN, taken),
        test("image::killed_at_any_moment_the_store_is_whole", STORE, killed),
        test("image::several_images_share_one_archive", STORE, several),
        test("image::a_url_is_imported", STORE, url),
        test("image::whatever_the_umask_users_get_in", STORE, umask),
        test("image::podman_reads_what_is_saved_and_is_read", PODMAN, podman),
        test("image::docker_reads_what_is_saved_and_is_read", DOCKER, docker),
    ]
}

/// One makes a container of an image, and another removes the image at the same moment: one of the two comes too late.
fn taken(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let path = host.tar().to_string_lossy().into_owned();
    let start = Instant::now();
    store.ok(&["import", &path, "busybox"])?;
    store.ok(&["rmi", "busybox"])?;
    let step = start.elapsed() / 16;
    for round in 0..16_u32 {
        store.ok(&["import", &path, "busybox"])?;
        let prune = ["image", "prune", "-a", "-f"];
        let remove: &[&str] = if round % 2 == 0 { &["rmi", "busybox"] } else { &prune };
        let create = || {
            host.spawn(
                "sampan",
                store.args(&["create", "--pull", "never", "--name", "one", "busybox", "true"]),
            )
        };
        let remove = || host.spawn("sampan", store.args(remove));
        let (first, second) = match round % 4 < 2 {
            true => {
                let first = create()?;
                sleep(step * (round / 4));
                (first, remove()?)
            }
            false => {
                let second = remove()?;
                sleep(step * (round / 4));
                (create()?, second)
            }
        };
        let (created, _) = (first.wait()?, second.wait()?);
        store.ok(&["image", "prune", "-f"])?;
        if created.code == 0 {
            let output = store.call(&["start", "-a", "one"])?;
            assert_eq!(output.code, 0, "round {round}: its image is gone: {output}");
            store.ok(&["rm", "one"])?;
        } else {
            assert!(created.stderr.contains("no such image"), "round {round}: {created}");
        }
        store.ok(&["image", "prune", "-a", "-f"])?;
        for folder in ["images/blobs/sha256", "layers/sha256", "tmp"] {
            assert_eq!(store.names(folder)?, [""; 0], "round {round}: {folder}");
        }
    }
    Ok(())
}

/// Load, tag, rmi and prune, each at moments of its whole life.
fn killed(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let archive = host.new_dir()?.join("saved.tar").to_string_lossy().into_owned();
    store.import("busybox:v1")?;
    store.ok(&["save", "-o", &archive, "busybox:v1"])?;
    let load = ["load", "-q", "-i", &archive];
    let commands: [&[&str]; 4] =
        [&load, &["tag", "busybox:v1", "second"], &["rmi", "busybox:v1"], &["image", "prune", "-a", "-f"]];
    for command in commands {
        let prepare = || -> Outcome {
            if command[0] != "load" {
                store.ok(&load)?;
            }
            Ok(())
        };
        prepare()?;
        let start = Instant::now();
        store.ok(command)?;
        let life = start.elapsed();
        for moment in [1, 4, 7, 10] {
            prepare()?;
            let child = host.spawn("sampan", store.args(command))?;
            sleep(life * moment / 10);
            let _ = child.signal(Signal::SIGKILL);
            child.wait()?;
            check(host, &store).map_err(|error| format!("{command:?} killed at {moment}/10: {error}"))?;
            // Whatever is there works.
            for image in store.ok(&["images", "-q"])?.lines() {
                store.ok(&["save", "-o", &format!("{archive}.2"), image])?;
            }
        }
    }
    store.ok(&["image", "prune", "-a", "-f"])?;
    for folder in ["images/blobs/sha256", "layers/sha256", "tmp"] {
        assert_eq!(store.names(folder)?, [""; 0], "{folder}");
    }
    Ok(())
}

fn several(host: &Host) -> Outcome {
    let (store, other) = (Store::new(host)?, Store::new(host)?);
    let path = host.tar().to_string_lossy().into_owned();
    let one = store.ok(&["import", "-m", "one", &path, "one:v1"])?;
    let two = store.ok(&["import", "-m", "two", &path, "two:v1"])?;
    let third =
        host.cmd("sampan", store.args(&["import", "-", "three"])).input(Tar::new().file("a", "a").end());
    let third = third.run()?.success()?.stdout.trim().to_owned();
    let archive = host.new_dir()?.join("all.tar").to_string_lossy().into_owned();
    for format in ["docker-archive", "oci-archive"] {
        store.ok(&["save", "--format", format, "-o", &archive, "one:v1", "two:v1", "three", &one])?;
        let listed = host.command("tar", ["-tf", &archive])?.success()?.stdout;
        let blobs = listed.lines().filter(|line| line.len() == "blobs/sha256/".len() + 64).count();
        assert_eq!(blobs, 8, "two layers, three configs and three manifests, each once: {listed}");
        let told = other.ok(&["load", "-i", &archive])?;
        for name in ["one:v1", "two:v1", "three:latest"] {
            assert!(told.contains(&format!("Loaded image: {name}")), "{told}");
        }
        let mut ids = vec![one.clone(), two.clone(), third.clone()];
        ids.sort();
        let mut found: Vec<_> =
            other.ok(&["images", "-q", "--no-trunc"])?.lines().map(str::to_owned).collect();
        found.sort();
        found.dedup();
        assert_eq!(found, ids);
        assert_eq!(other.names("images/blobs/sha256")?, store.names("images/blobs/sha256")?);
        other.ok(&["image", "prune", "-a", "-f"])?;
    }
    Ok(())
}

fn url(host: &Host) -> Outcome {
    let client = Client::new(host)?;
    let archive = Tar::new().file("from/far", "far").end();
    let length = archive.len();
    let fake = Fake::start("127.0.0.1", move |request| match request.path.as_str() {
        "/there.tar" => Reply::new(200, archive.clone()),
        "/moved.tar" => Reply::new(302, "").header("location", "/there.tar"),
        "/cut.tar" => Reply { cut: Some(700), ..Reply::new(200, archive.clone()) },
        _ => Reply::new(404, "nothing here"),
    })?;
    for path in ["there", "moved"] {
        let url = format!("http://{}/{path}.tar", fake.address);
        let id = client.ok(&["import", "-c", "CMD [\"far\"]", &url, "far"])?;
        assert_eq!(
            client.ok(&["image", "inspect", "-f", "{{.Id}} {{.Size}} {{.Comment}}", "far"])?,
            format!("{id} {length} Imported from {url}")
        );
    }
    let before = client.store.names("images/blobs/sha256")?;
    for path in ["cut", "gone"] {
        let output = client.call(&["import", &format!("http://{}/{path}.tar", fake.address), "half"])?;
        assert!(output.code != 0 && !output.stderr.contains("panicked"), "{output}");
    }
    assert_eq!(client.store.names("images/blobs/sha256")?, before);
    assert_eq!(client.store.names("tmp")?, [""; 0]);
    Ok(())
}

/// An archive may leave folders out, and a careful administrator's umask is not the image's.
fn umask(host: &Host) -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;
    let store = Store::new(host)?;
    let folder = host.new_dir()?;
    fs::write(folder.join("a.tar"), Tar::new().file("usr/bin/tool", "x").file("etc/.wh.gone", "").end())?;
    let sampan = host.bin("sampan");
    let script = format!("umask 077; exec {} \"$@\"", sampan.display());
    let args = store.args(&["import", &folder.join("a.tar").to_string_lossy(), "plank"]);
    host.cmd("sh", ["-c".to_owned(), script, "sh".to_owned()].into_iter().chain(args)).run()?.success()?;
    let layer = store.root.join("layers/sha256").join(&store.names("layers/sha256")?[0]);
    for path in ["", "usr", "usr/bin", "usr/bin/tool", "etc"] {
        let mode = fs::metadata(layer.join(path))?.permissions().mode() & 0o7777;
        assert_eq!(mode, 0o755, "{path}");
    }
    Ok(())
}

fn podman(host: &Host) -> Outcome {
    there_and_back(host, Kind::Podman, &["docker-archive", "oci-archive"])
}

fn docker(host: &Host) -> Outcome {
    there_and_back(host, Kind::Docker, &[""])
}

/// Saved by us and loaded by the other, and the other way round: the image has one ID.
fn there_and_back(host: &Host, kind: Kind, formats: &[&str]) -> Outcome {
    let engine = Engine::new(host, kind)?;
    let (store, folder) = (Store::new(host)?, host.new_dir()?);
    let id = store.import("ours:v1")?;
    let bare = |id: &str| id.trim().trim_start_matches("sha256:").to_owned();
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    for format in ["docker-archive", "oci-archive"] {
        if kind == Kind::Docker && format == "oci-archive" {
            // This version of Docker reads none.
            continue;
        }
        store.ok(&["save", "--format", format, "-o", &path(format), "ours:v1"])?;
        engine.ok(&["load", "-i", &path(format)])?;
        let name = if kind == Kind::Docker { "ours:v1" } else { "docker.io/library/ours:v1" };
        let found = engine.ok(&["inspect", "--type", "image", "-f", "{{.Id}}", name])?;
        assert_eq!(bare(&found), bare(&id), "{format}");
        engine.ok(&["rmi", name])?;
    }
    let theirs = engine.ok(&["inspect", "--type", "image", "-f", "{{.Id}}", IMAGE])?;
    for format in formats {
        let (to, other) = (path(&format!("theirs-{format}")), Store::new(host)?);
        let options: &[&str] = if format.is_empty() { &[] } else { &["--format", format] };
        engine.ok(&[&["save"], options, &["-o", &to, IMAGE]].concat())?;
        let told = other.ok(&["load", "-i", &to])?;
        assert!(told.contains("localhost/sampan/test:latest"), "{told}");
        // For the other form Podman writes another config.
        if *format != "oci-archive" {
            assert_eq!(bare(&other.ok(&["images", "-q", "--no-trunc"])?), bare(&theirs), "{format}");
        }
        other.ok(&["run", "--rm", "--network", "none", IMAGE, "true"])?;
    }
    engine.end()
}
