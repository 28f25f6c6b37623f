//! `sampan registry serve`: others push to it and pull from it, and what comes in is in the store, whole or not at all.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{Child, Host, Need, Outcome, Test, args, wait_until};

use super::registries::{Client, FAR, HTPASSWD, certificate, digest, far};
use super::{Result, Store, check};
use crate::peers::{Engine, Kind};

const SERVED: &[Need] = &[
    Need::Root,
    Need::Overlay,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("skopeo"),
    Need::Program("openssl"),
];
const PODMAN: &[Need] = &[
    Need::Root,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("/usr/bin/podman"),
    Need::Program("skopeo"),
];
const DOCKER: &[Need] = &[
    Need::Root,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("/usr/bin/docker"),
    Need::Program("dockerd"),
    Need::Program("skopeo"),
];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("served::what_is_pushed_is_in_the_store", SERVED, round_trip),
        test("served::podman_pushes_and_pulls", PODMAN, podman),
        test("served::docker_pushes_and_pulls", DOCKER, docker),
        test("served::a_name_and_a_password", SERVED, password),
        test("served::a_certificate", SERVED, encrypted),
        test("served::pushes_at_once_lose_nothing", SERVED, at_once),
        test("served::a_class_of_twenty_pulls_and_pushes_at_once", SERVED, class),
        test("served::a_full_disk_is_told", SERVED, full_disk),
    ]
}

/// A registry, and the store that it serves.
pub(super) struct Served<'a> {
    pub(super) store: Store<'a>,
    pub(super) child: Child,
    pub(super) address: String,
}

impl<'a> Served<'a> {
    pub(super) fn new(host: &'a Host, options: &[&str]) -> Result<Self> {
        Self::over(Store::new(host)?, "127.0.0.1:5000", options)
    }

    pub(super) fn over(store: Store<'a>, address: &str, options: &[&str]) -> Result<Self> {
        let listen = ["registry", "serve", "--listen", address];
        let child = store.host.cmd("sampan", store.args(&[&listen, options].concat())).spawn()?;
        wait_until("it listens", Duration::from_secs(60), || TcpStream::connect(address).is_ok())?;
        Ok(Self { store, child, address: address.to_owned() })
    }

    /// Ends it as one ends a service.
    pub(super) fn stop(self) -> Outcome {
        self.child.signal(Signal::SIGTERM)?;
        self.child.wait()?.success()?;
        Ok(())
    }
}

fn round_trip(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    let (ours, other) = (Client::new(host)?, Client::new(host)?);
    ours.store.import("busybox")?;
    ours.ok(&["tag", "busybox", "127.0.0.1:5000/a/busybox:v1"])?;
    let said = ours.ok(&["push", "127.0.0.1:5000/a/busybox:v1"])?;
    let pushed = digest(host, "127.0.0.1:5000/a/busybox:v1")?;
    assert!(said.contains(": Pushed") && said.contains(&format!("digest: {pushed} ")), "{said}");
    // It is an image of the store, and stays one.
    let listed = ["images", "--digests", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}"];
    let expected = format!("localhost:5000/a/busybox:v1@{pushed}");
    assert_eq!(served.store.ok(&listed)?, expected);
    served.store.ok(&["image", "prune", "-f"])?;
    check(host, &served.store)?;
    let said = other.ok(&["pull", "127.0.0.1:5000/a/busybox:v1"])?;
    assert!(said.contains(&format!("Digest: {pushed}")), "{said}");
    other.ok(&["run", "--rm", "--network", "none", "127.0.0.1:5000/a/busybox:v1", "true"])?;
    other.ok(&["pull", &format!("127.0.0.1:5000/a/busybox@{pushed}")])?;
    assert!(other.ok(&["search", "127.0.0.1:5000/busy"])?.contains("127.0.0.1:5000/a/busybox"));
    // Docker's forms and OCI's, compressed and not, there and back.
    let image = format!("{}:docker.io/library/busybox:latest", ours.store.layout());
    for (form, tag) in [("v2s2", "docker"), ("oci", "oci")] {
        let name = format!("docker://127.0.0.1:5000/forms:{tag}");
        host.command("skopeo", ["copy", "--dest-tls-verify=false", "--format", form, &image, &name])?
            .success()?;
        let back = format!("oci:{}:x", host.new_dir()?.join("layout").display());
        host.command("skopeo", ["copy", "--src-tls-verify=false", &name, &back])?.success()?;
        served.store.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            &format!("localhost:5000/forms:{tag}"),
            "true",
        ])?;
    }
    // `tag` offers, and `rmi` takes back: at once.
    served.store.ok(&["tag", "localhost:5000/a/busybox:v1", "localhost:5000/offered:1"])?;
    assert_eq!(digest(host, "127.0.0.1:5000/offered:1")?, pushed);
    served.store.ok(&["rmi", "localhost:5000/offered:1"])?;
    other.refused(&["pull", "127.0.0.1:5000/offered:1"], &["127.0.0.1:5000"])?;
    // The same store pulls from itself: there is nothing to fetch, and one file for each blob.
    let before = served.store.names("images/blobs/sha256")?;
    served.store.ok(&["pull", "127.0.0.1:5000/a/busybox:v1"])?;
    assert_eq!(served.store.names("images/blobs/sha256")?, before);
    assert_eq!(served.store.names("tmp")?, [""; 0]);
    served.stop()
}

