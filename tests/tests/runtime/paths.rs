//! Where mounts and devices are put in an image that has something else there: links, files, other devices.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};
use tests::{Host, Outcome, Test};

use super::{Bundle, ROOT, Result, USER, bind, script};

pub(super) fn tests() -> Vec<Test> {
    let root = |name, run| Test { name, needs: ROOT, run };
    let user = |name, run| Test { name, needs: USER, run };
    vec![
        root("runtime::links_are_followed_inside", links),
        user("runtime::user_links_are_followed_inside", |host| links(&host.as_user())),
        root("runtime::what_cannot_be_a_mount_point_says_so", not_a_mount_point),
        root("runtime::proc_and_sys_are_where_they_are_looked_for", proc_behind_a_link),
        root("runtime::nothing_covers_proc", nothing_covers_proc),
        user("runtime::user_a_given_device_is_the_hosts", |host| borrowed(&host.as_user())),
        user("runtime::user_a_device_that_is_not_there_says_so", |host| not_to_borrow(&host.as_user())),
        root("runtime::every_type_of_device", every_type),
        root("runtime::something_else_in_a_devices_place", another_node),
        root("runtime::devices_are_made_in_the_images_dev_too", image_dev),
        root("runtime::masked_directories_share_one_tmpfs", one_tmpfs),
    ]
}

fn tmpfs(config: &mut Value, target: &str) {
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(json!({ "destination": target, "type": "tmpfs", "source": "tmpfs" }));
    }
}

fn devices(config: &mut Value, devices: Value) {
    config["linux"]["devices"] = devices;
}

/// A configuration without a mount for `/dev`.
fn image_dev(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    let text = "stat -c '%n %a %t:%T' /dev/null /dev/fuse; readlink /dev/fd; cat /proc/kcore | wc -c; \
        mknod /tmp/disk b 254 0; head -c 1 /tmp/disk";
    let edit = |config: &mut Value| {
        config["root"]["path"] = json!(rootfs);
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
        }
        devices(
            config,
            json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666 }]),
        );
    };
    for _ in 0..2 {
        let output = script(host, text, edit)?;
        assert_eq!(output.stdout, "/dev/null 666 1:3\n/dev/fuse 666 a:e5\n/proc/self/fd\n0\n", "{output:?}");
        assert!(output.stderr.contains("/tmp/disk: "), "{output:?}");
        fs::remove_file(rootfs.join("tmp/disk"))?;
    }
    // What the image has in a device's place is not taken for it, and not followed.
    let outside = host.new_dir()?.join("file");
    fs::write(&outside, "")?;
    fs::remove_file(rootfs.join("dev/null"))?;
    symlink(&outside, rootfs.join("dev/null"))?;
    let output = script(host, text, edit)?.expect(1)?;
    assert!(output.stderr.contains("/dev/null") && output.stderr.contains("EEXIST"), "{output:?}");
    assert_eq!(fs::metadata(&outside)?.permissions().mode() & 0o777, 0o644);
    Ok(())
}

/// Absolute and relative links, in the middle and at the end, to what is there and to what is not.
fn links(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    for (link, target) in [
        ("abs", "/inner"),
        ("rel", "../../../../inner"),
        ("gone", "/not/yet/there"),
        ("climbs", "../../../../../../../run/outside"),
        ("twice", "gone/further"),
        ("file", "gone-file"),
    ] {
        symlink(target, rootfs.join(link))?;
    }
    let volume = host.new_dir()?;
    fs::write(volume.join("f"), "text")?;
    let text = "for d in /inner/a /inner/b /not/yet/there/c /run/outside/d /not/yet/there/further/e; do grep -q \" $d \" /proc/self/mountinfo || echo no $d; done
        cat /gone-file; cat /inner/deep/er/f";
    let output = script(host, text, |config| {
        config["root"]["path"] = json!(rootfs);
        for target in ["/abs/a", "/rel/b", "/gone/c", "/climbs/d", "/twice/e"] {
            tmpfs(config, target);
        }
        bind(config, &volume.join("f"), "/file", &["bind"]);
        bind(config, &volume, "/abs/deep/er", &["rbind"]);
    })?;
    assert_eq!(output.success()?.stdout, "texttext");
    assert!(!Path::new("/run/outside").exists() && !Path::new("/not").exists());
    Ok(())
}

