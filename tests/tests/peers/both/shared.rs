//! Namespaces that are shared, and the network.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tests::{Outcome, ns_inode, wait_until};

use crate::peers::{Engine, Kind};

const SOON: Duration = Duration::from_secs(60);

pub(super) fn namespaces(engine: &Engine<'_>) -> Outcome {
    let own = i32::try_from(std::process::id())?;
    let inode = |seen: &Value, kind: &str| seen["namespaces"][kind].as_u64();
    let seen = engine.probe(&["--network", "none"])?;
    for (name, kind) in [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("mount", "mnt")]
    {
        assert_ne!(inode(&seen, name), Some(ns_inode(own, kind)?), "{name}");
    }
    assert_eq!(seen["pid"], 1);
    assert_eq!(seen["interfaces"].as_array().map(Vec::len), Some(1), "{}", seen["interfaces"]);
    let all = ["--pid", "host", "--ipc", "host", "--uts", "host", "--network", "host", "--cgroupns", "host"];
    let seen = engine.probe(&all)?;
    for (name, kind) in
        [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")]
    {
        assert_eq!(inode(&seen, name), Some(ns_inode(own, kind)?), "{name}");
    }
    let seen = engine.probe(&["--cgroupns", "private"])?;
    assert_ne!(inode(&seen, "cgroup"), Some(ns_inode(own, "cgroup")?));
    let at_root = |line: &Value| line.to_string().contains("\"/\"");
    assert!(seen["cgroups"].as_array().is_some_and(|lines| lines.iter().all(at_root)), "{}", seen["cgroups"]);
    engine.start("c1", &["--ipc", "shareable"], &["sleep", "100"])?;
    let pid = engine.pid("c1")?;
    let options = ["--pid", "container:c1", "--network", "container:c1", "--ipc", "container:c1"];
    let seen = engine.probe(&options)?;
    for (name, kind) in [("pid", "pid"), ("network", "net"), ("ipc", "ipc")] {
        assert_eq!(inode(&seen, name), Some(ns_inode(pid, kind)?), "{name}");
    }
    // Not the first one in its pid namespace, it can be killed, stopped and entered all the same.
    engine.start("c2", &options, &["sh", "-c", "sleep 77 & sleep 78"])?;
    assert_eq!(
        engine.ok(&["exec", "c2", "readlink", "/proc/self/ns/net"])?,
        format!("net:[{}]", ns_inode(pid, "net")?)
    );
    let processes = || engine.ok(&["exec", "c1", "ps"]).unwrap_or_default();
    wait_until("both are seen", SOON, || {
        processes().contains("sleep 77") && processes().contains("sleep 78")
    })?;
    engine.ok(&["rm", "-f", "c2"])?;
    // Nobody but the engine's runtime ends the second process, for no pid 1 went away.
    wait_until("both are gone", SOON, || !processes().contains("sleep 7"))?;
    Ok(())
}

pub(super) fn ports(engine: &Engine<'_>) -> Outcome {
    let options = ["-p", "8087:80", "--network-alias", "web"];
    let network = ["--network", "net1"];
    engine.ok(&["network", "create", "net1"])?;
    let serve = "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp";
    engine.start("c1", &[&options[..], &network[..]].concat(), &["sh", "-c", serve])?;
    wait_until("the port answers", SOON, || {
        get("127.0.0.1:8087").is_ok_and(|page| page.ends_with("hello\n"))
    })?;
    assert!(engine.ok(&["port", "c1"])?.contains("8087"));
    let hosts = engine.ok(&["exec", "c1", "cat", "/etc/hosts"])?;
    assert!(hosts.lines().count() > 1, "{hosts}");
    let field = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = engine.ok(&["inspect", "-f", field, "c1"])?;
    let page = engine.run(&network, &["wget", "-q", "-O-", &format!("http://{address}/")])?;
    assert_eq!(page, "hello");
    if engine.kind == Kind::Docker {
        // By the name, too.
        assert_eq!(engine.run(&network, &["wget", "-q", "-O-", "http://web/"])?, "hello");
    }
    engine.ok(&["restart", "-t", "0", "c1"])?;
    wait_until("it answers again", SOON, || {
        get("127.0.0.1:8087").is_ok_and(|page| page.ends_with("hello\n"))
    })?;
    engine.ok(&["rm", "-f", "c1"])?;
    engine.ok(&["network", "rm", "net1"])?;
    Ok(())
}

/// What an HTTP server answers.
pub(crate) fn get(address: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut page = String::new();
    let mut stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read_to_string(&mut page)?;
    Ok(page)
}
