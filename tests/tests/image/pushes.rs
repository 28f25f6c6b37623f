//! What else a push does: pieces, and what goes wrong on the way.

use std::fs::{self, File};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tests::{Host, Outcome, Test};

use super::Result;
use super::answers::FAKE;
use super::fake::{Fake, Reply, Request};
use super::registries::{Client, REGISTRY, digest, registry};

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("registry::an_upload_goes_on_where_it_broke", FAKE, broken),
        test("registry::an_upload_that_is_lost_begins_anew", FAKE, lost),
        test("registry::what_is_not_there_cannot_be_pushed", FAKE, incomplete),
        test("registry::dockers_manifests_stay_byte_for_byte", REGISTRY, schema2),
    ]
}

/// An image with a layer of more than one piece, which nobody has to compress.
fn large(host: &Host, client: &Client<'_>, name: &str) -> Outcome {
    let folder = host.new_dir()?;
    File::create(folder.join("zeros"))?.set_len(40 << 20)?;
    let (tar, files) = (folder.join("large.tar"), folder.to_string_lossy().into_owned());
    host.command("tar", ["-C", &files, "-cf", &tar.to_string_lossy(), "zeros"])?.success()?;
    client.ok(&["import", &tar.to_string_lossy(), name])?;
    Ok(())
}

/// A registry that takes everything, and of pieces what `piece` says of the number of the PATCH.
fn registry_that(piece: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Result<Fake> {
    let patches = AtomicUsize::new(0);
    Fake::start("127.0.0.1", move |request| match (request.method.as_str(), request.path.as_str()) {
        ("HEAD", _) => Reply::new(404, ""),
        ("POST", _) => Reply::new(202, "").header("location", "/upload/new?state=1"),
        ("PATCH", _) => piece(patches.fetch_add(1, Ordering::SeqCst) + 1, request),
        ("GET", path) if path.starts_with("/upload/") => piece(0, request),
        _ => Reply::new(201, ""),
    })
}

fn ranges(fake: &Fake) -> Vec<String> {
    let range = |request: &Request| request.header("content-range").unwrap_or_default().to_owned();
    fake.asked("PATCH", "/upload/").iter().map(range).collect()
}

fn broken(host: &Host) -> Outcome {
    let fake = registry_that(|number, _| match number {
        // The line breaks, and a part of the piece has arrived.
        1 => Reply::default(),
        0 => Reply::new(204, "").header("location", "/upload/on").header("range", "0-999999"),
        _ => Reply::new(202, "").header("location", "/upload/on?x=y"),
    })?;
    let client = Client::new(host)?;
    let name = format!("{}/large:v1", fake.address);
    large(host, &client, &name)?;
    let said = client.ok(&["push", &name])?;
    assert!(said.contains(": Pushed"), "{said}");
    let ranges = ranges(&fake);
    let piece = 32 << 20;
    assert_eq!(ranges[..2], [format!("0-{}", piece - 1), format!("1000000-{}", 1_000_000 + piece - 1)]);
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    let last = fake.asked("PUT", "/upload/on?x=y&digest=sha256%3A");
    assert_eq!(last.len(), 1, "{last:?}");
    Ok(())
}

fn lost(host: &Host) -> Outcome {
    let fake = registry_that(|number, _| match number {
        0 => Reply::new(404, ""),
        2 => Reply::new(404, r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"?"}]}"#),
        _ => Reply::new(202, "").header("location", "/upload/on"),
    })?;
    let client = Client::new(host)?;
    let name = format!("{}/large:v1", fake.address);
    large(host, &client, &name)?;
    client.ok(&["push", &name])?;
    let ranges = ranges(&fake);
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert_eq!(ranges[0], ranges[2], "all of it once more");
    Ok(())
}

fn incomplete(host: &Host) -> Outcome {
    let fake = registry_that(|_, _| Reply::new(202, "").header("location", "/upload/on"))?;
    let client = Client::new(host)?;
    let name = format!("{}/a:v1", fake.address);
    client.store.import(&name)?;
    let blobs = client.store.root.join("images/blobs/sha256");
    let mut files: Vec<_> = fs::read_dir(&blobs)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort_by_key(|path| fs::metadata(path).map(|found| found.len()).unwrap_or(0));
    let layer = files.last().ok_or("no layer")?;
    let words = layer.to_string_lossy().into_owned();
    File::options().write(true).open(layer)?.set_len(7)?;
    client.refused(&["push", &name], &[&words, "it has 7 bytes"])?;
    fs::remove_file(layer)?;
    client.refused(&["push", &name], &[&words, "pull or load the image again"])?;
    assert_eq!(fake.asked("PUT", "/v2/a/manifests/").len(), 0, "what is not whole is not named");
    Ok(())
}

fn schema2(host: &Host) -> Outcome {
    let _registry = registry(host, "127.0.0.1:5000", &json!({}))?;
    let client = Client::new(host)?;
    client.store.import("busybox")?;
    let from = format!("{}:docker.io/library/busybox:latest", client.store.layout());
    let to = "docker://127.0.0.1:5000/docker:v1";
    host.command("skopeo", ["copy", "--format=v2s2", "--dest-tls-verify=false", &from, to])?.success()?;
    let theirs = digest(host, "127.0.0.1:5000/docker:v1")?;
    client.ok(&["pull", "127.0.0.1:5000/docker:v1"])?;
    client.ok(&["tag", "127.0.0.1:5000/docker:v1", "127.0.0.1:5000/again:v1"])?;
    client.ok(&["push", "127.0.0.1:5000/again:v1"])?;
    assert_eq!(digest(host, "127.0.0.1:5000/again:v1")?, theirs);
    let raw = host
        .command("skopeo", ["inspect", "--raw", "--tls-verify=false", "docker://127.0.0.1:5000/again:v1"])?;
    let manifest = raw.success()?.json()?;
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    client.ok(&["run", "--rm", "--network", "none", "127.0.0.1:5000/again:v1", "true"])?;
    Ok(())
}
