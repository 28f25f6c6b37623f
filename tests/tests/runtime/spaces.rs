//! Namespaces: made, joined by a path, and the host's; and links of the host's that become the container's.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test, ns_inode, wait_until};

use super::{Bundle, ROOT, Result, script, status};

const SOON: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::namespaces_by_path", needs: ROOT, run: by_path },
        Test { name: "runtime::a_user_namespace_by_path", needs: ROOT, run: user_by_path },
        Test { name: "runtime::clocks_of_its_own", needs: ROOT, run: clocks },
        Test { name: "runtime::the_hosts_namespaces", needs: ROOT, run: the_hosts },
        Test { name: "runtime::what_would_change_the_host_is_refused", needs: ROOT, run: refused },
        Test { name: "runtime::no_mount_namespace", needs: ROOT, run: no_mount_namespace },
        Test {
            name: "runtime::a_link_of_the_hosts",
            needs: &[Need::Root, Need::Rootfs, Need::Bridge, Need::Program("ip")],
            run: links,
        },
        Test { name: "runtime::settings_in_both_forms", needs: ROOT, run: settings },
    ]
}

/// Starts "c", which sleeps.
fn sleeping<'a>(host: &'a Host, edit: impl FnOnce(&mut Value)) -> Result<(Bundle<'a>, i32)> {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], edit)?;
    bundle.call(&["create", "c"])?.success()?;
    bundle.call(&["start", "c"])?.success()?;
    let pid = bundle.pid("c")?;
    wait_until("it runs", SOON, || tests::ask::command_line(pid).starts_with("/bin/sleep"))?;
    Ok((bundle, pid))
}

/// Has these kinds entered where `pid` is, and leaves the others as they are.
fn join(config: &mut Value, pid: i32, kinds: &[(&str, &str)]) {
    let Some(all) = config["linux"]["namespaces"].as_array_mut() else { return };
    all.retain(|namespace| !kinds.iter().any(|(kind, _)| namespace["type"] == *kind));
    all.extend(
        kinds.iter().map(|(kind, file)| json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") })),
    );
}

/// In the bundle of `first`, and called "d".
fn beside(first: &Bundle<'_>, edit: impl FnOnce(&mut Value)) -> Result<i32> {
    first.rewrite(&["/bin/sleep", "100"], edit)?;
    first.call(&["create", "d"])?.success()?;
    first.call(&["start", "d"])?.success()?;
    let pid = first.pid("d")?;
    wait_until("it runs", SOON, || tests::ask::command_line(pid).starts_with("/bin/sleep"))?;
    Ok(pid)
}

const JOINED: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn by_path(host: &Host) -> Outcome {
    let (bundle, first) = sleeping(host, |config| {
        if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
            all.push(json!({ "type": "time" }));
        }
    })?;
    let second = beside(&bundle, |config| {
        join(config, first, &JOINED);
        config["hostname"] = json!("second");
    })?;
    for (_, kind) in JOINED {
        assert_eq!(ns_inode(second, kind)?, ns_inode(first, kind)?, "{kind}");
    }
    assert_ne!(ns_inode(second, "mnt")?, ns_inode(first, "mnt")?);
    assert_ne!(status(second, "NSpid")?.split_whitespace().last(), Some("1"), "pid 1 is the other's");
    // The name of the namespace that both are in.
    assert_eq!(bundle.call(&["exec", "c", "/bin/hostname"])?.success()?.stdout.trim(), "second");
    // A third process, of exec, is in all of them too.
    let text = "for kind in pid net ipc uts cgroup time mnt; do readlink /proc/self/ns/$kind; done";
    let seen = bundle.call(&["exec", "d", "/bin/sh", "-c", text])?.success()?.stdout;
    for (line, kind) in seen.lines().zip(["pid", "net", "ipc", "uts", "cgroup", "time", "mnt"]) {
        assert!(line.contains(&ns_inode(second, kind)?.to_string()), "{kind} {line}");
    }
    for id in ["d", "c"] {
        bundle.call(&["delete", "--force", id])?.success()?;
    }
    let wrong =
        script(host, "true", |config| join(config, std::process::id().cast_signed(), &[("ipc", "uts")]))?;
    assert!(wrong.expect(1)?.stderr.contains("is a uts namespace, and not a ipc namespace"));
    let none = script(host, "true", |config| {
        join(config, 1, &[("ipc", "ipc")]);
        config["linux"]["namespaces"][0]["path"] = json!("/dev/null");
    })?;
    assert!(none.expect(1)?.stderr.contains("is no namespace"));
    Ok(())
}

