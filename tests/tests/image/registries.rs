//! Registries for real: Debian's docker-registry, and one that behaves as the test says.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Child, Host, Need, Outcome, Output, Test, wait_until};

use super::{Result, Store};

pub(super) const REGISTRY: &[Need] = &[
    Need::Root,
    Need::Overlay,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("docker-registry"),
    Need::Program("skopeo"),
    Need::Program("openssl"),
];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("registry::what_is_pushed_is_pulled_with_its_digest", REGISTRY, round_trip),
        test("registry::a_name_and_a_password", REGISTRY, password),
        test("registry::an_authority_of_ones_own", REGISTRY, authority),
        test("registry::an_open_registry_must_be_named", REGISTRY, insecure),
    ]
}

/// Debian's registry with some lines of its own.
pub(super) fn registry(host: &Host, address: &str, more: &Value) -> Result<Child> {
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
    wait_until("the registry listens", Duration::from_secs(60), || TcpStream::connect(address).is_ok())?;
    Ok(child)
}

/// A store whose user has a home of their own: settings and logins.
pub(super) struct Client<'a> {
    pub(super) store: Store<'a>,
    pub(super) home: PathBuf,
}

impl<'a> Client<'a> {
    pub(super) fn new(host: &'a Host) -> Result<Self> {
        Ok(Self { store: Store::new(host)?, home: host.new_dir()? })
    }

    pub(super) fn call(&self, args: &[&str]) -> Result<Output> {
        self.input(args, "")
    }

    pub(super) fn input(&self, args: &[&str], input: impl Into<Vec<u8>>) -> Result<Output> {
        let command = self.store.host.cmd("sampan", self.store.args(args)).env("HOME", &self.home);
        command
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .input(input)
            .limit(Duration::from_secs(60))
            .run()
    }

    pub(super) fn ok(&self, args: &[&str]) -> Result<String> {
        Ok(self.call(args)?.success()?.stdout.trim_end().to_owned())
    }

    pub(super) fn settings(&self, text: &str) -> Result<()> {
        let folder = self.home.join("config/sampan");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("config.toml"), text)?)
    }

    /// A call that must fail as Docker's do, and say this.
    pub(super) fn refused(&self, args: &[&str], words: &[&str]) -> Outcome {
        let output = self.call(args)?;
        assert_eq!(output.code, 1, "{output}");
        for word in words {
            assert!(output.stderr.contains(word), "{word:?} is missing: {output}");
        }
        Ok(())
    }
}

pub(super) fn digest(host: &Host, image: &str) -> Result<String> {
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
pub(super) const HTPASSWD: &str = "student:$2y$05$abcdefghijklmnopqrstuu67fhMeKtFoL.8KpgBWLVPYdUXPimjlG\n";

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
pub(super) const FAR: &str = "192.0.2.7";

pub(super) fn far(host: &Host) -> Result<()> {
    let busybox = host.place().kit.join("rootfs/bin/busybox");
    host.command(&busybox.to_string_lossy(), ["ip", "address", "add", "192.0.2.7/32", "dev", "lo"])?
        .success()?;
    Ok(())
}

pub(super) fn certificate(host: &Host, folder: &Path) -> Result<()> {
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
