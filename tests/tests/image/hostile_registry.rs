//! Registries that lie where the other tests do not: configs, indexes, what is known already; bodies without end; other hosts.

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test};

use super::Result;
use super::fake::{Fake, Reply, Request};
use super::hostile::{INDEX, MANIFEST, Pieces, Scene, architecture, digest};
use super::hostile_layers::Tar;

const FAKE: &[Need] = &[Need::Root, Need::Rootfs, Need::Binary("sampan")];
const LONG: &[Need] = &[Need::Root, Need::Rootfs, Need::Binary("sampan"), Need::Patience];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("hostile::a_registry_whose_documents_lie_is_refused", FAKE, lies),
        test("hostile::an_index_that_contains_itself_is_refused", FAKE, itself),
        test("hostile::what_is_known_already_is_compared", FAKE, known),
        test("hostile::bodies_without_end_are_not_read", FAKE, endless),
        test("hostile::a_body_that_stops_is_given_up", LONG, stalled),
        test("hostile::another_host_that_asks_for_the_password_gets_none", FAKE, asked),
    ]
}

type Change = Box<dyn Fn(&Request, Reply) -> Reply + Send + Sync>;

/// Serves the pieces under `a/b:v1`; `top` is what the tag leads to.
fn serve(pieces: &Pieces, top: &Value, change: Change) -> Result<Fake> {
    let (pieces, top) = (pieces.clone(), top.clone());
    Fake::start("127.0.0.1", move |request| {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let name = if name == "v1" { top["digest"].as_str().unwrap_or_default() } else { name };
        let is_manifest = request.path.contains("/manifests/");
        let reply = match pieces.blobs.get(name) {
            Some(bytes) if is_manifest => {
                let index = String::from_utf8_lossy(bytes).contains("\"manifests\"");
                Reply::new(200, bytes.clone()).header("content-type", if index { INDEX } else { MANIFEST })
            }
            Some(bytes) => Reply::new(200, bytes.clone()),
            None if request.path == "/v2/" => Reply::new(200, ""),
            None => Reply::new(404, ""),
        };
        change(request, reply)
    })
}

fn honest() -> Change {
    Box::new(|_, reply| reply)
}

fn pull(scene: &Scene<'_>, what: &str, fake: &Fake, words: &[&str]) -> Outcome {
    let output = scene.client.call(&["pull", &format!("{}/a/b:v1", fake.address)])?;
    scene.refused(what, &output, words)
}

type Lie = fn(&mut Pieces, &Host) -> Outcome;
/// What is wrong, what the error says, and how it is made.
const LIES: [(&str, &str, Lie); 11] = [
    ("other bytes of a config", "the config has the digest", |pieces, _| {
        let config = pieces.manifest["config"].clone();
        *pieces.named(&config).last_mut().ok_or("empty")? = b' ';
        Ok(())
    }),
    ("a config that is longer", "longer than the 20 bytes", |pieces, host| {
        pieces.manifest["config"]["size"] = json!(20);
        pieces.name_manifest(host)
    }),
    ("a config of a terabyte", "a config of", |pieces, host| {
        pieces.manifest["config"]["size"] = json!(1_u64 << 40);
        pieces.name_manifest(host)
    }),
    ("other DiffIDs", "is expected", |pieces, host| {
        pieces.config["rootfs"]["diff_ids"][0] = json!(format!("sha256:{}", "1".repeat(64)));
        pieces.put_together(host)
    }),
    ("too many DiffIDs", "diff_ids", |pieces, host| {
        pieces.config["rootfs"]["diff_ids"] = json!([pieces.config["rootfs"]["diff_ids"][0], "x"]);
        pieces.put_together(host)
    }),
    ("one layer with two DiffIDs", "both", |pieces, host| {
        let id = pieces.config["rootfs"]["diff_ids"][0].clone();
        pieces.config["rootfs"]["diff_ids"] = json!([id, format!("sha256:{}", "1".repeat(64))]);
        pieces.put_together(host)?;
        pieces.manifest["layers"] = json!([pieces.manifest["layers"][0], pieces.manifest["layers"][0]]);
        pieces.name_manifest(host)
    }),
    ("a layer that is shorter", "bytes", |pieces, host| {
        pieces.manifest["layers"][0]["size"] = json!(512);
        pieces.name_manifest(host)
    }),
    ("another size in the index", "size", |pieces, host| {
        pieces.entry["size"] = json!(7);
        index(pieces, host)
    }),
    ("an index that leads to an index", "index", |pieces, host| {
        index(pieces, host)?;
        pieces.entry["mediaType"] = json!(MANIFEST);
        index(pieces, host)
    }),
    ("a manifest that calls itself an index", "calls itself", |pieces, host| {
        pieces.manifest["mediaType"] = json!(INDEX);
        pieces.name_manifest(host)
    }),
    ("no image at all", "is no manifest", |pieces, host| {
        pieces.entry = pieces.blob(host, br#"{"schemaVersion":2}"#.to_vec(), MANIFEST)?;
        Ok(())
    }),
];

fn lies(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let whole = Pieces::new(host, Tar::new().file("evil", "evil").end())?;
    for (what, words, lie) in LIES {
        let mut pieces = whole.clone();
        lie(&mut pieces, host)?;
        let fake = serve(&pieces, &pieces.entry, honest())?;
        pull(&scene, what, &fake, &[words])?;
    }
    // And the same without a lie.
    let fake = serve(&whole, &whole.entry, honest())?;
    scene.client.ok(&["pull", &format!("{}/a/b:v1", fake.address)])?;
    Ok(())
}

/// An index that contains itself: no digest allows it, but a registry may answer so.
fn itself(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let mut pieces = Pieces::new(host, Tar::new().file("evil", "evil").end())?;
    index(&mut pieces, host)?;
    let bytes = pieces.named(&pieces.entry.clone()).clone();
    let itself: Change = Box::new(move |request, reply| {
        if request.path.contains("/manifests/") {
            Reply::new(200, bytes.clone()).header("content-type", INDEX)
        } else {
            reply
        }
    });
    let fake = serve(&pieces, &pieces.entry, itself)?;
    pull(&scene, "an index that contains itself", &fake, &["digest"])?;
    assert!(fake.asked("GET", "/v2/a/b/manifests/").len() <= 2);
    Ok(())
}

/// Puts an index around the entry.
fn index(pieces: &mut Pieces, host: &Host) -> Outcome {
    pieces.entry["platform"] = json!({"os": "linux", "architecture": architecture()});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [pieces.entry]});
    pieces.entry = pieces.blob(host, index.to_string().into_bytes(), INDEX)?;
    Ok(())
}

