//! What else a pull does: for `run` and `build`, through proxies and mirrors, with certificates, helpers and tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use tests::{Host, Outcome, Test, wait_until};

use super::answers::{FAKE, Shelf};
use super::fake::{Fake, Reply};
use super::registries::{Client, FAR, REGISTRY, certificate, digest, far, registry};

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("registry::run_and_build_pull_what_is_missing", REGISTRY, missing),
        test("registry::without_a_network_it_is_told_at_once", FAKE, offline),
        test("registry::what_fails_for_a_moment_is_tried_again", FAKE, passing),
        test("registry::a_proxy_stands_between_but_not_before_this_machine", FAKE, proxy),
        test("registry::a_mirror_may_have_a_path_and_a_slip_is_told", FAKE, mirror),
        test("registry::a_login_becomes_a_token_that_a_helper_keeps", FAKE, identity),
        test("registry::a_certificate_says_who_we_are", REGISTRY, client_certificate),
        test("registry::all_tags_go_and_come", REGISTRY, all_tags),
        test("registry::a_killed_pull_leaves_nothing_that_stays", FAKE, killed),
    ]
}

fn missing(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let fake = Fake::start("127.0.0.1", move |request| shelf.answer(request))?;
    let client = Client::new(host)?;
    let name = format!("{}/a/b:v1", fake.address);
    let run = |more: &[&str]| {
        client.call(&[&["run", "--rm", "--network", "none"], more, &[&*name, "echo", "hello"]].concat())
    };
    let output = run(&["--pull", "never"])?;
    assert!(output.code == 125 && output.stderr.contains("no such image"), "{output}");
    assert_eq!(fake.asked("GET", "").len(), 0);
    let output = run(&[])?.success()?;
    assert_eq!(output.stdout, "hello\n", "what is pulled is told elsewhere: {output}");
    assert!(output.stderr.contains(&format!("Unable to find image '{name}' locally")), "{output}");
    assert!(output.stderr.contains("Pull complete"), "{output}");
    let asked = fake.asked("GET", "").len();
    assert_eq!(run(&[])?.success()?.stderr, "");
    assert_eq!(fake.asked("GET", "").len(), asked, "what is there is not asked for");
    assert!(run(&["--pull", "always", "-q"])?.success()?.stderr.is_empty());
    assert!(fake.asked("GET", "").len() > asked);
    let output = run(&["--platform", "linux/s390x"])?;
    assert!(output.code == 125 && output.stderr.contains("has no image for linux/s390x"), "{output}");
    // An ID is nobody's name.
    let id = client.ok(&["images", "-q"])?;
    client.ok(&["run", "--rm", "--network", "none", "--pull", "always", &id, "true"])?;
    let output = client.call(&["run", "--rm", &format!("{}/a/b:v2", fake.address), "true"])?;
    assert!(output.code == 125 && output.stderr.contains("has no manifest v2"), "{output}");
    client.ok(&["rmi", "-f", &name])?;
    let context = host.new_dir()?;
    fs::write(context.join("Dockerfile"), format!("FROM {name}\nRUN touch /made\n"))?;
    let output = client.call(&["build", "--network", "none", "-t", "made", &context.to_string_lossy()])?;
    assert!(output.success()?.stderr.contains("Pull complete"));
    client.ok(&["run", "--rm", "--network", "none", "made", "test", "-e", "/made"])?;
    Ok(())
}

fn offline(host: &Host) -> Outcome {
    let client = Client::new(host)?;
    for (args, code) in
        [(["run", "--rm", "nowhere", "true"], 125), (["pull", "-q", "--explain", "nowhere"], 1)]
    {
        let output = client.call(&args)?;
        assert_eq!(output.code, code, "{output}");
        for words in ["is there a network?", "sampan load", "sampan import"] {
            assert!(output.stderr.contains(words), "{output}");
        }
    }
    let output = client.call(&["pull", "--explain", "nowhere"])?;
    let line = "GET https://registry-1.docker.io/v2/library/nowhere/manifests/latest";
    assert_eq!(output.stderr.matches(line).count(), 1, "told at once, and not after some tries: {output}");
    assert!(output.stderr.contains("the manifest: it names the config and the layers"), "{output}");
    Ok(())
}