/// The second is in the user namespace of the first, and in what belongs to it.
fn user_by_path(host: &Host) -> Outcome {
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let (bundle, first) = sleeping(host, |config| {
        if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
            all.push(json!({ "type": "user" }));
        }
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps.clone();
    })?;
    let second = beside(&bundle, |config| {
        join(config, first, &[("user", "user"), ("network", "net"), ("ipc", "ipc")]);
    })?;
    for kind in ["user", "net", "ipc"] {
        assert_eq!(ns_inode(second, kind)?, ns_inode(first, kind)?, "{kind}");
    }
    assert_eq!(status(second, "Uid")?.split_whitespace().next(), Some("100000"));
    assert_eq!(status(second, "CapEff")?, status(first, "CapEff")?);
    let seen =
        bundle.call(&["exec", "d", "/bin/sh", "-c", "id -u; readlink /proc/self/ns/user"])?.success()?;
    assert!(seen.stdout.starts_with("0\n") && seen.stdout.contains(&ns_inode(first, "user")?.to_string()));
    for id in ["d", "c"] {
        bundle.call(&["delete", "--force", id])?.success()?;
    }
    Ok(())
}

/// Ahead by an hour and a day, seen by the first process and by one of exec.
fn clocks(host: &Host) -> Outcome {
    let (bundle, pid) = sleeping(host, |config| {
        if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
            all.push(json!({ "type": "time" }));
        }
        config["linux"]["timeOffsets"] =
            json!({ "monotonic": { "secs": 3600, "nanosecs": 5 }, "boottime": { "secs": 86400 } });
    })?;
    let offsets = fs::read_to_string(format!("/proc/{pid}/timens_offsets"))?;
    let offsets: Vec<_> = offsets.split_whitespace().collect();
    assert_eq!(offsets, ["monotonic", "3600", "5", "boottime", "86400", "0"]);
    let uptime = |text: &str| text.split('.').next().and_then(|whole| whole.parse::<u64>().ok());
    let inside = uptime(&bundle.call(&["exec", "c", "/bin/cat", "/proc/uptime"])?.success()?.stdout);
    let outside = uptime(&fs::read_to_string("/proc/uptime")?);
    assert!(inside.zip(outside).is_some_and(|(inside, outside)| inside + 60 > outside + 86400), "{inside:?}");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn the_hosts(host: &Host) -> Outcome {
    let kinds = ["pid", "network", "ipc", "uts", "cgroup"];
    let (bundle, pid) = sleeping(host, |config| {
        if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
            all.retain(|namespace| !kinds.iter().any(|kind| namespace["type"] == *kind));
        }
        config["hostname"] = Value::Null;
    })?;
    let own = std::process::id().cast_signed();
    for kind in ["pid", "net", "ipc", "uts", "cgroup"] {
        assert_eq!(ns_inode(pid, kind)?, ns_inode(own, kind)?, "{kind}");
    }
    let seen = bundle.call(&["exec", "c", "/bin/readlink", "/proc/self/ns/mnt"])?.success()?.stdout;
    assert!(seen.contains(&ns_inode(pid, "mnt")?.to_string()));
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

/// Without the namespace the field would be the host's.
fn refused(host: &Host) -> Outcome {
    for (kind, field, value) in [
        ("uts", "hostname", json!("x")),
        ("uts", "domainname", json!("x")),
        ("mount", "mounts", json!([{ "destination": "/tmp", "type": "tmpfs" }])),
    ] {
        let output = script(host, "true", |config| {
            if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
                all.retain(|namespace| namespace["type"] != kind);
            }
            config["hostname"] = Value::Null;
            config[field] = value;
        })?;
        let stderr = output.expect(1)?.stderr;
        assert!(
            stderr.contains(&format!("config: {field}: the container shares the host's {kind} namespace")),
            "{stderr}"
        );
    }
    let output = script(host, "true", |config| {
        config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1 } });
    })?;
    assert!(output.expect(1)?.stderr.contains("config: linux.timeOffsets"));
    Ok(())
}

