//! Podman as an ordinary user: our runtime in a user namespace that Podman has made.
//!
//! Where cgroups are of version 1, an ordinary user has none, so nothing is limited or paused here.

use std::time::Duration;

use serde_json::Value;
use tests::{Host, Need, Outcome, Test, wait_until};

use super::both::get;
use super::engine::{Engine, IMAGE, Kind};

const SOON: Duration = Duration::from_secs(60);
const USER: &[Need] = &[
    Need::Root,
    Need::UserNamespaces,
    Need::SubordinateIds,
    Need::Rootfs,
    Need::Tun0666,
    Need::Program("/usr/bin/podman"),
    Need::Program("conmon"),
    Need::Program("slirp4netns"),
];

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "peers::podman_by_a_user", needs: USER, run: |host| with(host, lives) },
        Test { name: "peers::podman_by_a_user_maps_ids", needs: USER, run: |host| with(host, maps) },
        Test { name: "peers::podman_by_a_user_has_a_network", needs: USER, run: |host| with(host, network) },
    ]
}

fn with(host: &Host, test: fn(&Engine<'_>) -> Outcome) -> Outcome {
    let user = host.as_user();
    let engine = Engine::new(&user, Kind::Podman)?;
    test(&engine)?;
    engine.end()
}

fn lives(engine: &Engine<'_>) -> Outcome {
    assert_eq!(engine.run(&[], &["echo", "hello"])?, "hello");
    engine.call(&["run", "--rm", IMAGE, "sh", "-c", "exit 7"])?.expect(7)?;
    let nope = engine.call(&["run", "--rm", IMAGE, "nope"])?.expect(127)?;
    assert!(nope.stderr.contains("executable file not found in $PATH"), "{nope}");
    let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    engine.start("c1", &["--init"], &["sh", "-c", script])?;
    wait_until("it says so", SOON, || engine.ok(&["logs", "c1"]).is_ok_and(|log| log == "ready"))?;
    // Nobody in it is root outside.
    assert_eq!(super::status(engine.pid("c1")?, "Uid")?.split('\t').next(), Some("12345"));
    assert!(engine.ok(&["top", "c1"])?.contains("sleep 0.05"));
    assert_eq!(engine.ok(&["exec", "--user", "7:8", "c1", "sh", "-c", "id -u; id -g"])?, "7\n8");
    engine.call(&["exec", "c1", "nope"])?.expect(127)?;
    let mut second = engine.terminal(&["exec", "-it", "c1", "sh"])?;
    second.send("tty; stty size; exit 4\n")?;
    second.expect("/dev/pts/")?;
    second.expect("24 80")?;
    assert_eq!(second.wait()?, 4);
    engine.ok(&["stop", "-t", "10", "c1"])?;
    assert_eq!(engine.ok(&["wait", "c1"])?, "5");
    engine.ok(&["start", "c1"])?;
    engine.ok(&["kill", "-s", "KILL", "c1"])?;
    assert_eq!(engine.ok(&["wait", "c1"])?, "137");
    let mut terminal = engine.terminal(&["run", "--rm", "-it", IMAGE, "sh"])?;
    terminal.send("tty; stty size; exit 3\n")?;
    terminal.expect("/dev/pts/0")?;
    terminal.expect("24 80")?;
    assert_eq!(terminal.wait()?, 3);
    Ok(())
}

fn maps(engine: &Engine<'_>) -> Outcome {
    let ids = |seen: &Value| (seen["uid"].as_u64(), seen["gid"].as_u64());
    let seen = engine.probe(&[])?;
    assert_eq!(ids(&seen), (Some(0), Some(0)));
    assert_eq!(seen["uid_map"], serde_json::json!([[0, 12345, 1], [1, 200_000, 65536]]));
    assert_eq!(seen["seccomp"]["mode"], 2);
    let seen = engine.probe(&["--userns", "keep-id", "--hostname", "boat"])?;
    assert_eq!(ids(&seen), (Some(12345), Some(12345)));
    assert_eq!(seen["hostname"], "boat");
    assert_eq!(ids(&engine.probe(&["--user", "1000:1001"])?), (Some(1000), Some(1001)));
    let folder = engine.host.new_dir()?;
    let volume = format!("{}:/data", folder.display());
    engine.run(&["--userns", "keep-id", "-v", &volume], &["touch", "/data/mine"])?;
    engine
        .run(&["-v", &volume, "--user", "1000"], &["sh", "-c", "touch /data/others 2>/dev/null || true"])?;
    let owner =
        |name| std::fs::metadata(folder.join(name)).map(|about| std::os::unix::fs::MetadataExt::uid(&about));
    assert_eq!(owner("mine")?, 12345);
    assert!(owner("others").is_err());
    let write = engine.run(
        &["--read-only", "--tmpfs", "/scratch"],
        &["sh", "-c", "exec 2>&1; touch /scratch/x; touch /x || true"],
    )?;
    assert!(write.contains("Read-only") && write.lines().count() == 1, "{write}");
    Ok(())
}

fn network(engine: &Engine<'_>) -> Outcome {
    let none = engine.probe(&["--network", "none"])?;
    assert_eq!(none["interfaces"].as_array().map(Vec::len), Some(1), "{}", none["interfaces"]);
    let serve = "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp";
    engine.start("c1", &["-p", "8088:80"], &["sh", "-c", serve])?;
    wait_until("the port answers", SOON, || {
        get("127.0.0.1:8088").is_ok_and(|page| page.ends_with("hello\n"))
    })?;
    let page = engine.run(&["--network", "container:c1"], &["wget", "-q", "-O-", "http://127.0.0.1/"])?;
    assert_eq!(page, "hello");
    let seen = engine.probe(&["--pid", "container:c1", "--uts", "host"])?;
    let pid = engine.pid("c1")?;
    assert_eq!(seen["namespaces"]["pid"].as_u64(), Some(tests::ns_inode(pid, "pid")?));
    assert_ne!(seen["pid"], 1);
    Ok(())
}
