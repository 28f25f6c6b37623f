//! A registry that behaves as the test says: tokens, redirects, broken lines, and lies.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test};

use super::fake::{Fake, Reply, Request};
use super::registries::Client;
use super::{Result, Store};

pub(super) const FAKE: &[Need] = &[Need::Root, Need::Rootfs, Need::Binary("sampan")];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("registry::a_token_is_fetched_once_and_renewed", FAKE, token),
        test("registry::a_secret_is_for_its_host_alone", FAKE, secret),
        test("registry::a_broken_line_goes_on_where_it_broke", FAKE, resume),
        test("registry::a_mirror_that_fails_is_passed_over", FAKE, mirror),
        test("registry::a_limit_is_explained", FAKE, limited),
        test("registry::what_is_not_as_announced_changes_nothing", FAKE, lies),
        test("registry::the_manifest_for_the_platform_is_taken", FAKE, platform),
    ]
}

/// An image as a registry has it: what lies under which path.
#[derive(Clone)]
pub(super) struct Shelf {
    pub(super) files: BTreeMap<String, (Vec<u8>, String)>,
    pub(super) layer: String,
}

impl Shelf {
    /// The blobs of an imported image, in the repository `a/b`, with the tag `v1`.
    pub(super) fn new(host: &Host) -> Result<Self> {
        let store = Store::new(host)?;
        store.import("busybox")?;
        Self::of(&store)
    }

    /// The same of the one image that a store has.
    pub(super) fn of(store: &Store<'_>) -> Result<Self> {
        let blob = |digest: &str| {
            fs::read(store.root.join("images/blobs/sha256").join(digest.trim_start_matches("sha256:")))
        };
        let index: Value = serde_json::from_slice(&fs::read(store.root.join("images/index.json"))?)?;
        let name = |value: &Value| value["digest"].as_str().unwrap_or_default().to_owned();
        let digest = name(&index["manifests"][0]);
        let manifest: Value = serde_json::from_slice(&blob(&digest)?)?;
        let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
        let layer = name(&manifest["layers"][0]);
        let mut files = BTreeMap::new();
        for path in [format!("/v2/a/b/manifests/{digest}"), "/v2/a/b/manifests/v1".to_owned()] {
            files.insert(path, (blob(&digest)?, media_type.clone()));
        }
        for digest in [&layer, &name(&manifest["config"])] {
            files.insert(
                format!("/v2/a/b/blobs/{digest}"),
                (blob(digest)?, "application/octet-stream".to_owned()),
            );
        }
        Ok(Self { files, layer: format!("/v2/a/b/blobs/{layer}") })
    }

