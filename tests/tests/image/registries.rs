//! Registries for real: Debian's docker-registry, and one that behaves as the test says.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Child, Host, Need, Outcome, Output, Test, wait_until};

use super::fake::{Fake, Reply, Request};
use super::{Result, Store};

const REGISTRY: &[Need] = &[
    Need::Root,
    Need::Overlay,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("docker-registry"),
    Need::Program("skopeo"),
    Need::Program("openssl"),
];
const FAKE: &[Need] = &[Need::Root, Need::Rootfs, Need::Binary("sampan")];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("registry::what_is_pushed_is_pulled_with_its_digest", REGISTRY, round_trip),
        test("registry::a_name_and_a_password", REGISTRY, password),
        test("registry::an_authority_of_ones_own", REGISTRY, authority),
        test("registry::an_open_registry_must_be_named", REGISTRY, insecure),
        test("registry::a_token_is_fetched_once_and_renewed", FAKE, token),
        test("registry::a_secret_is_for_its_host_alone", FAKE, secret),
        test("registry::a_broken_line_goes_on_where_it_broke", FAKE, resume),
        test("registry::a_mirror_that_fails_is_passed_over", FAKE, mirror),
        test("registry::a_limit_is_explained", FAKE, limited),
        test("registry::what_is_not_as_announced_changes_nothing", FAKE, lies),
        test("registry::the_manifest_for_the_platform_is_taken", FAKE, platform),
    ]
}

/// Debian's registry with some lines of its own.
fn registry(host: &Host, address: &str, more: &Value) -> Result<Child> {
    let folder = host.new_dir()?;
    let mut config = json!({
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": folder.join("data")}},
        "http": {"addr": address},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        match (config[key].as_object_mut(), value.as_object()) {
            (Some(own), Some(value)) => own.extend(value.clone()),
            _ => config[key] = value.clone(),
        }
    }
    let path = folder.join("config.yml");
    // JSON is YAML.
    fs::write(&path, config.to_string())?;
    let child = host.spawn("docker-registry", ["serve", &path.to_string_lossy()])?;
    wait_until("the registry listens", Duration::from_secs(10), || TcpStream::connect(address).is_ok())?;
    Ok(child)
}

/// A store whose user has a home of their own: settings and logins.
struct Client<'a> {
    store: Store<'a>,
    home: PathBuf,
}

impl<'a> Client<'a> {
    fn new(host: &'a Host) -> Result<Self> {
        Ok(Self { store: Store::new(host)?, home: host.new_dir()? })
    }

    fn call(&self, args: &[&str]) -> Result<Output> {
        self.input(args, "")
    }

    fn input(&self, args: &[&str], input: &str) -> Result<Output> {
        let command = self.store.host.cmd("sampan", self.store.args(args)).env("HOME", &self.home);
        command
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .input(input)
            .limit(Duration::from_secs(60))
            .run()
    }

    fn ok(&self, args: &[&str]) -> Result<String> {
        Ok(self.call(args)?.success()?.stdout.trim_end().to_owned())
    }

    fn settings(&self, text: &str) -> Result<()> {
        let folder = self.home.join("config/sampan");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("config.toml"), text)?)
    }

    /// A call that must fail as Docker's do, and say this.
    fn refused(&self, args: &[&str], words: &[&str]) -> Outcome {
        let output = self.call(args)?;
        assert_eq!(output.code, 1, "{output}");
        for word in words {
            assert!(output.stderr.contains(word), "{word:?} is missing: {output}");
        }
        Ok(())
    }
}

fn digest(host: &Host, image: &str) -> Result<String> {
    let output = host.command("skopeo", ["inspect", "--tls-verify=false", &format!("docker://{image}")])?;
    Ok(output.success()?.json()?["Digest"].as_str().unwrap_or_default().to_owned())
}