fn passing(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let times = AtomicUsize::new(0);
    let fake = Fake::start("127.0.0.1", move |request| match times.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(503, "").header("retry-after", "1"),
        1 => Reply::new(500, ""),
        2 => Reply::default(),
        _ => shelf.answer(request),
    })?;
    let client = Client::new(host)?;
    let begun = Instant::now();
    client.ok(&["pull", &format!("{}/a/b:v1", fake.address)])?;
    assert_eq!(fake.asked("GET", "/v2/a/b/manifests/v1").len(), 4);
    assert!(begun.elapsed() > Duration::from_secs(2), "a second as asked, then one as it grows");
    let down = Fake::start("127.0.0.1", |_| Reply::new(502, "").header("retry-after", "0"))?;
    client.refused(&["pull", &format!("{}/a/b:v1", down.address)], &["answers 502", "manifest v1 of a/b"])?;
    assert_eq!(down.asked("GET", "/v2/a/b/").len(), 5);
    Ok(())
}

fn proxy(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let here = {
        let shelf = shelf.clone();
        Fake::start("127.0.0.1", move |request| shelf.answer(request))?
    };
    let proxy = Fake::start("127.0.0.1", |_| Reply::new(403, ""))?;
    let client = Client::new(host)?;
    client.settings("insecure-registries = [\"far.invalid:5000\"]")?;
    let pull = |name: &str, hosts: &str| {
        let command = host.cmd("sampan", client.store.args(&["pull", name])).env("HOME", &client.home);
        let command = command.env("XDG_CONFIG_HOME", client.home.join("config")).env("NO_PROXY", hosts);
        command.env("HTTPS_PROXY", format!("http://{}", proxy.address)).limit(Duration::from_secs(60)).run()
    };
    assert_eq!(pull("far.invalid:5000/a/b:v1", "")?.code, 1);
    let asked = proxy.asked("CONNECT", "far.invalid:5000").len();
    assert!(asked > 0);
    assert_eq!(pull("far.invalid:5000/a/b:v1", ".invalid")?.code, 1);
    assert_eq!(proxy.asked("CONNECT", "").len(), asked, "NO_PROXY names it");
    // As with Docker, networks can be named,
    far(host)?;
    client.settings("insecure-registries = [\"192.0.2.0/24\"]")?;
    let near = {
        let shelf = shelf.clone();
        Fake::start(FAR, move |request| shelf.answer(request))?
    };
    pull(&format!("{}/a/b:v1", near.address), "localhost, 192.0.2.0/24")?.success()?;
    assert_eq!(proxy.asked("CONNECT", "").len(), asked, "NO_PROXY names its network");
    // and what is on this machine needs nobody between.
    pull(&format!("{}/a/b:v1", here.address), "")?.success()?;
    assert_eq!(proxy.asked("GET", "").len(), 0);
    Ok(())
}

fn mirror(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let fake = Fake::start("127.0.0.1", move |request| {
        let mut request = request.clone();
        let Some(path) = request.path.strip_prefix("/cache/hub") else { return Reply::new(404, "") };
        request.path = path.to_owned();
        shelf.answer(&request)
    })?;
    let client = Client::new(host)?;
    client.settings(&format!(
        "registry-mirror = []\ndebug = true\n[mirrors]\n\"far.invalid\" = [\"http://{}/cache/hub/\"]",
        fake.address
    ))?;
    let output = client.call(&["pull", "far.invalid/a/b:v1"])?.success()?;
    assert_eq!(output.stderr.matches("warning: ").count(), 1, "{output}");
    assert!(output.stderr.contains("\"registry-mirror\": is \"registry-mirrors\" meant?"), "{output}");
    assert!(client.ok(&["images"])?.contains("far.invalid/a/b"));
    Ok(())
}

/// A helper as Docker's are: what it keeps is what it was given, beside itself.
const HELPER: &str = r#"#!/bin/sh
kept=$(dirname "$0")/kept
case $1 in
store) cat > "$kept" ;;
get) cat "$kept" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm "$kept" ;;
esac
"#;