fn podman(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    let engine = Engine::new(host, Kind::Podman)?;
    there_and_back(&served, engine, &["--tls-verify=false"])
}

fn docker(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    let engine = Engine::new(host, Kind::Docker)?;
    there_and_back(&served, engine, &[])
}

fn there_and_back(served: &Served<'_>, engine: Engine<'_>, options: &[&str]) -> Outcome {
    let name = "127.0.0.1:5000/class/test:v1";
    engine.ok(&["tag", crate::peers::IMAGE, name])?;
    let call = |verb: &str| engine.ok(&[&[verb], options, &[name]].concat());
    call("push")?;
    let pushed = digest(served.store.host, name)?;
    served.store.ok(&["run", "--rm", "--network", "none", "localhost:5000/class/test:v1", "true"])?;
    let id = served.store.ok(&["images", "-q", "--no-trunc", "localhost:5000/class/test"])?;
    engine.ok(&["rmi", crate::peers::IMAGE, name])?;
    let said = call("pull")?;
    let found = engine.ok(&["inspect", "--type", "image", "-f", "{{.Id}} {{.RepoDigests}}", name])?;
    assert!(
        found.trim_start_matches("sha256:").starts_with(id.trim_start_matches("sha256:")),
        "{found}: {id}"
    );
    assert!(found.contains(&pushed), "{said}\n{found}: {pushed}");
    engine.end()
}

fn password(host: &Host) -> Outcome {
    let users = host.new_dir()?.join("htpasswd");
    fs::write(&users, HTPASSWD)?;
    let _served = Served::new(host, &["--htpasswd", &users.to_string_lossy()])?;
    let client = Client::new(host)?;
    client.store.import("127.0.0.1:5000/busybox:v1")?;
    let push = ["push", "127.0.0.1:5000/busybox:v1"];
    client.refused(&push, &["sampan login 127.0.0.1:5000"])?;
    let login = ["login", "-u", "student", "--password-stdin", "127.0.0.1:5000"];
    assert_eq!(client.input(&login, "wrong\n")?.code, 1);
    client.input(&login, "plank\n")?.success()?;
    client.ok(&push)?;
    let inspect = |creds: &str| {
        let words = ["inspect", "--tls-verify=false", "--creds", creds, "docker://127.0.0.1:5000/busybox:v1"];
        host.command("skopeo", words)
    };
    inspect("student:plank")?.success()?;
    for wrong in ["student:plan", "nobody:plank", ":"] {
        assert_ne!(inspect(wrong)?.code, 0, "{wrong}");
    }
    // Whoever is taken out of the file is out.
    fs::write(&users, HTPASSWD.replace("student", "teacher"))?;
    assert_ne!(inspect("student:plank")?.code, 0);
    inspect("teacher:plank")?.success()?;
    // What is no bcrypt is told before anybody comes.
    fs::write(&users, "student:plank\n")?;
    let store = Store::new(host)?;
    let listen = ["registry", "serve", "--listen", "127.0.0.1:5001", "--htpasswd", &users.to_string_lossy()];
    let output = store.call(&listen)?.expect(1)?;
    assert!(output.stderr.contains("htpasswd -B") && !output.stderr.contains("plank"), "{output}");
    Ok(())
}

