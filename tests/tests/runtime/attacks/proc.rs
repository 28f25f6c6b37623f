//! Images that bring a `/proc`, a `/dev/null` or a terminal of their own making.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Host, Outcome, Test};

use super::super::{BIN, Bundle, ROOT, bind, id, script};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::attacks::a_volume_over_proc_by_a_link", needs: ROOT, run: a_volume_over_proc },
        Test { name: "runtime::attacks::proc_is_a_link", needs: ROOT, run: proc_is_a_link },
        Test { name: "runtime::attacks::dev_null_is_a_link", needs: ROOT, run: dev_null_is_a_link },
        Test { name: "runtime::attacks::the_console_is_the_terminal", needs: ROOT, run: the_console },
        Test { name: "runtime::attacks::a_crafted_devpts", needs: ROOT, run: a_crafted_devpts },
        Test {
            name: "runtime::attacks::settings_go_to_proc_alone",
            needs: ROOT,
            run: settings_go_to_proc_alone,
        },
    ]
}

/// Takes the mounts below `path` out of the configuration.
fn without(config: &mut Value, path: &str) {
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|at| at.starts_with(path)));
    }
}

/// A folder that looks like proc to whoever only writes to it.
pub(super) fn fake_proc(at: &Path) -> super::super::Result<()> {
    for (file, text) in [
        ("self/attr/exec", ""),
        ("self/status", "fake"),
        ("sys/net/ipv4/ip_forward", "fake"),
        ("sys/kernel/domainname", "fake"),
    ] {
        fs::create_dir_all(at.join(file).parent().unwrap_or(at))?;
        fs::write(at.join(file), text)?;
    }
    Ok(())
}

/// The image names a volume at /data, and /data leads to /proc: a mount there would hide what is masked, and what is written.
fn a_volume_over_proc(host: &Host) -> Outcome {
    let volume = host.new_dir()?;
    fake_proc(&volume)?;
    let rootfs = host.new_rootfs()?;
    for (link, target) in [("data", "/proc"), ("deep", "/proc/self"), ("long", "data")] {
        symlink(target, rootfs.join(link))?;
    }
    for destination in ["/data", "/deep/attr", "/long", "/data/sys", "/proc", "/tmp/../proc"] {
        let output = script(host, "cat /proc/self/status", |config| {
            config["root"]["path"] = json!(rootfs);
            bind(config, &volume, destination, &["rbind"]);
        })?;
        assert_ne!(output.code, 0, "{destination}: {output:?}");
        assert!(output.stdout.is_empty(), "{destination}: {output:?}");
    }
    let plain = script(host, "cat /plain/self/status", |config| bind(config, &volume, "/plain", &["rbind"]))?;
    assert_eq!(plain.stdout, "fake", "{plain:?}");
    Ok(())
}

/// /proc leads into a volume, where another container can move the mount away before it is masked.
fn proc_is_a_link(host: &Host) -> Outcome {
    let volume = host.new_dir()?;
    fs::create_dir_all(volume.join("level1/level2"))?;
    let rootfs = host.new_rootfs()?;
    for name in ["proc", "sys", "dev"] {
        let at = rootfs.join(name);
        fs::remove_dir(&at)?;
        symlink("/evil/level1/level2", &at)?;
        let output = script(host, "echo started", |config| {
            config["root"]["path"] = json!(rootfs);
            if let Some(mounts) = config["mounts"].as_array_mut() {
                mounts.insert(
                    0,
                    json!({ "destination": "/evil", "type": "bind", "source": volume, "options": ["rbind"] }),
                );
            }
        })?;
        assert_ne!(output.code, 0, "/{name}: {output:?}");
        assert!(output.stdout.is_empty() && output.stderr.contains("ELOOP"), "/{name}: {output:?}");
        fs::remove_file(&at)?;
        fs::create_dir(&at)?;
    }
    script(host, "echo started", |config| config["root"]["path"] = json!(rootfs))?.success()?;
    Ok(())
}

