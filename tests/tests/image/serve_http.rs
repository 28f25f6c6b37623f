//! `sampan registry serve` by its words: what no well-behaved client says.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test, wait_until};

use super::serve::Served;
use super::{Result, check};

const NEEDS: &[Need] = &[Need::Root, Need::Rootfs, Need::Binary("sampan")];
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("served::a_broken_push_goes_on_where_it_broke", NEEDS, resumed),
        test("served::what_is_not_as_announced_is_not_there", NEEDS, lies),
        test("served::killed_in_the_middle_of_a_push", NEEDS, killed),
        test("served::lists_come_in_pages", NEEDS, pages),
        test("served::an_index_keeps_its_manifests", NEEDS, index),
        test("served::the_page_shows_and_escapes", NEEDS, page),
        test("served::other_images_are_nobodys_business", NEEDS, private),
    ]
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let mut lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn expect(self, status: u16, code: &str) -> Result<Self> {
        let said = self.text();
        let errors: Value = serde_json::from_str(&said).unwrap_or_default();
        let found = errors["errors"][0]["code"].as_str().unwrap_or_default();
        if self.status == status && (code.is_empty() || found == code) {
            return Ok(self);
        }
        Err(format!("{status} {code} expected: {} {} {said}", self.status, self.headers).into())
    }
}

fn open(served: &Served<'_>, head: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(&served.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "{head}\r\nhost: 127.0.0.1:5000\r\nconnection: close\r\n")?;
    Ok(stream)
}

fn ask(served: &Served<'_>, request: &str, headers: &str, body: &[u8]) -> Result<Answer> {
    let mut stream = open(served, &format!("{request} HTTP/1.1"))?;
    write!(stream, "{headers}content-length: {}\r\n\r\n", body.len())?;
    // Who refuses early need not read to the end.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no answer")?;
    let headers = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = headers.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or("no status")?;
    Ok(Answer { status, headers, body: answer[end + 4..].to_vec() })
}

fn sum(host: &Host, bytes: &[u8]) -> Result<String> {
    let output = host.cmd("sha256sum", ["-"]).input(bytes).run()?.success()?;
    Ok(format!("sha256:{}", output.stdout.split(' ').next().unwrap_or_default()))
}

/// Gives a blob at once.
fn put(served: &Served<'_>, bytes: &[u8]) -> Result<Value> {
    let digest = sum(served.store.host, bytes)?;
    ask(served, &format!("POST /v2/a/b/blobs/uploads/?digest={}", digest.replace(':', "%3A")), "", bytes)?
        .expect(201, "")?;
    Ok(json!({ "mediaType": "application/octet-stream", "digest": digest, "size": bytes.len() }))
}

/// An image with this config and one layer, under a tag or by its digest.
fn image(served: &Served<'_>, config: &Value, tag: Option<&str>) -> Result<Value> {
    let config = put(served, config.to_string().as_bytes())?;
    let layer = put(served, b"what a layer would be")?;
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] }).to_string();
    let digest = sum(served.store.host, manifest.as_bytes())?;
    let request = format!("PUT /v2/a/b/manifests/{}", tag.unwrap_or(&digest));
    let answer = ask(served, &request, &format!("content-type: {MANIFEST}\r\n"), manifest.as_bytes())?
        .expect(201, "")?;
    assert_eq!(answer.header("docker-content-digest"), digest);
    Ok(json!({ "mediaType": MANIFEST, "digest": digest, "size": manifest.len() }))
}

fn config(architecture: &str) -> Value {
    let diff_id = format!("sha256:{}", "0".repeat(64));
    json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    })
}