/// The blob is there, and so is a layer; that the one is the other is a lie.
fn known(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let kept = Tar::new().file("kept", "kept").end();
    let id = digest(host, &kept)?;
    let mut pieces = Pieces::new(host, kept.clone())?;
    pieces.manifest["layers"][0]["size"] = json!(7);
    pieces.name_manifest(host)?;
    pull(
        &scene,
        "the size of a known layer",
        &serve(&pieces, &pieces.entry, honest())?,
        &["bytes, and not 7"],
    )?;
    // A second layer comes into the store, and goes with what is refused: the first tells its DiffID as its own.
    let mut pieces = Pieces::new(host, kept)?;
    let other = Tar::new().file("other", "other").end();
    let other_id = digest(host, &other)?;
    scene.client.input(&["import", "-", "other"], other)?.success()?;
    pieces.config["rootfs"]["diff_ids"][0] = json!(other_id);
    pieces.put_together(host)?;
    let fake = serve(&pieces, &pieces.entry, honest())?;
    let output = scene.client.call(&["pull", &format!("{}/a/b:v1", fake.address)])?;
    assert!(output.code != 0 && output.stderr.contains(&format!("digest {id}")), "{output}");
    scene.client.ok(&["rmi", "other"])?;
    scene.unchanged("the DiffID of another layer")
}

fn endless(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let pieces = Pieces::new(host, Tar::new().file("evil", "evil").end())?;
    let name = |value: &Value| value["digest"].as_str().unwrap_or_default().to_owned();
    for (what, part, words) in [
        ("manifest", "/manifests/v1".to_owned(), "longer than"),
        ("config", name(&pieces.manifest["config"]), "longer than"),
        ("layer", name(&pieces.manifest["layers"][0]), "longer than"),
        ("error", "/manifests/v1".to_owned(), "answers 418"),
    ] {
        let change: Change = Box::new(move |request, mut reply| {
            if request.path.ends_with(&part) {
                reply.endless = true;
                reply.length = Some(1 << 50);
                if what == "error" {
                    reply.status = 418;
                }
                if what == "manifest" || what == "error" {
                    reply.body = vec![b' '; 1 << 16];
                }
            }
            reply
        });
        pull(&scene, what, &serve(&pieces, &pieces.entry, change)?, &[words])?;
    }
    Ok(())
}

fn stalled(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let pieces = Pieces::new(host, Tar::new().file("evil", "evil").end())?;
    let change: Change = Box::new(|request, mut reply| {
        if request.path.contains("/manifests/") {
            reply.length = Some(reply.body.len() + 1);
            reply.stalled = true;
        }
        reply
    });
    pull(&scene, "a manifest", &serve(&pieces, &pieces.entry, change)?, &["timeout"])
}

fn asked(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let pieces = Pieces::new(host, Tar::new().file("evil", "evil").end())?;
    for scheme in ["Basic", "Bearer"] {
        asked_by(&scene, &pieces, scheme)?;
    }
    Ok(())
}

fn asked_by(scene: &Scene<'_>, pieces: &Pieces, scheme: &'static str) -> Outcome {
    let elsewhere = Fake::start("127.0.0.2", move |request| {
        if request.path.starts_with("/token") {
            return Reply::new(200, r#"{"token":"t"}"#);
        }
        let here = request.header("host").unwrap_or_default();
        Reply::new(401, "").header("www-authenticate", format!("{scheme} realm=\"http://{here}/token\""))
    })?;
    let there = elsewhere.address.clone();
    let change: Change = Box::new(move |request, reply| match request.header("authorization") {
        None => Reply::new(401, "").header("www-authenticate", "Basic realm=class"),
        Some(_) if request.path.contains("/blobs/") => {
            Reply::new(307, "").header("location", format!("http://{there}{}", request.path))
        }
        Some(_) => reply,
    });
    let fake = serve(pieces, &pieces.entry, change)?;
    scene.client.input(&["login", "-u", "me", "--password-stdin", &fake.address], "secret")?.success()?;
    pull(scene, "a redirect to who asks", &fake, &["does not let"])?;
    let heard = elsewhere.asked("GET", "/");
    assert!(
        !heard.is_empty() && heard.iter().all(|request| request.header("authorization").is_none()),
        "{heard:?}"
    );
    Ok(())
}