/// An image, or a volume at /dev, says what /dev/null is: it must not be what files are masked with.
fn dev_null_is_a_link(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    let dev = rootfs.join("dev");
    let _ = fs::remove_dir_all(&dev);
    fs::create_dir(&dev)?;
    symlink("/proc/sys/kernel/core_pattern", dev.join("null"))?;
    let refused = |expected: &str, volume: Option<&Path>| -> Outcome {
        let output = script(host, "cat /proc/keys", |config| {
            config["root"]["path"] = json!(rootfs);
            without(config, "/dev");
            if let Some(volume) = volume {
                bind(config, volume, "/dev", &["rbind"]);
            }
        })?;
        assert_ne!(output.code, 0, "{output:?}");
        assert!(output.stdout.is_empty() && output.stderr.contains(expected), "{output:?}");
        Ok(())
    };
    refused("mknod /dev/null c 1 3: EEXIST", None)?;
    // No devices are made in a folder of the host's.
    let volume = host.new_dir()?;
    symlink("/proc/sys/kernel/core_pattern", volume.join("null"))?;
    refused("/dev/null is not the device 1:3", Some(&volume))
}

/// What lies at /dev/console is the terminal that the container was given, and on a devpts.
fn the_console(host: &Host) -> Outcome {
    let text = "stat -c 'is %t:%T of %F' /dev/console; grep ' /dev/console ' /proc/self/mountinfo | cut -d' ' -f4,9-; readlink /proc/self/fd/0";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
        config["process"]["terminal"] = json!(true);
    })?;
    let arguments = tests::args!["--root", &bundle.state, "run", "--bundle", &bundle.folder, id("c")];
    let mut terminal = host.terminal(BIN, arguments)?;
    terminal.expect("is 88:0 of character special file")?;
    terminal.expect("/0")?;
    terminal.expect("devpts")?;
    assert_eq!(terminal.wait()?, 0);
    Ok(())
}

/// A volume in the place of /dev/pts: where the terminal comes from, and where it is found, is the attacker's.
fn a_crafted_devpts(host: &Host) -> Outcome {
    for target in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/fd/7", "/etc/passwd"] {
        let volume = host.new_dir()?;
        for name in ["ptmx", "0", "1"] {
            symlink(target, volume.join(name))?;
        }
        let bundle = Bundle::new(host, &["/bin/sh", "-c", "cat /dev/console; echo started"], |config| {
            config["process"]["terminal"] = json!(true);
            without(config, "/dev/pts");
            bind(config, &volume, "/dev/pts", &["rbind"]);
        })?;
        let arguments = tests::args!["--root", &bundle.state, "run", "--bundle", &bundle.folder, id("c")];
        let mut terminal = host.terminal(BIN, arguments)?;
        let shown = terminal.expect("error").unwrap_or_default();
        assert_ne!(terminal.wait()?, 0, "{target}");
        assert!(!shown.contains("started"), "{target}: {shown}");
    }
    Ok(())
}

/// Settings are written into what only looks like proc: nothing must be changed, and nobody told that it was.
fn settings_go_to_proc_alone(host: &Host) -> Outcome {
    const FILE: &str = "sys/net/ipv4/ip_forward";
    let victim = host.new_dir()?.join("victim");
    fs::write(&victim, "fake")?;
    let rootfs = host.new_rootfs()?;
    let fake = rootfs.join("proc");
    fake_proc(&fake)?;
    let run = |edit: &dyn Fn(&mut Value)| {
        script(host, "echo started", |config| {
            config["root"]["path"] = json!(rootfs);
            config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
            edit(config);
        })
    };
    let no_proc = |config: &mut Value| {
        without(config, "/proc");
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    };
    let with_victim = |config: &mut Value| {
        no_proc(config);
        bind(config, victim.parent().unwrap_or(Path::new("/")), "/host", &["rbind"]);
    };
    assert_ne!(run(&no_proc)?.code, 0);
    assert_eq!(fs::read_to_string(fake.join(FILE))?, "fake");
    fs::remove_file(fake.join(FILE))?;
    symlink("/host/victim", fake.join(FILE))?;
    assert_ne!(run(&with_victim)?.code, 0);
    assert_eq!(fs::read_to_string(&victim)?, "fake");
    // On proc itself a part may be covered by something else: LXCFS does that, and an attacker could.
    assert_eq!(run(&|_| {})?.success()?.stdout, "started\n");
    Ok(())
}