/// A root directory of its own, and nothing mounted.
fn no_mount_namespace(host: &Host) -> Outcome {
    let (bundle, pid) = sleeping(host, |config| {
        if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
            all.retain(|namespace| namespace["type"] != "mount");
        }
        for list in ["maskedPaths", "readonlyPaths"] {
            config["linux"][list] = Value::Null;
        }
        config["root"]["readonly"] = json!(false);
        config["mounts"] = json!([]);
    })?;
    assert_eq!(ns_inode(pid, "mnt")?, ns_inode(std::process::id().cast_signed(), "mnt")?);
    assert_eq!(fs::read_link(format!("/proc/{pid}/root"))?, fs::canonicalize(bundle.rootfs()?)?);
    let second = bundle.call(&["exec", "c", "/bin/true"])?;
    assert!(second.code != 0 && second.stderr.contains("config: linux.namespaces"), "{second:?}");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

/// With its addresses, under another name, switched on; and gone from the host.
fn links(host: &Host) -> Outcome {
    let ip = |words: &str| -> Result<()> { host.command("ip", words.split(' '))?.success().map(drop) };
    ip("link add moved0 type veth peer name moved1")?;
    ip("address add 192.0.2.7/24 dev moved0")?;
    ip("address add 2001:db8::7/64 dev moved0 nodad")?;
    let (bundle, pid) = sleeping(host, |config| {
        config["linux"]["netDevices"] = json!({ "moved0": { "name": "data0" }, "moved1": {} });
    })?;
    let inside = |words: &str| -> Result<Value> {
        let all = format!("--target {pid} --net ip -j {words}");
        host.command("nsenter", all.split(' '))?.success()?.json()
    };
    let link = inside("address show dev data0")?;
    assert!(link[0]["flags"].as_array().is_some_and(|flags| flags.contains(&json!("UP"))), "{link}");
    let addresses: Vec<_> =
        link[0]["addr_info"].as_array().into_iter().flatten().map(|it| it["local"].clone()).collect();
    assert!(
        addresses.contains(&json!("192.0.2.7")) && addresses.contains(&json!("2001:db8::7")),
        "{addresses:?}"
    );
    assert_eq!(inside("link show dev moved1")?[0]["ifname"], "moved1");
    assert!(!fs::read_to_string("/proc/net/dev")?.contains("moved0"));
    bundle.call(&["delete", "--force", "c"])?.success()?;
    for (json, said) in [
        (json!({ "nosuch0": {} }), "RTM_GETLINK nosuch0"),
        (json!({ "lo": { "name": "x0" } }), "RTM_SETLINK lo netns"),
        (json!({ "lo": { "name": "a/b" } }), "config: linux.netDevices.lo"),
    ] {
        let output = script(host, "true", |config| config["linux"]["netDevices"] = json)?.expect(1)?;
        assert!(output.stderr.contains(said), "{output:?}");
    }
    Ok(())
}

fn settings(host: &Host) -> Outcome {
    let text = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/forwarding /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max /proc/sys/kernel/domainname";
    let output = script(host, text, |config| {
        config["linux"]["sysctl"] = json!({
            "net.ipv4.conf.lo.forwarding": "1",
            "net/ipv4/ip_forward": "1",
            "kernel.msgmax": "4711",
            "fs.mqueue.msg_max": "17",
            "kernel.domainname": "nis",
        });
    })?;
    assert_eq!(output.success()?.stdout, "1\n1\n4711\n17\nnis\n");
    for (kind, name) in
        [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.shmmax"), ("uts", "kernel.domainname")]
    {
        let output = script(host, "true", |config| {
            if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
                all.retain(|namespace| namespace["type"] != kind);
            }
            config["hostname"] = Value::Null;
            config["linux"]["sysctl"] = json!({ name: "1" });
        })?;
        assert!(output.expect(1)?.stderr.contains(&format!("it belongs to the {kind} namespace")));
    }
    Ok(())
}
