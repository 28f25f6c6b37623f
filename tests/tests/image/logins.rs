//! Who somebody is at a registry, and whom to believe: a token service, prompts, the machine's settings, two layers at once.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Host, Outcome, Test, args};

use super::Result;
use super::answers::{FAKE, Shelf};
use super::fake::{Fake, Reply};
use super::hostile::{MANIFEST, Pieces, digest};
use super::hostile_layers::Tar;
use super::registries::{Client, FAR, REGISTRY, certificate, far, registry};

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("registry::a_token_service_says_who_may_do_what", REGISTRY, token_service),
        test("registry::an_upload_is_not_led_into_the_open", REGISTRY, downgrade),
        test("registry::the_machine_says_whom_to_believe", REGISTRY, machine),
        test("registry::a_password_is_typed_unseen", FAKE, prompt),
        test("registry::a_terminal_shows_bars_and_a_pipe_lines", FAKE, progress),
        test("registry::layers_come_side_by_side", FAKE, side_by_side),
        test("registry::a_list_is_followed_page_by_page", FAKE, pages),
        test("registry::a_layer_is_mounted_from_where_it_is", FAKE, mounted),
    ]
}

/// base64, for JSON Web Tokens.
fn encoded(host: &Host, bytes: &[u8]) -> Result<String> {
    let output = host.cmd("openssl", ["base64", "-A"]).input(bytes).run()?.success()?;
    Ok(output.stdout.trim().trim_end_matches('=').replace('+', "-").replace('/', "_"))
}

/// A token for a repository and what may be done there, signed by the key in `folder`.
fn token(host: &Host, folder: &Path, actions: &[&str]) -> Result<String> {
    let pem = fs::read_to_string(folder.join("token.crt"))?;
    let chain: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [chain]});
    let access = json!([{"type": "repository", "name": "a/busybox", "actions": actions}]);
    let claims = json!({"iss": "sampan", "sub": "", "aud": "class", "exp": 4_000_000_000_u64, "nbf": 0,
        "iat": 0, "jti": "1", "access": access});
    let signed = format!(
        "{}.{}",
        encoded(host, header.to_string().as_bytes())?,
        encoded(host, claims.to_string().as_bytes())?
    );
    let words = args!["dgst", "-sha256", "-sign", folder.join("token.key"), "-out", folder.join("signature")];
    host.cmd("openssl", words).input(signed.clone()).run()?.success()?;
    Ok(format!("{signed}.{}", encoded(host, &fs::read(folder.join("signature"))?)?))
}

/// Debian's registry believes nobody but the token service, which is ours.
fn token_service(host: &Host) -> Outcome {
    let folder = host.new_dir()?;
    let make = "req -x509 -newkey rsa:2048 -nodes -keyout token.key -out token.crt -days 2 -subj /CN=tokens";
    host.cmd("openssl", make.split(' ')).cwd(&folder).run()?.success()?;
    let (all, none) = (token(host, &folder, &["pull", "push"])?, token(host, &folder, &[])?);
    let service = Fake::start("127.0.0.1", move |request| match request.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => Reply::new(200, json!({"token": all}).to_string()),
        None => Reply::new(200, json!({"access_token": none}).to_string()),
        Some(_) => Reply::new(401, r#"{"details":"who are you?"}"#),
    })?;
    let realm = format!("http://{}/token", service.address);
    let auth = json!({"auth": {"token": {"realm": realm, "service": "class", "issuer": "sampan",
        "rootcertbundle": folder.join("token.crt")}}});
    let _registry = registry(host, "127.0.0.1:5000", &auth)?;
    let client = Client::new(host)?;
    let name = "127.0.0.1:5000/a/busybox:v1";
    client.store.import(name)?;
    client.refused(&["push", name], &["does not let somebody who is not logged in"])?;
    let login = ["login", "-u", "me", "--password-stdin", "127.0.0.1:5000"];
    let wrong = client.input(&login, "wrong")?;
    assert!(wrong.code == 1 && wrong.stderr.contains("who are you?"), "{wrong}");
    client.input(&login, "secret")?.success()?;
    client.ok(&["push", name])?;
    client.ok(&["rmi", name])?;
    client.ok(&["pull", name])?;
    // The token is for this repository and no other.
    client.ok(&["tag", name, "127.0.0.1:5000/b/busybox"])?;
    client.refused(&["push", "127.0.0.1:5000/b/busybox"], &["does not let me"])?;
    let asked = service.asked("GET", "/token");
    let scope = "scope=repository%3Aa%2Fbusybox%3Apull%2Cpush";
    assert!(asked.iter().any(|request| request.path.contains(scope)), "{asked:?}");
    client.ok(&["logout", "127.0.0.1:5000"])?;
    client.refused(&["pull", name], &["not logged in"])
}