fn resumed(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    let blob: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = sum(host, &blob)?;
    let begun = ask(&served, "POST /v2/a/b/blobs/uploads/", "", b"")?.expect(202, "")?;
    let place = begun.header("location").to_owned();
    let (first, rest) = blob.split_at(400_000);
    let answer =
        ask(&served, &format!("PATCH {place}"), "content-range: 0-399999\r\n", first)?.expect(202, "")?;
    assert_eq!(answer.header("range"), "0-399999");
    // The line breaks in the middle of the next piece: what came stays.
    let mut stream = open(&served, &format!("PATCH {place} HTTP/1.1"))?;
    write!(stream, "content-length: {}\r\n\r\n", rest.len())?;
    stream.write_all(&rest[..100_000])?;
    stream.shutdown(Shutdown::Both)?;
    drop(stream);
    let mut here = String::new();
    wait_until("the rest is known", Duration::from_secs(60), || {
        let state = ask(&served, &format!("GET {place}"), "", b"").and_then(|answer| answer.expect(204, ""));
        here = state.map_or_else(|_| String::new(), |answer| answer.header("range").to_owned());
        here == "0-499999"
    })?;
    // Not there, where it does not begin.
    let wrong = ask(&served, &format!("PATCH {place}"), "content-range: 400000-400001\r\n", b"xy")?;
    assert_eq!(wrong.expect(416, "BLOB_UPLOAD_INVALID")?.header("range"), "0-499999");
    assert_eq!(served.store.names("images/blobs/sha256")?, [""; 0]);
    ask(
        &served,
        &format!("PUT {place}?digest={digest}"),
        "content-range: 500000-1199999\r\n",
        &blob[500_000..],
    )?
    .expect(201, "")?;
    let head = ask(&served, &format!("HEAD /v2/a/b/blobs/{digest}"), "range: bytes=0-3\r\n", b"")?
        .expect(200, "")?;
    assert_eq!((head.header("content-length"), head.body.len()), ("1200000", 0));
    let path = format!("GET /v2/a/b/blobs/{digest}");
    assert!(ask(&served, &path, "", b"")?.expect(200, "")?.body == blob);
    let part = ask(&served, &path, "range: bytes=1199990-\r\n", b"")?.expect(206, "")?;
    assert_eq!(
        (&part.body[..], part.header("content-range")),
        (&blob[1_199_990..], "bytes 1199990-1199999/1200000")
    );
    ask(&served, &path, "range: bytes=1200000-\r\n", b"")?.expect(416, "")?;
    ask(&served, &format!("GET {place}"), "", b"")?.expect(404, "BLOB_UPLOAD_UNKNOWN")?;
    // One that nobody wants any more.
    let begun = ask(&served, "POST /v2/a/b/blobs/uploads/", "", b"")?.expect(202, "")?;
    let place = begun.header("location");
    ask(&served, &format!("PATCH {place}"), "", b"plank")?.expect(202, "")?;
    ask(&served, &format!("DELETE {place}"), "", b"")?.expect(204, "")?;
    ask(&served, &format!("DELETE {place}"), "", b"")?.expect(404, "BLOB_UPLOAD_UNKNOWN")?;
    assert_eq!(served.store.names("tmp")?, [""; 0]);
    served.stop()
}

fn lies(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    let digest = sum(host, b"plank")?;
    let begin = "POST /v2/a/b/blobs/uploads/";
    ask(&served, &format!("{begin}?digest={digest}"), "", b"blank")?.expect(400, "DIGEST_INVALID")?;
    let place = ask(&served, begin, "", b"")?.expect(202, "")?.header("location").to_owned();
    ask(&served, &format!("PUT {place}?digest={digest}"), "", b"blank")?.expect(400, "DIGEST_INVALID")?;
    ask(&served, &format!("HEAD /v2/a/b/blobs/{digest}"), "", b"")?.expect(404, "")?;
    assert_eq!((served.store.names("images/blobs/sha256")?, served.store.names("tmp")?), (vec![], vec![]));
    let put_manifest = |reference: &str, kind: &str, text: &str| {
        let request = format!("PUT /v2/a/b/manifests/{reference}");
        ask(&served, &request, &format!("content-type: {kind}\r\n"), text.as_bytes())
    };
    let nothing = json!({ "mediaType": "x/y", "digest": digest, "size": 5 });
    let manifest = |part: &Value| json!({ "schemaVersion": 2, "config": part, "layers": [] }).to_string();
    put_manifest("v1", MANIFEST, &manifest(&nothing))?.expect(404, "MANIFEST_BLOB_UNKNOWN")?;
    put(&served, b"plank")?;
    let mut long = nothing.clone();
    long["size"] = json!(6);
    put_manifest("v1", MANIFEST, &manifest(&long))?.expect(400, "MANIFEST_INVALID")?;
    put_manifest(&digest, MANIFEST, &manifest(&nothing))?.expect(400, "DIGEST_INVALID")?;
    put_manifest("v1", INDEX, &manifest(&nothing))?.expect(400, "MANIFEST_INVALID")?;
    put_manifest("v1", "text/html", &manifest(&nothing))?.expect(400, "MANIFEST_INVALID")?;
    put_manifest("v1", MANIFEST, "{")?.expect(400, "MANIFEST_INVALID")?;
    put_manifest("v1", MANIFEST, &" ".repeat((4 << 20) + 1))?.expect(413, "SIZE_INVALID")?;
    for name in ["A/b", "a/../b", "a/b/manifests/v1/..", "%3Cscript%3E", "a//b"] {
        let answer = ask(&served, &format!("POST /v2/{name}/blobs/uploads/"), "", b"")?;
        assert!(matches!(answer.status, 400 | 404), "{name}: {}", answer.headers);
    }
    put_manifest("%3Cb%3E", MANIFEST, &manifest(&nothing))?.expect(400, "NAME_INVALID")?;
    for id in ["x", "../../oci-layout", "%2e%2e%2foci-layout", &"a".repeat(24)] {
        ask(&served, &format!("GET /v2/a/b/blobs/uploads/{id}"), "", b"")?.expect(404, "")?;
    }
    assert_eq!(served.store.ok(&["images", "-q"])?, "");
    ask(&served, "GET /v2/a/b/tags/list", "", b"")?.expect(404, "NAME_UNKNOWN")?;
    served.stop()
}

