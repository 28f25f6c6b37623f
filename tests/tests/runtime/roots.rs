//! The root file system of a container: every kind of directory that can be one, one that cannot be swapped; and the cgroups
//! that are mounted in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount as mount_2};
use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test};

use super::mounts::tmpfs;
use super::{Bundle, ROOT, script};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "runtime::cgroups_are_seen_as_asked",
            needs: &[Need::Root, Need::Rootfs, Need::Cgroup("pids")],
            run: cgroups,
        },
        Test { name: "runtime::every_kind_of_rootfs", needs: ROOT, run: every_kind_of_rootfs },
        Test { name: "runtime::a_root_that_cannot_be_swapped", needs: ROOT, run: without_pivot },
    ]
}

fn every_kind_of_rootfs(host: &Host) -> Outcome {
    let plain = host.rootfs()?;
    let runs = |path: &Path, edit: fn(&mut Value), expected: &str| -> Outcome {
        let text = "(touch /made) 2>/dev/null && echo wrote; cat /below/file 2>/dev/null; echo end";
        let output = script(host, text, |config| {
            config["root"]["path"] = json!(path);
            edit(config);
        })?;
        assert_eq!(output.success()?.stdout, expected, "{}", path.display());
        Ok(())
    };
    let nothing: fn(&mut Value) = |_| {};
    let link = host.new_dir()?.join("link");
    symlink(&plain, &link)?;
    runs(&link, nothing, "wrote\nend\n")?;
    let nested = host.new_rootfs()?;
    let below = nested.join("below");
    fs::create_dir(&below)?;
    mount_2(Some("t"), &below, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    fs::write(below.join("file"), "nested\n")?;
    runs(&nested, nothing, "wrote\nnested\nend\n")?;
    runs(&nested, |config| config["root"]["readonly"] = json!(true), "nested\nend\n")?;
    let memory = host.new_dir()?;
    mount_2(Some("t"), &memory, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    tests::tree::copy(&plain, &memory.join("rootfs"), None)?;
    runs(&memory.join("rootfs"), nothing, "wrote\nend\n")?;
    for directory in ["proc", "sys", "dev", "sys/fs/cgroup"] {
        fs::create_dir_all(memory.join("rootfs").join(directory))?;
    }
    mount_2(None::<&str>, &memory, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>)?;
    runs(&memory.join("rootfs"), nothing, "end\n")?;
    // What is missing cannot be made there, and says so.
    let output = script(host, "true", |config| {
        config["root"]["path"] = json!(memory.join("rootfs"));
        tmpfs(config, "/not/there", &[]);
    })?;
    assert!(
        output.code != 0 && output.stderr.contains("/not/there") && output.stderr.contains("EROFS"),
        "{output:?}"
    );
    let layers = host.new_dir()?;
    mount_2(Some("t"), &layers, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    for directory in ["upper", "work", "merged"] {
        fs::create_dir(layers.join(directory))?;
    }
    let data = format!("lowerdir={},upperdir={1}/upper,workdir={1}/work", plain.display(), layers.display());
    mount_2(Some("o"), &layers.join("merged"), Some("overlay"), MsFlags::empty(), Some(&*data))?;
    fs::remove_file(plain.join("made"))?;
    runs(&layers.join("merged"), nothing, "wrote\nend\n")?;
    assert!(layers.join("upper/made").exists() && !plain.join("made").exists());
    Ok(())
}

/// As on an initramfs: the old root stays below, and all that was mounted on it is gone.
fn without_pivot(host: &Host) -> Outcome {
    let text = "ls -d /kit /run/test 2>/dev/null; cut -d' ' -f5 /proc/self/mountinfo | grep -c -e '^/run/test' -e '^/etc$'; head -c1 /proc/kcore | wc -c; touch /tmp/w && echo end";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |_| {})?;
    let output = bundle.call(&["run", "--no-pivot", "c"])?;
    assert_eq!(output.success()?.stdout, "/kit\n0\n0\nend\n");
    Ok(())
}

/// By whatever versions this machine has; with and without a namespace of its own.
fn cgroups(host: &Host) -> Outcome {
    let text = "d=/sys/fs/cgroup; test -d $d/pids && d=$d/pids; test -f $d/cgroup.procs || d=$d/$(sed -n 's/^0:://p' /proc/self/cgroup)
        grep -c . $d/cgroup.procs; mkdir $d/sub 2>/dev/null && echo made && rmdir $d/sub; (touch /sys/fs/cgroup/x) 2>/dev/null && echo wrote; echo end";
    for (own, option, made) in [(true, "ro", ""), (true, "rw", "made\n"), (false, "ro", "")] {
        let output = script(host, text, |config| {
            for mount in config["mounts"].as_array_mut().into_iter().flatten() {
                if mount["destination"] == "/sys/fs/cgroup" {
                    mount["options"] = json!(["nosuid", "noexec", "nodev", option]);
                }
            }
            if !own && let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
                namespaces.retain(|namespace| namespace["type"] != "cgroup");
            }
        })?
        .success()?;
        let (count, rest) = output.stdout.split_once('\n').unwrap_or_default();
        assert!(count.parse::<u32>()? > 0, "its own cgroup: {output:?}");
        let wrote = if option == "rw" && rest.contains("wrote") { "wrote\n" } else { "" };
        assert_eq!(rest, format!("{made}{wrote}end\n"), "own {own} {option}");
    }
    Ok(())
}
