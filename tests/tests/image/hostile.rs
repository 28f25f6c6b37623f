//! Archives of images that lie. Each is refused in words, and the store is as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Output, Test};

use super::Result;
use super::hostile_layers::Tar;
use super::registries::Client;

const STORE: &[Need] = &[Need::Rootfs, Need::Binary("sampan")];
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) fn tests() -> Vec<Test> {
    let test = |name, run| Test { name, needs: STORE, run };
    vec![
        test("hostile::an_archive_whose_documents_lie_is_refused", lies),
        test("hostile::an_archive_of_docker_that_leads_elsewhere_is_refused", docker),
        test("hostile::what_is_no_archive_of_images_is_refused", nonsense),
    ]
}

/// A store with an image that must stay, and a file outside of it.
pub(super) struct Scene<'a> {
    pub(super) client: Client<'a>,
    pub(super) outside: PathBuf,
    before: (Vec<u8>, Vec<String>, Vec<String>),
}

impl<'a> Scene<'a> {
    pub(super) fn new(host: &'a Host) -> Result<Self> {
        Self::on(Client::new(host)?)
    }

    pub(super) fn on(client: Client<'a>) -> Result<Self> {
        let outside = client.store.host.new_dir()?;
        fs::write(outside.join("secret"), "secret")?;
        client.input(&["import", "-", "kept"], Tar::new().file("kept", "kept").end())?.success()?;
        let mut scene = Self { client, outside, before: Default::default() };
        scene.before = scene.now()?;
        Ok(scene)
    }

    fn now(&self) -> Result<(Vec<u8>, Vec<String>, Vec<String>)> {
        let store = &self.client.store;
        let index = fs::read(store.root.join("images/index.json"))?;
        Ok((index, store.names("images/blobs/sha256")?, store.names("layers/sha256")?))
    }

    pub(super) fn secret(&self) -> String {
        self.outside.join("secret").to_string_lossy().into_owned()
    }

    /// The command has failed, said these words, and changed nothing: what is half done goes with the next `prune`.
    pub(super) fn refused(&self, what: &str, output: &Output, words: &[&str]) -> Outcome {
        assert_eq!(output.code, 1, "{what}: {output}");
        assert!(output.stderr.len() < 4000, "{what}: {} bytes of error", output.stderr.len());
        assert!(!output.stderr.contains("panicked"), "{what}: {output}");
        for word in words {
            assert!(output.stderr.contains(word), "{what}: {word:?} is missing: {output}");
        }
        let unfinished = self.client.store.root.join("tmp");
        assert!(!output.stderr.contains(&*unfinished.to_string_lossy()), "{what}: {output}");
        self.unchanged(what)
    }

    pub(super) fn unchanged(&self, what: &str) -> Outcome {
        assert!(self.now()?.0 == self.before.0, "{what}: the index has changed");
        self.client.ok(&["image", "prune", "-f"])?;
        assert_eq!(self.now()?, self.before, "{what}");
        assert_eq!(self.client.store.names("tmp")?, [""; 0], "{what}: tmp is not swept");
        assert_eq!(super::names(&self.outside)?, ["secret"], "{what}: made outside");
        assert_eq!(fs::read_to_string(self.outside.join("secret"))?, "secret", "{what}");
        Ok(())
    }

    fn load(&self, what: &str, archive: Vec<u8>, words: &[&str]) -> Outcome {
        let output = self.client.input(&["load"], archive)?;
        self.refused(what, &output, words)
    }
}

/// An image in pieces: what may be changed before it is put together.
#[derive(Clone)]
pub(super) struct Pieces {
    pub(super) layer: Vec<u8>,
    pub(super) config: Value,
    pub(super) manifest: Value,
    /// `index.json`'s entry.
    pub(super) entry: Value,
    pub(super) blobs: BTreeMap<String, Vec<u8>>,
}

impl Pieces {
    /// An honest image of one layer.
    pub(super) fn new(host: &Host, layer: Vec<u8>) -> Result<Self> {
        let mut pieces = Self {
            config: json!({"architecture": architecture(), "os": "linux", "config": {},
                "rootfs": {"type": "layers", "diff_ids": [digest(host, &layer)?]}}),
            layer,
            manifest: json!({}),
            entry: json!({}),
            blobs: BTreeMap::new(),
        };
        pieces.put_together(host)?;
        Ok(pieces)
    }