fn encrypted(host: &Host) -> Outcome {
    far(host)?;
    let folder = host.new_dir()?;
    certificate(host, &folder)?;
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let tls = ["--tls-cert", &path("crt"), "--tls-key", &path("key"), "--name", "registry.class"];
    let address = format!("{FAR}:5000");
    let served = Served::over(Store::new(host)?, &address, &tls)?;
    let client = Client::new(host)?;
    let name = format!("{address}/busybox:v1");
    client.store.import(&name)?;
    client.refused(&["push", &name], &[&format!("certs.d/{address}")])?;
    let trusted = client.home.join("config/sampan/certs.d").join(&address);
    fs::create_dir_all(&trusted)?;
    fs::copy(folder.join("ca.crt"), trusted.join("ca.crt"))?;
    client.ok(&["push", &name])?;
    assert!(served.store.ok(&["images"])?.contains("registry.class/busybox"));
    let source = format!("docker://{name}");
    let copy = format!("oci:{}:x", folder.join("copy").display());
    host.command("skopeo", args!["copy", "--src-cert-dir", trusted, source, copy])?.success()?;
    // A key that belongs to another certificate.
    let wrong = ["registry", "serve", "--tls-cert", &path("crt"), "--tls-key", &path("ca.key")];
    served.store.call(&wrong)?.expect(1)?;
    Ok(())
}

/// Every part of a push is made at the same time by six, of one image and of others.
fn at_once(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    let client = Client::new(host)?;
    client.store.import("busybox")?;
    let names: Vec<_> = (0..6).map(|number| format!("127.0.0.1:5000/r{}:t{number}", number % 2)).collect();
    for name in &names {
        client.ok(&["tag", "busybox", name])?;
    }
    let children = names.iter().map(|name| host.spawn("sampan", client.store.args(&["push", name])));
    for child in children.collect::<Result<Vec<_>>>()? {
        child.wait()?.success()?;
    }
    let listed = served.store.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
    for name in &names {
        assert!(listed.contains(&name.replace("127.0.0.1", "localhost")), "{listed}");
    }
    assert_eq!((served.store.names("images/blobs/sha256")?.len(), served.store.names("tmp")?.len()), (3, 0));
    check(host, &served.store)
}

/// Twenty machines get one image at the same time, and give it back under names of their own.
fn class(host: &Host) -> Outcome {
    let served = Served::new(host, &[])?;
    served.store.import("localhost:5000/class/busybox:v1")?;
    let given = "127.0.0.1:5000/class/busybox:v1";
    let all: Vec<_> = (0..20).map(|_| Client::new(host)).collect::<Result<_>>()?;
    let own = |number: usize| format!("127.0.0.1:5000/student{number}/busybox:v1");
    let at_once = |words: &dyn Fn(usize) -> Vec<String>| -> Outcome {
        let start = |(number, client): (usize, &Client<'_>)| {
            let words = words(number);
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            host.cmd("sampan", client.store.args(&words)).limit(Duration::from_secs(200)).spawn()
        };
        for child in all.iter().enumerate().map(start).collect::<Result<Vec<_>>>()? {
            child.wait()?.success()?;
        }
        Ok(())
    };
    at_once(&|_| vec!["pull".to_owned(), "-q".to_owned(), given.to_owned()])?;
    at_once(&|number| vec!["tag".to_owned(), given.to_owned(), own(number)])?;
    at_once(&|number| vec!["push".to_owned(), "-q".to_owned(), own(number)])?;
    let listed = served.store.ok(&["images", "--format", "{{.Repository}}"])?;
    assert_eq!(listed.lines().filter(|line| line.contains("/student")).count(), 20, "{listed}");
    assert_eq!(served.store.names("tmp")?, [""; 0]);
    check(host, &served.store)?;
    served.stop()
}

fn full_disk(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    fs::create_dir(&store.root)?;
    let size = fs::metadata(host.tar())?.len();
    small(&store.root, size / 2)?;
    let served = Served::over(store, "127.0.0.1:5000", &[])?;
    let client = Client::new(host)?;
    client.store.import("127.0.0.1:5000/busybox:v1")?;
    client.refused(&["push", "127.0.0.1:5000/busybox:v1"], &["disk is full"])?;
    for folder in ["images/blobs/sha256", "layers/sha256"] {
        assert!(served.store.names(folder)?.len() <= 1, "{folder}");
    }
    check(host, &served.store)?;
    assert_eq!(served.store.ok(&["images", "-q"])?, "");
    served.stop()
}

fn small(folder: &Path, size: u64) -> Outcome {
    tests::inside::mount_at(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        &format!("size={size}"),
    )?;
    Ok(())
}
