//! What the container's process sees of files: masked and read-only paths, mounts, devices.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use tests::{Host, Outcome, Test};

use super::{Bundle, ROOT, USER, bind, script};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::the_machines_files_are_masked", needs: ROOT, run: masked },
        Test {
            name: "runtime::user_the_machines_files_are_masked",
            needs: USER,
            run: |host| masked(&host.as_user()),
        },
        Test { name: "runtime::a_made_device_opens_nothing", needs: ROOT, run: a_made_device_opens_nothing },
        Test { name: "runtime::a_given_device_works", needs: ROOT, run: a_given_device_works },
        Test { name: "runtime::mounts_are_as_configured", needs: ROOT, run: mounts_are_as_configured },
        Test {
            name: "runtime::user_mounts_are_as_configured",
            needs: USER,
            run: |host| mounts_are_as_configured(&host.as_user()),
        },
        Test { name: "runtime::a_readonly_root", needs: ROOT, run: a_readonly_root },
        Test {
            name: "runtime::user_a_readonly_root",
            needs: USER,
            run: |host| a_readonly_root(&host.as_user()),
        },
        Test { name: "runtime::mounts_stay_inside_of_a_hostile_rootfs", needs: ROOT, run: hostile_rootfs },
        Test { name: "runtime::the_host_sees_no_mount", needs: ROOT, run: the_host_sees_no_mount },
    ]
}

fn masked(host: &Host) -> Outcome {
    let text = "for f in /proc/kcore /proc/keys /proc/timer_list; do test ! -e $f || test -z \"$(head -c1 $f)\" || echo $f; done
        for d in /proc/acpi /proc/scsi /sys/firmware; do test ! -e $d || test -z \"$(ls $d)\" || echo $d; done
        for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do (echo h > $f) 2>/dev/null && echo wrote $f; done
        (touch /sys/x) 2>/dev/null && echo wrote /sys; echo end";
    assert_eq!(script(host, text, |_| {})?.success()?.stdout, "end\n");
    Ok(())
}

/// 1:11 is /dev/kmsg, which root may always open to write.
fn a_made_device_opens_nothing(host: &Host) -> Outcome {
    let text = "for d in / /dev /dev/shm /tmp; do mknod $d/log c 1 11 && (: > $d/log) 2>/dev/null && echo $d opens; rm -f $d/log; done
        head -c3 /dev/zero | wc -c; echo x > /dev/null && echo null";
    assert_eq!(script(host, text, |_| {})?.success()?.stdout, "3\nnull\n");
    let all = |config: &mut serde_json::Value| {
        config["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
    };
    assert!(
        script(host, text, all)?.success()?.stdout.contains("/ opens"),
        "the check finds nothing where all is allowed"
    );
    Ok(())
}

fn a_given_device_works(host: &Host) -> Outcome {
    let text = "ls -ln /dev/sub/full2; (echo x > /dev/sub/full2) 2>&1";
    let output = script(host, text, |config| {
        config["linux"]["devices"] = json!([{ "path": "/dev/sub/full2", "type": "c", "major": 1, "minor": 7, "fileMode": 0o640, "uid": 3, "gid": 4 }]);
    })?;
    assert!(output.stdout.starts_with("crw-r-----    1 3        4           1,   7"), "{output:?}");
    assert!(output.stdout.contains("No space left"), "/dev/full says ENOSPC: {output:?}");
    Ok(())
}

fn mounts_are_as_configured(host: &Host) -> Outcome {
    let (readable, writable) = (host.new_dir()?, host.new_dir()?);
    fs::write(readable.join("f"), "text")?;
    let file = readable.join("f");
    let text = "cat /ro/f; (touch /ro/x) 2>/dev/null && echo wrote; (echo x > /one) 2>/dev/null && echo wrote
        echo new > /rw/new; echo t > /mem/t && grep ' /mem ' /proc/self/mountinfo | grep -c size=1024k";
    let output = script(host, text, |config| {
        bind(config, &readable, "/ro", &["rbind", "ro", "rprivate"]);
        bind(config, &file, "/one", &["bind", "ro"]);
        bind(config, &writable, "/rw", &["rbind", "rw"]);
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.push(json!({ "destination": "/mem", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "nosuid"] }));
        }
    })?;
    assert_eq!(output.success()?.stdout, "text1\n");
    assert_eq!(fs::read_to_string(writable.join("new"))?, "new\n");
    assert_eq!(fs::read_to_string(&file)?, "text");
    Ok(())
}

fn a_readonly_root(host: &Host) -> Outcome {
    let text = "(touch /x) 2>/dev/null && echo wrote; touch /dev/shm/x && echo shm";
    let output = script(host, text, |config| config["root"]["readonly"] = json!(true))?;
    assert_eq!(output.success()?.stdout, "shm\n");
    Ok(())
}

/// Links in the image that point out of it, wherever the runtime makes or mounts something.
fn hostile_rootfs(host: &Host) -> Outcome {
    let outside = host.new_dir()?;
    let rootfs = host.new_rootfs()?;
    for (link, target) in [("data", "."), ("dev", "dev"), ("sys", "sys")] {
        let link = rootfs.join(link);
        let _ = fs::remove_dir_all(&link);
        let deep = outside.join(target);
        fs::create_dir_all(&deep)?;
        symlink(&deep, &link)?;
    }
    let before = listing(&outside)?;
    let volume = host.new_dir()?;
    let bundle = Bundle::new(host, &["/bin/true"], |config| {
        config["root"]["path"] = json!(rootfs);
        bind(config, &volume, "/data/v", &["rbind"]);
    })?;
    // Whether it starts is not the point: nothing may appear outside.
    bundle.run()?;
    assert_eq!(listing(&outside)?, before);
    Ok(())
}

fn listing(path: &std::path::Path) -> super::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        names.push(entry.path().display().to_string());
        if entry.file_type()?.is_dir() {
            names.extend(listing(&entry.path())?);
        }
    }
    names.sort();
    Ok(names)
}

fn the_host_sees_no_mount(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/true"], |_| {})?;
    let before = fs::read_to_string("/proc/self/mountinfo")?;
    bundle.call(&["create", "c"])?.success()?;
    assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, before);
    bundle.call(&["delete", "c"])?.success()?;
    Ok(())
}