    pub(super) fn answer(&self, request: &Request) -> Reply {
        match self.files.get(&request.path) {
            Some((bytes, media_type)) => Reply::new(200, bytes.clone()).header("content-type", media_type),
            None if request.path == "/v2/" => Reply::new(200, ""),
            None => Reply::new(404, r#"{"errors":[{"code":"X","message":"nothing there"}]}"#),
        }
    }
}

fn token(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let given = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&given);
    let fake = Fake::start("127.0.0.1", move |request| {
        if request.path.starts_with("/token") {
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::new(200, format!(r#"{{"token":"t{number}","expires_in":60}}"#));
        }
        let asked = request.path.contains("/blobs/") && request.header("authorization") == Some("Bearer t1");
        let good = matches!(request.header("authorization"), Some("Bearer t1" | "Bearer t2")) && !asked;
        if good {
            return shelf.answer(request);
        }
        let host = request.header("host").unwrap_or_default();
        let challenge =
            format!(r#"Bearer realm="http://{host}/token",service="class",scope="repository:a/b:pull""#);
        Reply::new(401, "").header("www-authenticate", challenge)
    })?;
    let client = Client::new(host)?;
    client.ok(&["pull", &format!("{}/a/b:v1", fake.address)])?;
    // One for the manifest; that one is worth nothing any more when the blobs are asked for.
    assert_eq!(given.load(Ordering::SeqCst), 2);
    let asked = &fake.asked("GET", "/token")[0];
    assert!(
        asked.path.contains("service=class") && asked.path.contains("scope=repository%3Aa%2Fb%3Apull"),
        "{asked:?}"
    );
    Ok(())
}

fn secret(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let elsewhere = {
        let shelf = shelf.clone();
        Fake::start("127.0.0.2", move |request| shelf.answer(request))?
    };
    let there = elsewhere.address.clone();
    let fake = Fake::start("127.0.0.1", move |request| match request.header("authorization") {
        None => Reply::new(401, "").header("www-authenticate", "Basic realm=class"),
        Some(_) if request.path.contains("/blobs/") => {
            Reply::new(307, "").header("location", format!("http://{there}{}", request.path))
        }
        Some(_) => shelf.answer(request),
    })?;
    let client = Client::new(host)?;
    client.input(&["login", "-u", "me", "--password-stdin", &fake.address], "secret")?.success()?;
    client.ok(&["pull", &format!("{}/a/b:v1", fake.address)])?;
    let asked = elsewhere.asked("GET", "/v2/a/b/blobs/");
    assert!(asked.len() >= 2, "{asked:?}");
    assert!(asked.iter().all(|request| request.header("authorization").is_none()), "{asked:?}");
    Ok(())
}

fn resume(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let layer = shelf.layer.clone();
    let times = AtomicUsize::new(0);
    let fake = Fake::start("127.0.0.1", move |request| {
        let mut reply = shelf.answer(request);
        if request.path != shelf.layer || request.method != "GET" {
            return reply;
        }
        let third = reply.body.len() / 3;
        let from = request
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match (times.fetch_add(1, Ordering::SeqCst), from) {
            (0, None) => reply.cut = Some(third),
            (1, Some(from)) => {
                let total = reply.body.len();
                reply = Reply::new(206, reply.body.split_off(from));
                reply = reply.header("content-range", format!("bytes {from}-{}/{total}", total - 1));
                reply.cut = Some(third);
            }
            // A server that cannot skip sends all of it again.
            (2, Some(_)) => {}
            other => return Reply::new(500, format!("{other:?}")),
        }
        reply
    })?;
    let client = Client::new(host)?;
    client.ok(&["pull", &format!("{}/a/b:v1", fake.address)])?;
    assert_eq!(fake.asked("GET", &layer).len(), 3);
    super::check(host, &client.store)
}

fn mirror(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let spoilt = shelf.clone();
    let fake = Fake::start("127.0.0.1", move |request| shelf.answer(request))?;
    let bad = Fake::start("127.0.0.1", |_| Reply::new(404, ""))?;
    // One that has the manifest, and of the layer other bytes.
    let half = Fake::start("127.0.0.1", move |request| {
        let mut reply = spoilt.answer(request);
        if request.path == spoilt.layer {
            reply.body.reverse();
        }
        reply
    })?;
    let client = Client::new(host)?;
    let mirrors = [&bad, &half, &fake].map(|mirror| format!("http://{}", mirror.address));
    client.settings(&format!("[mirrors]\n\"far.invalid:1\" = {mirrors:?}"))?;
    let said = client.ok(&["pull", "far.invalid:1/a/b:v1"])?;
    for mirror in &mirrors[..2] {
        assert!(said.contains(&format!("the mirror {mirror} is passed over")), "{said}");
    }
    assert!(client.ok(&["images"])?.contains("far.invalid:1/a/b"));
    Ok(())
}

fn limited(host: &Host) -> Outcome {
    let fake = Fake::start("127.0.0.1", |_| {
        Reply::new(429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#)
            .header("ratelimit-limit", "100;w=21600")
            .header("retry-after", "900")
    })?;
    let client = Client::new(host)?;
    client.refused(&["pull", &format!("{}/a/b:v1", fake.address)], &["100 in 6 hours", "sampan login"])?;
    // It was asked to wait for longer than anybody would.
    assert_eq!(fake.asked("GET", "/v2/a/b/").len(), 1);
    Ok(())
}

/// Each way in which a registry can lie about one layer, manifest or redirect.
fn lies(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let layer = shelf.layer.clone();
    type Lie = fn(&Request, Reply) -> Reply;
    let cases: [(&str, bool, Lie); 6] = [
        ("digest", true, |_, mut reply| {
            let middle = reply.body.len() / 2;
            reply.body[middle] ^= 1;
            reply
        }),
        ("longer than", true, |_, mut reply| {
            reply.body.extend([0; 4096]);
            reply
        }),
        ("blob", true, |_, _| Reply::new(404, "")),
        ("redirects", true, |request, _| Reply::new(302, "").header("location", request.path.clone())),
        ("digest", false, |_, reply| {
            reply.header("docker-content-digest", format!("sha256:{}", "0".repeat(64)))
        }),
        ("manifest", false, |_, reply| Reply::new(200, reply.body[..reply.body.len() / 2].to_vec())),
    ];
    let client = Client::new(host)?;
    client.store.import("kept")?;
    client.ok(&["rmi", "kept"])?;
    let before =
        (client.store.names("images/blobs/sha256")?, fs::read(client.store.root.join("images/index.json"))?);
    for (words, of_layer, lie) in cases {
        let (shelf, layer) = (shelf.clone(), layer.clone());
        let fake = Fake::start("127.0.0.1", move |request| {
            let reply = shelf.answer(request);
            let meant = if of_layer { request.path == layer } else { request.path.contains("/manifests/") };
            if meant { lie(request, reply) } else { reply }
        })?;
        client.refused(&["pull", &format!("{}/a/b:v1", fake.address)], &[words])?;
        assert_eq!(fs::read(client.store.root.join("images/index.json"))?, before.1, "{words}");
        assert_eq!(client.store.names("layers/sha256")?, [""; 0], "{words}");
        super::check(host, &client.store)?;
    }
    client.ok(&["image", "prune", "-f"])?;
    assert_eq!(client.store.names("images/blobs/sha256")?, before.0, "what was half done is swept");
    Ok(())
}

fn platform(host: &Host) -> Outcome {
    let mut shelf = Shelf::new(host)?;
    let (path, _) =
        shelf.files.iter().find(|(path, _)| path.contains("manifests/sha256")).ok_or("no manifest")?;
    let digest = path.rsplit('/').next().unwrap_or_default().to_owned();
    let size = shelf.files[path].0.len();
    let entry = |architecture: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index =
        json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry("s390x"), entry("riscv64")]});
    shelf
        .files
        .insert("/v2/a/b/manifests/v1".to_owned(), (index.to_string().into_bytes(), media_type.to_owned()));
    let fake = Fake::start("127.0.0.1", move |request| shelf.answer(request))?;
    let client = Client::new(host)?;
    let name = format!("{}/a/b:v1", fake.address);
    client.refused(&["pull", &name], &["has no image for linux/", "linux/riscv64, linux/s390x"])?;
    client.ok(&["pull", "--platform", "linux/s390x", &name])?;
    assert!(client.ok(&["images", "-q"])?.len() == 12);
    Ok(())
}