fn identity(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let fake = Fake::start("127.0.0.1", move |request| {
        if request.path.starts_with("/token") {
            let password = request.header("authorization") == Some("Basic bWU6c2VjcmV0");
            let refresh = request.method == "POST" && request.body.contains("refresh_token=lasting");
            return match (password, refresh) {
                (true, _) if request.path.contains("offline_token=true") => {
                    Reply::new(200, r#"{"token":"t","refresh_token":"lasting"}"#)
                }
                (false, true) => Reply::new(200, r#"{"access_token":"t"}"#),
                _ => Reply::new(401, r#"{"details":"who are you?"}"#),
            };
        }
        if request.header("authorization") == Some("Bearer t") {
            return shelf.answer(request);
        }
        let host = request.header("host").unwrap_or_default();
        Reply::new(401, "").header(
            "www-authenticate",
            format!(r#"Bearer realm="http://{host}/token",service="class",scope="repository:a/b:pull""#),
        )
    })?;
    let client = Client::new(host)?;
    let programs = host.new_dir()?;
    let helper = programs.join("docker-credential-class");
    fs::write(&helper, HELPER)?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
    fs::create_dir_all(client.home.join(".docker"))?;
    let file = client.home.join(".docker/config.json");
    // Somebody logged in before there was a helper.
    let (old, other) = (json!({"auth": "bWU6b2xk"}), json!({"auth": "eDp5"}));
    let auths = json!({fake.address.clone(): old, "other.example": other});
    let text = json!({"credHelpers": {fake.address.clone(): "class"}, "auths": auths});
    fs::write(&file, text.to_string())?;
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
    let call = |args: &[&str], input: &str| {
        let command = host.cmd("sampan", client.store.args(args)).env("HOME", &client.home);
        command.env("PATH", &path).input(input).limit(Duration::from_secs(60)).run()
    };
    let login = ["login", "-u", "me", "--password-stdin", &fake.address];
    let output = call(&login, "secret")?.success()?;
    assert!(output.stdout.contains("Login Succeeded") && !output.stderr.contains("WARNING"), "{output}");
    let kept = fs::read_to_string(programs.join("kept"))?;
    assert!(kept.contains("lasting") && kept.contains("<token>") && !kept.contains("secret"), "{kept}");
    let text = json!({"credHelpers": {fake.address.clone(): "class"}, "auths": {"other.example": other}});
    let now: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
    assert_eq!(now, text, "the file has nothing of it, and all that is others'");
    call(&["pull", &format!("{}/a/b:v1", fake.address)], "")?.success()?;
    let asked = fake.asked("POST", "/token");
    assert!(asked[0].body.contains("grant_type=refresh_token"), "{asked:?}");
    call(&["logout", &fake.address], "")?.success()?;
    assert!(!programs.join("kept").exists());
    assert_eq!(call(&["pull", &format!("{}/a/b:v1", fake.address)], "")?.code, 1);
    Ok(())
}

fn client_certificate(host: &Host) -> Outcome {
    far(host)?;
    let folder = host.new_dir()?;
    certificate(host, &folder)?;
    let openssl = |words: &str| host.cmd("openssl", words.split(' ')).cwd(&folder).run()?.success();
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout me.key -out me.csr -subj /CN=me",
    )?;
    fs::write(folder.join("us"), "extendedKeyUsage=clientAuth\n")?;
    let sign = "x509 -req -in me.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out";
    openssl(&format!("{sign} old.cert"))?;
    openssl(&format!("{sign} me.cert -extfile us"))?;
    let tls = json!({"http": {"tls": {"certificate": folder.join("crt"), "key": folder.join("key"),
        "clientcas": [folder.join("ca.crt")]}}});
    let _registry = registry(host, &format!("{FAR}:5000"), &tls)?;
    let client = Client::new(host)?;
    let name = format!("{FAR}:5000/busybox:v1");
    client.store.import(&name)?;
    let certificates = client.home.join(format!("config/sampan/certs.d/{FAR}:5000"));
    fs::create_dir_all(&certificates)?;
    fs::copy(folder.join("ca.crt"), certificates.join("ca.crt"))?;
    assert_eq!(client.call(&["push", &name])?.code, 1, "it must ask who we are");
    fs::copy(folder.join("old.cert"), certificates.join("me.cert"))?;
    client.refused(&["push", &name], &["me.key"])?;
    fs::copy(folder.join("me.key"), certificates.join("me.key"))?;
    client.refused(&["push", &name], &["me.cert", "it cannot say who we are"])?;
    fs::copy(folder.join("me.cert"), certificates.join("me.cert"))?;
    client.ok(&["push", &name])?;
    Ok(())
}

fn killed(host: &Host) -> Outcome {
    let shelf = Shelf::new(host)?;
    let times = AtomicUsize::new(0);
    let fake = Fake::start("127.0.0.1", move |request| {
        let mut reply = shelf.answer(request);
        if request.path == shelf.layer && times.fetch_add(1, Ordering::SeqCst) == 0 {
            reply.length = Some(reply.body.len());
            reply.body.truncate(reply.body.len() / 2);
            reply.stalled = true;
        }
        reply
    })?;
    let client = Client::new(host)?;
    let (name, store) = (format!("{}/a/b:v1", fake.address), &client.store);
    let child = host.cmd("sampan", store.args(&["pull", &name])).env("HOME", &client.home).spawn()?;
    let begun =
        |prefix: &str| store.names("tmp").is_ok_and(|all| all.iter().any(|name| name.starts_with(prefix)));
    wait_until("half of it is here", Duration::from_secs(60), || begun("blob-") && begun("layer-"))?;
    child.signal(Signal::SIGKILL)?;
    child.wait()?;
    super::check(host, store)?;
    assert_eq!((client.ok(&["images", "-q"])?.as_str(), store.names("layers/sha256")?), ("", vec![]));
    client.ok(&["image", "prune", "-f"])?;
    assert_eq!((store.names("tmp")?, store.names("images/blobs/sha256")?), (vec![], vec![]));
    client.ok(&["pull", &name])?;
    super::check(host, store)
}

fn all_tags(host: &Host) -> Outcome {
    let _registry = registry(host, "127.0.0.1:5000", &json!({}))?;
    let (ours, other) = (Client::new(host)?, Client::new(host)?);
    ours.store.import("127.0.0.1:5000/a:v1")?;
    ours.ok(&["tag", "127.0.0.1:5000/a:v1", "127.0.0.1:5000/a:v2"])?;
    ours.ok(&["push", "-q", "--all-tags", "127.0.0.1:5000/a"])?;
    assert_eq!(ours.call(&["push", "-a", "127.0.0.1:5000/a:v1"])?.code, 1);
    assert_eq!(ours.call(&["push", "-a", "127.0.0.1:5000/none"])?.code, 1);
    let tags = |client: &Client<'_>| client.ok(&["images", "--format", "{{.Tag}}"]);
    other.ok(&["pull", "--all-tags", "127.0.0.1:5000/a"])?;
    assert_eq!(tags(&other)?, tags(&ours)?);
    // A name without a tag means all of them, as with Docker.
    let archive = host.new_dir()?.join("a.tar");
    other.ok(&["save", "-o", &archive.to_string_lossy(), "127.0.0.1:5000/a"])?;
    let third = Client::new(host)?;
    third.ok(&["load", "-i", &archive.to_string_lossy()])?;
    assert_eq!(tags(&third)?, tags(&ours)?);
    // By the digest, and by tag and digest.
    let digest = digest(host, "127.0.0.1:5000/a:v1")?;
    let fourth = Client::new(host)?;
    fourth.ok(&["pull", &format!("127.0.0.1:5000/a:v1@{digest}")])?;
    for name in [format!("127.0.0.1:5000/a@{digest}"), format!("127.0.0.1:5000/a:v1@{digest}")] {
        fourth.ok(&["run", "--rm", "--pull", "never", "--network", "none", &name, "true"])?;
    }
    let said = other.ok(&["search", "--limit", "1", "--format", "{{.Name}}", "127.0.0.1:5000/"])?;
    assert_eq!(said, "127.0.0.1:5000/a");
    assert_eq!(other.ok(&["search", "--filter", "stars=1", "--format", "json", "127.0.0.1:5000/"])?, "");
    for words in [["--limit", "101"], ["--filter", "colour=red"]] {
        assert_eq!(other.call(&["search", words[0], words[1], "127.0.0.1:5000/"])?.code, 1);
    }
    Ok(())
}