fn downgrade(host: &Host) -> Outcome {
    far(host)?;
    let folder = host.new_dir()?;
    certificate(host, &folder)?;
    let open = Fake::start(FAR, |_| Reply::new(201, ""))?;
    let (crt, key) = (folder.join("crt"), folder.join("key"));
    let http = json!({"http": {"host": format!("http://{}", open.address), "tls": {"certificate": crt, "key": key}}});
    let _registry = registry(host, &format!("{FAR}:5000"), &http)?;
    let client = Client::new(host)?;
    let name = format!("{FAR}:5000/busybox:v1");
    client.store.import(&name)?;
    let certificates = client.home.join(format!("config/sampan/certs.d/{FAR}:5000"));
    fs::create_dir_all(&certificates)?;
    fs::copy(folder.join("ca.crt"), certificates.join("ca.crt"))?;
    client.refused(&["push", &name], &["from an encrypted connection to an open one"])?;
    let heard = open.requests.lock().map(|all| all.len()).unwrap_or_default();
    assert_eq!(heard, 0, "something was said in the open");
    Ok(())
}

/// `/etc/sampan` and the machine's authorities.
fn machine(host: &Host) -> Outcome {
    far(host)?;
    let folder = host.new_dir()?;
    certificate(host, &folder)?;
    let tls = json!({"http": {"tls": {"certificate": folder.join("crt"), "key": folder.join("key")}}});
    let _registry = registry(host, &format!("{FAR}:5000"), &tls)?;
    let _open = registry(host, &format!("{FAR}:5001"), &json!({}))?;
    let client = Client::new(host)?;
    let (name, open) = (format!("{FAR}:5000/busybox:v1"), format!("{FAR}:5001/busybox:v1"));
    client.store.import(&name)?;
    client.ok(&["tag", &name, &open])?;
    client.refused(&["push", &name], &["certs.d"])?;
    // Where OpenSSL's variable says, the machine's authorities are.
    let push = host.cmd("sampan", client.store.args(&["push", &name])).env("HOME", &client.home);
    push.env("SSL_CERT_FILE", folder.join("ca.crt")).run()?.success()?;
    client.refused(&["push", &open], &["insecure-registries"])?;
    fs::create_dir_all(format!("/etc/sampan/certs.d/{FAR}:5000"))?;
    fs::copy(folder.join("ca.crt"), format!("/etc/sampan/certs.d/{FAR}:5000/ca.crt"))?;
    fs::write("/etc/sampan/config.toml", format!("insecure-registries = [\"{FAR}:5001\"]\n"))?;
    client.ok(&["push", &name])?;
    client.ok(&["push", &open])?;
    // What the user says is added to it.
    client.settings("insecure-registries = [\"http://r.example\"]")?;
    client.refused(&["push", &open], &["config.toml", "HOST:PORT"])
}

fn prompt(host: &Host) -> Outcome {
    let fake = Fake::start("127.0.0.1", |request| match request.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => Reply::new(200, ""),
        _ => Reply::new(401, "").header("www-authenticate", "Basic realm=class"),
    })?;
    let client = Client::new(host)?;
    let words = client.store.args(&["login", &fake.address]);
    let home = format!("HOME={}", client.home.display());
    let program = host.bin("sampan").to_string_lossy().into_owned();
    let mut terminal = host.terminal("env", [home, program].into_iter().chain(words))?;
    terminal.expect("Username: ")?;
    terminal.send("me\n")?;
    terminal.expect("Password: ")?;
    terminal.send("secret\n")?;
    terminal.expect("Login Succeeded")?;
    let shown = terminal.shown();
    assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
    assert_eq!(terminal.wait()?, 0);
    // Whoever gives up has a terminal that shows what is typed.
    let words = client.store.args(&["login", "-u", "me", &fake.address]).join(" ");
    let script = format!("{} {words}; stty -a; read x", host.bin("sampan").display());
    let mut terminal = host.terminal("sh", ["-c", &script])?;
    terminal.expect("Password: ")?;
    terminal.send("sec\x03")?;
    terminal.expect("given up")?;
    let modes = terminal.expect("echoe")?;
    assert!(!modes.contains("-echo ") && !modes.contains("-isig"), "{modes}");
    terminal.send("\n")?;
    terminal.wait()?;
    Ok(())
}