fn round_trip(host: &Host) -> Outcome {
    let _registry = registry(host, "127.0.0.1:5000", &json!({}))?;
    let (ours, other) = (Client::new(host)?, Client::new(host)?);
    ours.store.import("busybox")?;
    ours.ok(&["tag", "busybox", "127.0.0.1:5000/a/busybox:v1"])?;
    let said = ours.ok(&["push", "127.0.0.1:5000/a/busybox:v1"])?;
    assert!(said.contains(": Pushed"), "{said}");
    let digest = digest(host, "127.0.0.1:5000/a/busybox:v1")?;
    assert!(said.contains(&format!("v1: digest: {digest} size:")), "{said}");
    assert!(ours.ok(&["push", "127.0.0.1:5000/a/busybox:v1"])?.contains("Layer already exists"));
    // Another repository of the same registry: nothing is sent.
    ours.ok(&["tag", "busybox", "127.0.0.1:5000/b/busybox"])?;
    assert!(ours.ok(&["push", "127.0.0.1:5000/b/busybox"])?.contains("Mounted from a/busybox"));
    let said = other.ok(&["pull", "127.0.0.1:5000/a/busybox:v1"])?;
    assert!(said.contains(&format!("Digest: {digest}")) && said.contains("Downloaded newer image"), "{said}");
    assert!(other.ok(&["pull", "127.0.0.1:5000/a/busybox:v1"])?.contains("Image is up to date"));
    assert_eq!(other.ok(&["images", "--digests", "--format", "{{.Digest}}"])?, digest);
    other.ok(&["pull", &format!("127.0.0.1:5000/b/busybox@{digest}")])?;
    let seen =
        other.call(&["run", "--rm", "--network", "none", "127.0.0.1:5000/a/busybox:v1", "/kit/probe"])?;
    assert_eq!(seen.success()?.json()?["pid"], 1);
    let said = other.ok(&["search", "127.0.0.1:5000/busy"])?;
    assert!(said.contains("127.0.0.1:5000/a/busybox") && said.contains("127.0.0.1:5000/b/busybox"), "{said}");
    other.refused(
        &["pull", "127.0.0.1:5000/a/busybox:v9"],
        &["127.0.0.1:5000 has no manifest v9 of a/busybox"],
    )?;
    // skopeo's own copy, compressed, comes back and runs.
    host.command(
        "skopeo",
        [
            "copy",
            "--dest-compress-format=zstd",
            "--dest-compress",
            "--dest-tls-verify=false",
            "--format=oci",
            &format!("{}:docker.io/library/busybox:latest", ours.store.layout()),
            "docker://127.0.0.1:5000/zstd:1",
        ],
    )?
    .success()?;
    other.ok(&["pull", "-q", "127.0.0.1:5000/zstd:1"])?;
    other.ok(&["run", "--rm", "--network", "none", "127.0.0.1:5000/zstd:1", "true"])?;
    Ok(())
}

/// `student:plank`, by bcrypt.
const HTPASSWD: &str = "student:$2y$05$abcdefghijklmnopqrstuu67fhMeKtFoL.8KpgBWLVPYdUXPimjlG\n";

fn password(host: &Host) -> Outcome {
    let users = host.new_dir()?.join("htpasswd");
    fs::write(&users, HTPASSWD)?;
    let auth = json!({"auth": {"htpasswd": {"realm": "class", "path": users}}});
    let _registry = registry(host, "127.0.0.1:5000", &auth)?;
    let client = Client::new(host)?;
    client.store.import("127.0.0.1:5000/busybox:v1")?;
    let push = ["push", "127.0.0.1:5000/busybox:v1"];
    client.refused(&push, &["sampan login 127.0.0.1:5000"])?;
    let login = ["login", "-u", "student", "--password-stdin", "127.0.0.1:5000"];
    let wrong = client.input(&login, "wrong\n")?;
    assert_eq!(wrong.code, 1, "{wrong}");
    let file = client.home.join(".docker/config.json");
    assert!(!file.exists(), "a wrong password is kept");
    assert!(client.input(&login, "plank\n")?.success()?.stdout.contains("Login Succeeded"));
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    client.ok(&push)?;
    // The same file is Docker's, and so skopeo's.
    let inspect = ["inspect", "--tls-verify=false", "docker://127.0.0.1:5000/busybox:v1"];
    host.cmd("skopeo", inspect)
        .env("HOME", &client.home)
        .env("DOCKER_CONFIG", client.home.join(".docker"))
        .run()?
        .success()?;
    client.ok(&["logout", "127.0.0.1:5000"])?;
    client.refused(&push, &["not logged in"])?;
    Ok(())
}