fn killed(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    let blob = fs::read(host.tar())?;
    let place =
        ask(&served, "POST /v2/a/b/blobs/uploads/", "", b"")?.expect(202, "")?.header("location").to_owned();
    let half = blob.len() / 2;
    let mut stream = open(&served, &format!("PATCH {place} HTTP/1.1"))?;
    write!(stream, "content-length: {}\r\n\r\n", blob.len())?;
    stream.write_all(&blob[..half])?;
    let file = served.store.root.join("tmp").join(&served.store.names("tmp")?[0]);
    let here = || fs::metadata(&file).map_or(0, |about| about.len());
    wait_until("half of it is here", Duration::from_secs(60), || here() == half as u64)?;
    // While somebody pushes, nobody sweeps.
    served.store.ok(&["image", "prune", "-f"])?;
    assert_eq!(here(), half as u64);
    let Served { store, child, address } = served;
    child.signal(Signal::SIGKILL)?;
    child.wait()?;
    check(host, &store)?;
    assert_eq!((store.names("images/blobs/sha256")?, store.ok(&["images", "-q"])?), (vec![], String::new()));
    // Another server goes on with it.
    let served = Served::over(store, &address, &[])?;
    let state = ask(&served, &format!("GET {place}"), "", b"")?.expect(204, "")?;
    assert_eq!(state.header("range"), format!("0-{}", half - 1));
    let digest = sum(host, &blob)?;
    ask(&served, &format!("PUT {place}?digest={digest}"), "", &blob[half..])?.expect(201, "")?;
    check(host, &served.store)?;
    let Served { store, child, .. } = served;
    child.signal(Signal::SIGKILL)?;
    child.wait()?;
    // What no manifest came for is swept.
    store.ok(&["image", "prune", "-f"])?;
    assert_eq!((store.names("images/blobs/sha256")?, store.names("tmp")?), (vec![], vec![]));
    Ok(())
}

fn pages(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    for tag in ["v1", "v3", "v2", "latest"] {
        image(&served, &config("amd64"), Some(tag))?;
    }
    let list = |path: &str| -> Result<(Value, String)> {
        let answer = ask(&served, &format!("GET {path}"), "", b"")?.expect(200, "")?;
        Ok((serde_json::from_slice(&answer.body)?, answer.header("link").to_owned()))
    };
    let (tags, link) = list("/v2/a/b/tags/list")?;
    assert_eq!((tags, link.as_str()), (json!({ "name": "a/b", "tags": ["latest", "v1", "v2", "v3"] }), ""));
    let (tags, link) = list("/v2/a/b/tags/list?n=3")?;
    assert_eq!(tags["tags"], json!(["latest", "v1", "v2"]));
    assert_eq!(link, "</v2/a/b/tags/list?n=3&last=v2>; rel=\"next\"");
    assert_eq!(
        list("/v2/a/b/tags/list?n=3&last=v2")?,
        (json!({ "name": "a/b", "tags": ["v3"] }), String::new())
    );
    assert_eq!(list("/v2/_catalog?n=1")?.0, json!({ "repositories": ["a/b"] }));
    ask(&served, "GET /v2/_catalog?n=x", "", b"")?.expect(400, "")?;
    // A tag goes, and the image stays under the others; by its digest all go.
    ask(&served, "DELETE /v2/a/b/manifests/v1", "", b"")?.expect(202, "")?;
    ask(&served, "DELETE /v2/a/b/manifests/v1", "", b"")?.expect(404, "MANIFEST_UNKNOWN")?;
    let found = ask(&served, "HEAD /v2/a/b/manifests/v2", "", b"")?.expect(200, "")?;
    let digest = found.header("docker-content-digest").to_owned();
    ask(&served, &format!("DELETE /v2/a/b/manifests/{digest}"), "", b"")?.expect(202, "")?;
    assert_eq!(list("/v2/_catalog")?.0, json!({ "repositories": [] }));
    ask(&served, "DELETE /v2/a/b/blobs/x", "", b"")?.expect(400, "DIGEST_INVALID")?;
    served.stop()
}