fn not_a_mount_point(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    fs::write(rootfs.join("a-file"), "")?;
    symlink("loop-b", rootfs.join("loop-a"))?;
    symlink("loop-a", rootfs.join("loop-b"))?;
    let volume = host.new_dir()?;
    fs::write(volume.join("f"), "")?;
    let file = volume.join("f");
    for (source, target, errno) in [
        (&volume, "/a-file", "ENOTDIR"),
        (&volume, "/a-file/below", "ENOTDIR"),
        (&file, "/tmp", "EISDIR"),
        (&volume, "/loop-a/x", "ELOOP"),
        (&volume.join("nowhere"), "/x", "ENOENT"),
    ] {
        let output = script(host, "true", |config| {
            config["root"]["path"] = json!(rootfs);
            bind(config, source, target, &["rbind"]);
        })?;
        assert_ne!(output.code, 0, "{target}: {output:?}");
        assert!(output.stderr.contains(target) && output.stderr.contains(errno), "{errno}: {output:?}");
    }
    Ok(())
}

fn proc_behind_a_link(host: &Host) -> Outcome {
    for name in ["proc", "sys"] {
        for target in ["elsewhere", "/tmp", "/missing"] {
            let rootfs = host.new_rootfs()?;
            fs::remove_dir(rootfs.join(name))?;
            fs::create_dir(rootfs.join("elsewhere"))?;
            symlink(target, rootfs.join(name))?;
            let output = script(host, "true", |config| config["root"]["path"] = json!(rootfs))?;
            assert_ne!(output.code, 0, "{name} -> {target}: {output:?}");
            assert!(
                output.stderr.contains("ELOOP") && output.stderr.contains("ordinary directory"),
                "{output:?}"
            );
            assert!(!rootfs.join("missing").exists());
        }
    }
    Ok(())
}

fn nothing_covers_proc(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    symlink("proc", rootfs.join("p"))?;
    symlink("/proc/sys", rootfs.join("s"))?;
    let volume = host.new_dir()?;
    fs::write(volume.join("f"), "mine\n")?;
    for target in ["/p", "/s/kernel", "/p/self", "/proc", "/proc/sys"] {
        for typ in ["bind", "tmpfs"] {
            let output = script(host, "true", |config| {
                config["root"]["path"] = json!(rootfs);
                let options = if typ == "bind" { json!(["rbind"]) } else { json!([]) };
                if let Some(mounts) = config["mounts"].as_array_mut() {
                    mounts.push(
                        json!({ "destination": target, "type": typ, "source": volume, "options": options }),
                    );
                }
            })?;
            assert_ne!(output.code, 0, "{typ} {target}: {output:?}");
            assert!(output.stderr.contains(target), "{output:?}");
        }
    }
    // What LXCFS does is allowed.
    let output = script(host, "cat /proc/uptime", |config| {
        bind(config, &volume.join("f"), "/proc/uptime", &["bind"]);
    })?;
    assert_eq!(output.success()?.stdout, "mine\n");
    Ok(())
}

const FULL: &str = "(echo x > /dev/sub/full) 2>&1 | grep -o 'No space left'; stat -c %t:%T /dev/sub/full";

