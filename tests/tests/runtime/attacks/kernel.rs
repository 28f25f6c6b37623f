//! Doors of the kernel's that have no namespace: helpers that it runs on the host, and devices.

use std::fs;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test};

use super::super::{Bundle, ROOT, bind, script};

pub(super) fn tests() -> Vec<Test> {
    const V1: &[Need] = &[Need::Root, Need::Rootfs, Need::CgroupV1("pids")];
    vec![
        Test { name: "runtime::attacks::the_release_agent", needs: V1, run: the_release_agent },
        Test { name: "runtime::attacks::core_pattern", needs: ROOT, run: core_pattern },
        Test { name: "runtime::attacks::a_made_node_opens_nothing", needs: ROOT, run: a_made_node },
        Test {
            name: "runtime::attacks::a_node_of_the_image_opens_nothing",
            needs: ROOT,
            run: a_node_of_the_image,
        },
        Test {
            name: "runtime::attacks::a_node_where_a_device_is_asked_for",
            needs: ROOT,
            run: a_node_where_a_device_is_asked_for,
        },
    ]
}

/// `release_agent` is a file of the root of a version 1 hierarchy. Mount one, in namespaces of one's own if need be, and write it.
/// It is only opened here, or it would be the host's that is changed where the attack succeeds.
fn the_release_agent(host: &Host) -> Outcome {
    let text = "for f in /sys/fs/cgroup/*/release_agent; do (: >> $f) 2>/dev/null && echo RISK $f; done
        attack='mkdir -p /tmp/cg; mount -t cgroup -o pids cgroup /tmp/cg && (: >> /tmp/cg/release_agent) && echo RISK'
        sh -c \"$attack\" 2>/dev/null
        unshare -r -m -p sh -c \"$attack\" 2>/dev/null && echo RISK in a user namespace
        echo end";
    assert_eq!(script(host, text, |_| {})?.success()?.stdout, "end\n");
    // Without the filter a user namespace can be made. With a cgroup namespace of the container's the root of the hierarchy is out
    // of reach there too.
    let unfiltered = |config: &mut Value| config["linux"]["seccomp"] = json!(null);
    assert_eq!(script(host, text, unfiltered)?.success()?.stdout, "end\n");
    let open = script(host, text, |config| {
        unfiltered(config);
        let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        for set in ["bounding", "permitted", "effective"] {
            config["process"]["capabilities"][set] = all.clone();
        }
        if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
        }
    })?;
    assert!(open.stdout.contains("RISK"), "the attack does not work where nothing is in its way: {open:?}");
    Ok(())
}

/// A pattern that begins with `|` is a program, which the kernel runs on the host as root.
fn core_pattern(host: &Host) -> Outcome {
    let text = "f=/proc/sys/kernel/core_pattern; (: >> $f) 2>/dev/null && echo RISK
        umount /proc/sys 2>/dev/null && echo RISK umount; mount -o remount,bind,rw /proc/sys 2>/dev/null && echo RISK remount
        mkdir -p /tmp/p; mount -t proc proc /tmp/p 2>/dev/null && (: >> /tmp/p/sys/kernel/core_pattern) && echo RISK proc
        unshare -r -m -p -f sh -c 'mount -t proc proc /tmp/p && (: >> /tmp/p/sys/kernel/core_pattern)' 2>/dev/null && echo RISK user
        echo end";
    assert_eq!(script(host, text, |_| {})?.success()?.stdout, "end\n");
    let unfiltered = |config: &mut Value| config["linux"]["seccomp"] = json!(null);
    assert_eq!(script(host, text, unfiltered)?.success()?.stdout, "end\n");
    let open = script(host, text, |config| config["linux"]["readonlyPaths"] = json!([]))?;
    assert!(open.stdout.contains("RISK"), "{open:?}");
    Ok(())
}

/// 1:11 is /dev/kmsg, which root may always open to write: what refuses is neither the driver nor the mode.
const OPEN: &str = "for d in / /dev /dev/shm /tmp /run /data; do test -d $d || continue
    mknod $d/log c 1 11 && (: > $d/log) 2>/dev/null && echo RISK $d; rm -f $d/log; done
    head -c3 /dev/zero | wc -c";

fn a_made_node(host: &Host) -> Outcome {
    let volume = host.new_dir()?;
    let mounts = |config: &mut Value| {
        bind(config, &volume, "/data", &["rbind", "dev"]);
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.push(
                json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["dev"] }),
            );
        }
    };
    assert_eq!(script(host, OPEN, mounts)?.success()?.stdout, "3\n");
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], mounts)?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    assert_eq!(bundle.call(&["exec", "c", "/bin/sh", "-c", OPEN])?.success()?.stdout, "3\n");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    let open = script(host, OPEN, |config| {
        mounts(config);
        config["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
    })?;
    assert!(open.stdout.contains("RISK /data"), "{open:?}");
    Ok(())
}

/// The archive of an image may hold nodes, and root unpacks them.
fn a_node_of_the_image(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    let every = Mode::from_bits_truncate(0o666);
    mknod(&rootfs.join("log"), SFlag::S_IFCHR, every, makedev(1, 11))?;
    let run = |edit: &dyn Fn(&mut Value)| {
        script(host, "(: > /log) 2>/dev/null && echo RISK; true", |config| {
            config["root"]["path"] = json!(rootfs);
            edit(config);
        })
    };
    assert_eq!(run(&|_| {})?.stdout, "");
    let all = |config: &mut Value| {
        config["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
    };
    assert_eq!(run(&all)?.stdout, "RISK\n", "it is a device where all are allowed");
    Ok(())
}

/// The configuration asks for a device where the image has one with other numbers already: what is allowed by name would be
/// another. And where the image has a link, its target would get the device's mode and owner: a file of the host's.
fn a_node_where_a_device_is_asked_for(host: &Host) -> Outcome {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let asked = json!([{ "path": "/opt/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o666, "uid": 77, "gid": 77 }]);
    let secret = host.new_dir()?.join("secret");
    fs::write(&secret, "secret")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let other = host.new_rootfs()?;
    mknod(&other.join("opt/full"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5))?;
    let link = host.new_rootfs()?;
    symlink(&secret, link.join("opt/full"))?;
    for rootfs in [&other, &link] {
        let output = script(host, "head -c1 /opt/full | wc -c", |config| {
            config["root"]["path"] = json!(rootfs);
            config["linux"]["devices"] = asked.clone();
        })?;
        assert_ne!(output.stdout, "1\n", "another device than the one that was allowed: {output:?}");
    }
    let about = fs::metadata(&secret)?;
    assert_eq!((about.mode() & 0o777, about.uid()), (0o600, 0), "a file of the host's has changed hands");
    let plain =
        script(host, "ls -ln /opt/full", |config| config["linux"]["devices"] = asked.clone())?.success()?;
    assert!(plain.stdout.contains("77") && plain.stdout.contains("1,   7"), "{plain:?}");
    Ok(())
}