fn index(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    let mut parts = Vec::new();
    for architecture in ["amd64", "s390x"] {
        let mut part = image(&served, &config(architecture), None)?;
        part["platform"] = json!({ "os": "linux", "architecture": architecture });
        parts.push(part);
    }
    let text = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": parts }).to_string();
    let put_index = |text: &str| {
        ask(&served, "PUT /v2/a/b/manifests/both", &format!("content-type: {INDEX}\r\n"), text.as_bytes())
    };
    let missing =
        text.replace(parts[1]["digest"].as_str().unwrap_or_default(), &format!("sha256:{}", "0".repeat(64)));
    put_index(&missing)?.expect(404, "MANIFEST_BLOB_UNKNOWN")?;
    put_index(&text)?.expect(201, "")?;
    let within = text.replacen(MANIFEST, INDEX, 1);
    put_index(&within)?.expect(400, "MANIFEST_INVALID")?;
    // One name in the store, and everything that it leads to stays.
    let whole: Value = serde_json::from_slice(&fs::read(served.store.root.join("images/index.json"))?)?;
    assert_eq!(whole["manifests"].as_array().map(Vec::len), Some(1));
    let Served { store, child, address } = served;
    child.signal(Signal::SIGKILL)?;
    child.wait()?;
    store.ok(&["image", "prune", "-f"])?;
    let served = Served::over(store, &address, &[])?;
    for part in &parts {
        let digest = part["digest"].as_str().unwrap_or_default();
        let answer = ask(&served, &format!("GET /v2/a/b/manifests/{digest}"), "", b"")?.expect(200, "")?;
        assert_eq!(answer.header("content-type"), MANIFEST);
        let manifest: Value = serde_json::from_slice(&answer.body)?;
        let config = manifest["config"]["digest"].as_str().unwrap_or_default();
        ask(&served, &format!("GET /v2/a/b/blobs/{config}"), "", b"")?.expect(200, "")?;
    }
    served.stop()
}

fn page(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    served.store.import("localhost:5000/class/busybox:v1")?;
    let mut hostile = config("<script>alert(1)</script>");
    hostile["history"] = json!([{ "created_by": "RUN <img src=x onerror=alert(2)>" }]);
    image(&served, &hostile, Some("evil"))?;
    let answer = ask(&served, "GET /", "", b"")?.expect(200, "")?;
    let page = answer.text();
    let size = fs::metadata(host.tar())?.len();
    let shown = format!("1 layer, {}.{} MB", (size + 50_000) / 1_000_000, (size + 50_000) / 100_000 % 10);
    for word in ["class/busybox", "v1", &shown, "evil", "&lt;script&gt;", "RUN &lt;img", "127.0.0.1:5000"] {
        assert!(page.contains(word), "{word}: {page}");
    }
    for word in ["<script", "<img", "javascript:"] {
        assert!(!page.contains(word), "{word}: {page}");
    }
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
    served.stop()
}

fn private(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    served.store.import("busybox")?;
    for blob in served.store.names("images/blobs/sha256")? {
        ask(&served, &format!("GET /v2/busybox/blobs/sha256:{blob}"), "", b"")?
            .expect(404, "BLOB_UNKNOWN")?;
        ask(&served, &format!("GET /v2/busybox/manifests/sha256:{blob}"), "", b"")?
            .expect(404, "NAME_UNKNOWN")?;
        let mount = format!("POST /v2/x/blobs/uploads/?mount=sha256:{blob}&from=busybox");
        ask(&served, &mount, "", b"")?.expect(202, "")?;
    }
    ask(&served, "GET /v2/library/busybox/tags/list", "", b"")?.expect(404, "NAME_UNKNOWN")?;
    // A push under its name changes it in the registry, and not in the store.
    let before = served.store.ok(&["images", "-q", "busybox"])?;
    image(&served, &config("amd64"), Some("latest"))?;
    assert_eq!(served.store.ok(&["images", "-q", "busybox"])?, before);
    ask(&served, "GET /nothing", "", b"")?.expect(404, "UNSUPPORTED")?;
    served.stop()
}