fn progress(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let layer = shelf.layer.clone();
    let short = layer.rsplit(':').next().unwrap_or_default()[..12].to_owned();
    // Held back until somebody has seen the bar.
    let seen = Arc::new((Mutex::new(false), Condvar::new()));
    let held = Arc::clone(&seen);
    let fake = Fake::start("127.0.0.1", move |request| {
        if request.path == shelf.layer
            && let Ok(seen) = held.0.lock()
        {
            drop(held.1.wait_timeout_while(seen, Duration::from_secs(50), |seen| !*seen));
        }
        shelf.answer(request)
    })?;
    let name = format!("{}/a/b:v1", fake.address);
    let client = Client::new(host)?;
    let mut terminal = host.terminal("sampan", client.store.args(&["pull", &name]))?;
    terminal.expect(&format!("{short}: ["))?;
    *seen.0.lock().map_err(|error| error.to_string())? = true;
    seen.1.notify_all();
    terminal.expect("Pull complete")?;
    terminal.expect(&name)?;
    assert_eq!(terminal.wait()?, 0);
    let other = Client::new(host)?;
    let lines = other.ok(&["pull", &name])?;
    assert!(lines.contains(&format!("{short}: Pull complete")), "{lines}");
    assert!(!lines.contains('\u{1b}') && !lines.contains('['), "{lines}");
    let other = Client::new(host)?;
    assert_eq!(other.ok(&["pull", "--quiet", &name])?, name);
    Ok(())
}

/// An image with these layers, under the name.
fn layered(host: &Host, layers: &[Vec<u8>], name: &str) -> Result<Pieces> {
    let mut pieces = Pieces::new(host, layers[0].clone())?;
    let ids = layers.iter().map(|layer| Ok(Value::from(digest(host, layer)?))).collect::<Result<Vec<_>>>()?;
    pieces.config["rootfs"]["diff_ids"] = ids.into();
    pieces.put_together(host)?;
    let mut all = Vec::new();
    for layer in layers {
        all.push(pieces.blob(host, layer.clone(), "application/vnd.oci.image.layer.v1.tar")?);
    }
    pieces.manifest["layers"] = all.into();
    pieces.name_manifest(host)?;
    pieces.entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    Ok(pieces)
}

fn side_by_side(host: &Host) -> Outcome {
    let layers: Vec<_> = ["x", "y", "z"].map(|name| Tar::new().file(name, name).end()).to_vec();
    let pieces = layered(host, &layers, "any")?;
    let names: Vec<_> = layers.iter().map(|layer| digest(host, layer)).collect::<Result<_>>()?;
    let top = pieces.entry["digest"].as_str().unwrap_or_default().to_owned();
    let waiting = Arc::new((Mutex::new(0), Condvar::new()));
    let fake = Fake::start("127.0.0.1", move |request| {
        let name = request.path.rsplit('/').next().unwrap_or_default().replace("v1", &top);
        if names.contains(&name) {
            // None is given before all are asked for.
            let (count, changed) = &*waiting;
            let Ok(mut asked) = count.lock() else { return Reply::new(500, "") };
            *asked += 1;
            changed.notify_all();
            let all = changed.wait_timeout_while(asked, Duration::from_secs(50), |asked| *asked < 3);
            if all.map_or(true, |(_, late)| late.timed_out()) {
                return Reply::new(418, "one after the other");
            }
        }
        let reply = pieces.blobs.get(&name).map(|bytes| Reply::new(200, bytes.clone()));
        reply.unwrap_or_else(|| Reply::new(404, "")).header("content-type", MANIFEST)
    })?;
    let client = Client::new(host)?;
    client.ok(&["pull", &format!("{}/a/b:v1", fake.address)])?;
    assert_eq!(fake.asked("GET", "/v2/a/b/blobs/").len(), 4, "each of them once");
    Ok(())
}