fn borrowed(host: &Host) -> Outcome {
    let text = "(echo x > /dev/full) 2>&1 | grep -o 'No space left'; stat -c %t:%T /dev/full; stat -c %F /dev/pipe; grep -c ' /dev/full ' /proc/self/mountinfo";
    let output = script(host, text, |config| {
        devices(
            config,
            json!([
                { "path": "/dev/full", "type": "c", "major": 1, "minor": 7 },
                { "path": "/dev/pipe", "type": "p", "major": 0, "minor": 0, "fileMode": 0o600 }
            ]),
        );
    })?;
    assert_eq!(output.success()?.stdout, "No space left\n1:7\nfifo\n1\n");
    // Bound, not one of the default ones, and under a user namespace of root's too.
    let output = script(host, "stat -c %t:%T /dev/ptmx-of-host 2>&1; stat -c %t:%T /dev/tty", |config| {
        devices(config, json!([{ "path": "/dev/tty", "type": "c", "major": 5, "minor": 0 }]));
    })?;
    assert!(output.stdout.ends_with("5:0\n"), "{output:?}");
    if Path::new("/dev/net/tun").exists() {
        let output = script(host, "stat -c %t:%T /dev/net/tun", |config| {
            devices(config, json!([{ "path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200 }]));
        })?;
        assert_eq!(output.success()?.stdout, "a:c8\n");
    }
    Ok(())
}

fn not_to_borrow(host: &Host) -> Outcome {
    for (path, minor, errno, advice) in [
        ("/dev/nowhere", 7, "ENOENT", "the host has no such device"),
        ("/dev/zero", 99, "ENODEV", "the host's node has other numbers"),
    ] {
        let output = script(host, "true", |config| {
            devices(config, json!([{ "path": path, "type": "c", "major": 1, "minor": minor }]));
        })?;
        assert_ne!(output.code, 0, "{output:?}");
        for word in [path, errno, advice] {
            assert!(output.stderr.contains(word), "{word}: {output:?}");
        }
    }
    Ok(())
}

fn every_type(host: &Host) -> Outcome {
    let text = "stat -c '%F %a %u:%g %t:%T' /dev/c /dev/u /dev/b /dev/p /made/here/d";
    let node = |path: &str, typ: &str, major: u32, minor: u32| json!({ "path": path, "type": typ, "major": major, "minor": minor, "fileMode": 0o604, "uid": 7, "gid": 8 });
    let output = script(host, text, |config| {
        devices(
            config,
            json!([
                node("/dev/c", "c", 1, 5),
                node("/dev/u", "u", 1, 7),
                node("/dev/b", "b", 7, 300),
                node("/dev/p", "p", 0, 0),
                node("/made/here/d", "c", 1, 3)
            ]),
        );
    })?;
    let lines = [
        "character special file 604 7:8 1:5",
        "character special file 604 7:8 1:7",
        "block special file 604 7:8 7:12c",
        "fifo 604 7:8 0:0",
        "character special file 604 7:8 1:3",
    ];
    assert_eq!(output.success()?.stdout.lines().collect::<Vec<_>>(), lines);
    Ok(())
}

/// The image's own /dev, in which what is asked for exists as something else.
fn another_node(host: &Host) -> Outcome {
    let volume = host.new_dir()?;
    fs::write(volume.join("file"), "")?;
    symlink("/etc/passwd", volume.join("link"))?;
    mknod(&volume.join("zero"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5))?;
    mknod(&volume.join("full"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), makedev(1, 7))?;
    let run = |name: &str| -> Result<tests::Output> {
        let text = FULL.replace("full", name);
        script(host, &text, |config| {
            bind(config, &volume, "/dev/sub", &["rbind", "dev"]);
            devices(
                config,
                json!([{ "path": format!("/dev/sub/{name}"), "type": "c", "major": 1, "minor": 7, "uid": 9 }]),
            );
        })
    };
    for name in ["file", "link", "zero"] {
        let output = run(name)?;
        assert_ne!(output.code, 0, "{output:?}");
        assert!(
            output.stderr.contains(&format!("mknod /dev/sub/{name} 1:7")) && output.stderr.contains("EEXIST"),
            "{output:?}"
        );
    }
    assert_eq!(run("full")?.success()?.stdout, "No space left\n1:7\n");
    assert!(fs::symlink_metadata(volume.join("zero"))?.file_type().is_char_device());
    Ok(())
}

fn one_tmpfs(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    let text = "for d in /a /b; do ls $d; (touch $d/x) 2>/dev/null && echo wrote; stat -c %d:%i $d; done; cat /f; (echo x > /ro/f) 2>/dev/null && echo wrote; cat /ro/f";
    for directory in ["a", "b", "ro"] {
        fs::create_dir(rootfs.join(directory))?;
        fs::write(rootfs.join(directory).join("f"), "secret\n")?;
    }
    fs::write(rootfs.join("f"), "secret\n")?;
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
        config["root"]["path"] = json!(rootfs);
        config["linux"]["maskedPaths"] = json!(["/a", "/b", "/f", "/nowhere"]);
        config["linux"]["readonlyPaths"] = json!(["/ro", "/nowhere"]);
    })?;
    let output = bundle.run()?.success()?;
    let lines: Vec<_> = output.stdout.lines().collect();
    assert!(lines.len() == 3 && lines[0] == lines[1] && lines[2] == "secret", "{output:?}");
    Ok(())
}