    /// Config, manifest and entry for what is there.
    pub(super) fn put_together(&mut self, host: &Host) -> Outcome {
        let layer = self.blob(host, self.layer.clone(), "application/vnd.oci.image.layer.v1.tar")?;
        let config = self.config.to_string().into_bytes();
        let config = self.blob(host, config, "application/vnd.oci.image.config.v1+json")?;
        self.manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        self.name_manifest(host)
    }

    /// The entry for the manifest as it is now.
    pub(super) fn name_manifest(&mut self, host: &Host) -> Outcome {
        let manifest = self.manifest.to_string().into_bytes();
        self.entry = self.blob(host, manifest, MANIFEST)?;
        self.entry["annotations"] =
            json!({"org.opencontainers.image.ref.name": "docker.io/library/evil:latest"});
        Ok(())
    }

    /// Adds a blob, and gives its descriptor.
    pub(super) fn blob(&mut self, host: &Host, bytes: Vec<u8>, media_type: &str) -> Result<Value> {
        let (digest, size) = (digest(host, &bytes)?, bytes.len());
        self.blobs.insert(digest.clone(), bytes);
        Ok(json!({"mediaType": media_type, "digest": digest, "size": size}))
    }

    /// The bytes that a descriptor of the manifest or index names.
    pub(super) fn named(&mut self, descriptor: &Value) -> &mut Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap_or_default().to_owned();
        self.blobs.entry(digest).or_default()
    }

    pub(super) fn archive(&self) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": [self.entry]}).to_string();
        let layout = r#"{"imageLayoutVersion":"1.0.0"}"#;
        let mut tar = Tar::new().file("oci-layout", layout).file("index.json", &index);
        for (digest, bytes) in &self.blobs {
            tar = tar.file(&format!("blobs/sha256/{}", &digest[7..]), bytes);
        }
        tar.end()
    }
}

pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(super) fn digest(host: &Host, bytes: &[u8]) -> Result<String> {
    let output = host.cmd("sha256sum", ["-"]).input(bytes).run()?.success()?;
    Ok(format!("sha256:{}", output.stdout.split(' ').next().unwrap_or_default()))
}

fn layer() -> Vec<u8> {
    Tar::new().file("evil", "evil").end()
}

type Lie = fn(&mut Pieces, &Host) -> Outcome;
/// What is wrong, what the error says, and how it is made.
const LIES: [(&str, &str, Lie); 15] = [
    ("other bytes under a layer's name", "is expected", |pieces, _| {
        let layer = pieces.manifest["layers"][0].clone();
        *pieces.named(&layer) = Tar::new().file("evil", "other").end();
        Ok(())
    }),
    ("other bytes under a config's name", "lacks the blob", |pieces, _| {
        let config = pieces.manifest["config"].clone();
        pieces.named(&config).push(b' ');
        Ok(())
    }),
    ("other bytes under a manifest's name", "lacks the blob", |pieces, _| {
        let entry = pieces.entry.clone();
        pieces.named(&entry).push(b' ');
        Ok(())
    }),
    ("the manifest's size", "bytes, and not", |pieces, _| {
        pieces.entry["size"] = json!(7);
        Ok(())
    }),
    ("the config's size", "bytes, and not", |pieces, host| {
        pieces.manifest["config"]["size"] = json!(1_u64 << 40);
        pieces.name_manifest(host)
    }),
    ("the layer's size", "bytes, and not", |pieces, host| {
        pieces.manifest["layers"][0]["size"] = json!(7);
        pieces.name_manifest(host)
    }),
    ("other DiffIDs", "is expected", |pieces, host| {
        pieces.config["rootfs"]["diff_ids"][0] = json!(format!("sha256:{}", "1".repeat(64)));
        pieces.put_together(host)
    }),
    ("more DiffIDs than layers", "diff_ids", |pieces, host| {
        let id = pieces.config["rootfs"]["diff_ids"][0].clone();
        pieces.config["rootfs"]["diff_ids"] = json!([id, id]);
        pieces.put_together(host)
    }),
    ("a DiffID that is a path", "digest", |pieces, host| {
        pieces.config["rootfs"]["diff_ids"][0] = json!("sha256:../../../../etc");
        pieces.put_together(host)
    }),
    ("a manifest that is called an index", "no archive of images", |pieces, _| {
        pieces.entry["mediaType"] = json!(INDEX);
        Ok(())
    }),
    ("a manifest that calls itself an index", "calls itself", |pieces, host| {
        pieces.manifest["mediaType"] = json!(INDEX);
        pieces.name_manifest(host)
    }),
    ("an index that is called a manifest", "missing field", |pieces, host| {
        let index = json!({"schemaVersion": 2, "manifests": [pieces.entry]}).to_string().into_bytes();
        pieces.entry = pieces.blob(host, index, MANIFEST)?;
        Ok(())
    }),
    ("an index of indexes", "no image for", |pieces, host| {
        let mut entry = pieces.entry.clone();
        for _ in 0..5 {
            entry["platform"] = json!({"os": "linux", "architecture": architecture()});
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
            entry = pieces.blob(host, index.to_string().into_bytes(), INDEX)?;
        }
        pieces.entry = entry;
        Ok(())
    }),
    ("a config that is a layer", "lacks the blob", |pieces, host| {
        pieces.manifest["config"] = pieces.manifest["layers"][0].clone();
        pieces.name_manifest(host)
    }),
    ("another algorithm", "blob", |pieces, host| {
        pieces.manifest["layers"][0]["digest"] = json!(format!("sha512:{}", "1".repeat(128)));
        pieces.name_manifest(host)
    }),
];