fn pages(host: &Host) -> Outcome {
    let elsewhere = Fake::start("127.0.0.2", |_| Reply::new(200, r#"{"repositories":["a/third"]}"#))?;
    let there = elsewhere.address.clone();
    let fake = Fake::start("127.0.0.1", move |request| {
        if request.header("authorization").is_none() {
            return Reply::new(401, "").header("www-authenticate", "Basic realm=class");
        }
        match &*request.path {
            "/v2/" => Reply::new(200, ""),
            "/v2/_catalog?n=1000" => Reply::new(200, r#"{"repositories":["a/first"]}"#)
                .header("link", "</v2/_catalog?last=a%2Ffirst&n=1000>; rel=\"next\""),
            "/v2/_catalog?last=a%2Ffirst&n=1000" => Reply::new(200, r#"{"repositories":["a/second","x"]}"#)
                .header("link", format!("<http://{there}/v2/_catalog>; rel=\"next\"")),
            // For ever.
            path => Reply::new(200, r#"{"tags":["v1"]}"#).header("link", format!("<{path}>; rel=\"next\"")),
        }
    })?;
    let client = Client::new(host)?;
    client.input(&["login", "-u", "me", "--password-stdin", &fake.address], "secret")?.success()?;
    let said = client.ok(&["search", "--format", "{{.Name}}", &format!("{}/a/", fake.address)])?;
    assert_eq!(
        said,
        ["first", "second", "third"].map(|name| format!("{}/a/{name}", fake.address)).join("\n")
    );
    assert!(elsewhere.asked("GET", "/v2/").iter().all(|request| request.header("authorization").is_none()));
    // The one without an end ends, and what it names is asked for.
    client.refused(&["pull", "--all-tags", &format!("{}/a/b", fake.address)], &["is no manifest"])?;
    let asked = fake.asked("GET", "/v2/a/b/tags/list").len();
    assert!((2..=101).contains(&asked), "{asked}");
    Ok(())
}

fn mounted(host: &Host) -> Outcome {
    let layers: Vec<_> = ["x", "y"].map(|name| Tar::new().file(name, name).end()).to_vec();
    let first = digest(host, &layers[0])?.replace(':', "%3A");
    let fake = Fake::start("127.0.0.1", move |request| match (&*request.method, &*request.path) {
        ("HEAD", _) => Reply::new(404, ""),
        ("POST", path) if path.contains("mount=") => {
            let right = path.contains(&first) == path.contains("from=a");
            Reply::new(if right { 201 } else { 202 }, "").header("location", "/upload")
        }
        ("POST", _) => Reply::new(202, "").header("location", "/upload"),
        ("GET", _) => Reply::new(200, ""),
        _ => Reply::new(201, ""),
    })?;
    let client = Client::new(host)?;
    let name = |repository: &str| format!("{}/{repository}:v1", fake.address);
    for (layer, repository) in layers.iter().zip(["a", "b"]) {
        client.input(&["import", "-", &name(repository)], layer.clone())?.success()?;
    }
    client.input(&["load"], layered(host, &layers, &name("c"))?.archive())?.success()?;
    let said = client.ok(&["push", &name("c")])?;
    assert!(said.contains("Mounted from a") && said.contains("Mounted from b"), "{said}");
    let mounts = fake.asked("POST", "/v2/c/blobs/uploads/?mount=");
    assert_eq!(mounts.len(), 2, "each from where it is: {mounts:?}");
    // A service that gives no token for the other repository is no reason not to send.
    let strict = Fake::start("127.0.0.1", |request| {
        if request.path.starts_with("/token") {
            let other = request.path.contains("repository%3Aa%3Apull");
            return Reply::new(if other { 403 } else { 200 }, r#"{"token":"t"}"#);
        }
        if request.header("authorization").is_none() || request.path.contains("mount=") {
            let realm =
                format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap_or_default());
            return Reply::new(401, "").header("www-authenticate", realm);
        }
        let status = match &*request.method {
            "HEAD" => 404,
            "POST" => 202,
            "GET" => 200,
            _ => 201,
        };
        Reply::new(status, "").header("location", "/upload")
    })?;
    for repository in ["a", "c"] {
        client.ok(&["tag", &name("a"), &format!("{}/{repository}:v1", strict.address)])?;
    }
    let said = client.ok(&["push", &format!("{}/c:v1", strict.address)])?;
    assert!(said.contains(": Pushed"), "{said}");
    Ok(())
}