/// An address that is not this machine's loopback: there, encryption is asked for.
const FAR: &str = "192.0.2.7";

fn far(host: &Host) -> Result<()> {
    let busybox = host.place().kit.join("rootfs/bin/busybox");
    host.command(&busybox.to_string_lossy(), ["ip", "address", "add", "192.0.2.7/32", "dev", "lo"])?
        .success()?;
    Ok(())
}

fn certificate(host: &Host, folder: &Path) -> Result<()> {
    let openssl = |words: &str| -> Result<()> {
        host.cmd("openssl", words.split(' ')).cwd(folder).run()?.success()?;
        Ok(())
    };
    fs::write(folder.join("san"), format!("subjectAltName=IP:{FAR}\nbasicConstraints=CA:FALSE\n"))?;
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=class",
    )?;
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out csr -subj /CN=registry",
    )?;
    openssl("x509 -req -in csr -CA ca.crt -CAkey ca.key -CAcreateserial -out crt -days 2 -extfile san")
}

fn authority(host: &Host) -> Outcome {
    far(host)?;
    let folder = host.new_dir()?;
    certificate(host, &folder)?;
    let tls = json!({"http": {"tls": {"certificate": folder.join("crt"), "key": folder.join("key")}}});
    let _registry = registry(host, "192.0.2.7:5000", &tls)?;
    let client = Client::new(host)?;
    client.store.import("192.0.2.7:5000/busybox:v1")?;
    let push = ["push", "192.0.2.7:5000/busybox:v1"];
    client.refused(&push, &["certs.d/192.0.2.7:5000"])?;
    let certificates = client.home.join("config/sampan/certs.d/192.0.2.7:5000");
    fs::create_dir_all(&certificates)?;
    fs::copy(folder.join("ca.crt"), certificates.join("ca.crt"))?;
    client.ok(&push)?;
    // Or nobody need vouch for it.
    fs::remove_dir_all(&certificates)?;
    client.settings("insecure-registries = [\"192.0.2.0/24\"]")?;
    client.ok(&push)?;
    Ok(())
}

fn insecure(host: &Host) -> Outcome {
    far(host)?;
    let _registry = registry(host, "192.0.2.7:5000", &json!({}))?;
    let client = Client::new(host)?;
    client.store.import("192.0.2.7:5000/busybox:v1")?;
    let push = ["push", "192.0.2.7:5000/busybox:v1"];
    client.refused(&push, &["insecure-registries"])?;
    client.settings("insecure-registries = [\"192.0.2.7:5000\"]")?;
    client.ok(&push)?;
    client.settings("insecure-registries = 5")?;
    client.refused(&push, &["config.toml"])
}

/// An image as a registry has it: what lies under which path.
#[derive(Clone)]
struct Shelf {
    files: BTreeMap<String, (Vec<u8>, String)>,
    layer: String,
}

impl Shelf {
    /// The blobs of an imported image, in the repository `a/b`, with the tag `v1`.
    fn new(host: &Host) -> Result<Self> {
        let store = Store::new(host)?;
        store.import("busybox")?;
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

    fn answer(&self, request: &Request) -> Reply {
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
    let fake = Fake::start("127.0.0.1", move |request| shelf.answer(request))?;
    let bad = Fake::start("127.0.0.1", |_| Reply::new(404, ""))?;
    let client = Client::new(host)?;
    let settings =
        format!("[mirrors]\n\"far.invalid:1\" = [\"http://{}\", \"http://{}\"]", bad.address, fake.address);
    client.settings(&settings)?;
    let said = client.ok(&["pull", "far.invalid:1/a/b:v1"])?;
    assert!(said.contains(&format!("the mirror http://{} is passed over", bad.address)), "{said}");
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