fn lies(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let honest = Pieces::new(host, layer())?;
    for (what, words, lie) in LIES {
        let mut pieces = honest.clone();
        lie(&mut pieces, host)?;
        scene.load(what, pieces.archive(), &[words])?;
    }
    // And the same without a lie.
    scene.client.input(&["load"], honest.archive())?.success()?;
    assert!(scene.client.ok(&["images"])?.contains("evil"));
    Ok(())
}

fn docker(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let layer = layer();
    let config = json!({"architecture": architecture(), "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(host, &layer)?]}})
    .to_string();
    let archive = |config_at: &str, layer_at: &str, tags: &Value| {
        let manifest = json!([{"Config": config_at, "Layers": [layer_at], "RepoTags": tags}]).to_string();
        Tar::new().file("config.json", &config).file("layer.tar", &layer).file("manifest.json", &manifest)
    };
    let tags = json!(["evil:latest"]);
    let cases = [
        ("a config on the host", archive(&scene.secret(), "layer.tar", &tags), "lacks the config"),
        ("a layer on the host", archive("config.json", &scene.secret(), &tags), "lacks the layer"),
        ("a layer above", archive("config.json", "../../../etc/passwd", &tags), "lacks the layer"),
        (
            "links in a circle",
            archive("config.json", "a", &tags).symlink("a", "b").symlink("b", "a"),
            "lacks the layer",
        ),
        (
            "a link to the host",
            archive("config.json", "a", &tags).symlink("a", &scene.secret()),
            "lacks the layer",
        ),
        (
            "a name that is none",
            archive("config.json", "layer.tar", &json!(["../../evil"])),
            "names no image",
        ),
        ("a name of an ID", archive("config.json", "layer.tar", &json!(["e".repeat(64)])), "an ID"),
    ];
    for (what, archive, words) in cases {
        scene.load(what, archive.end(), &[words])?;
    }
    let nothing = Tar::new().file("config.json", &config).file("manifest.json", "[]").end();
    let output = scene.client.input(&["load"], nothing)?;
    assert!(!output.stderr.contains("panicked"), "{output}");
    scene.unchanged("no image at all")
}

fn nonsense(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let deep = "[".repeat(100_000);
    let cases = [
        ("nothing", Vec::new(), ""),
        ("text", b"hello".repeat(500), "the archive cannot be read"),
        ("gzip of text", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3], "the archive cannot be read"),
        ("zstd of nothing", vec![0x28, 0xb5, 0x2f, 0xfd, 0xff], "the archive cannot be read"),
        ("deep JSON", Tar::new().file("manifest.json", &deep).end(), "manifest.json"),
        ("another type", Tar::new().file("manifest.json", "[7]").end(), "manifest.json"),
        ("no object", Tar::new().file("index.json", "[]").end(), "index.json"),
        ("large documents", Tar::new().file("index.json", format!("{{{}", " ".repeat(9 << 20))).end(), ""),
        (
            "an extension without end",
            Tar::new().raw(b'x', b"x", b"", 8 << 30).bytes(&[b'1'; 2 << 20]),
            "names and attributes",
        ),
    ];
    for (what, archive, words) in cases {
        scene.load(what, archive, &[words])?;
    }
    Ok(())
}
