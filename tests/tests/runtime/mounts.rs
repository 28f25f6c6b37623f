//! Mounts of a configuration: attributes, how they spread, owners, what a tmpfs takes over.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount as mount_2};
use serde_json::{Value, json};
use tests::{Host, Outcome, Test, wait_until};

use super::{Bundle, ROOT, Result, USER, bind, probed, script};

const SOON: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    let root = |name, run| Test { name, needs: ROOT, run };
    let user = |name, run| Test { name, needs: USER, run };
    vec![
        root("runtime::attributes_are_the_mounts", attributes),
        user("runtime::user_attributes_are_the_mounts", |host| attributes(&host.as_user())),
        root("runtime::an_attribute_can_be_taken_back", taken_back),
        root("runtime::user_what_the_host_has_locked_stays", locked),
        root("runtime::an_r_before_an_attribute_means_all_beneath", recursive),
        root("runtime::mounts_spread_as_asked", spread),
        root("runtime::the_root_spreads_as_asked", root_spreads),
        root("runtime::owners_are_shown_through_maps", mapped_owners),
        root("runtime::a_volume_belongs_to_root_inside", mapped_to_the_container),
        user("runtime::user_owners_cannot_be_mapped", |host| unmapped(&host.as_user())),
        root("runtime::a_tmpfs_takes_over_what_it_covers", copied_up),
        user("runtime::user_a_tmpfs_takes_over_what_it_covers", |host| copied_up(&host.as_user())),
        root("runtime::a_remount_changes_what_is_there", remounted),
        root("runtime::the_kernels_words_come_with_the_error", words),
        user("runtime::user_the_kernels_words_come_with_the_error", |host| words(&host.as_user())),
    ]
}

fn add(config: &mut Value, mount: Value) {
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(mount);
    }
}

pub(super) fn tmpfs(config: &mut Value, target: &str, options: &[&str]) {
    add(config, json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": options }));
}

/// The mount at `target`, as the probe or a process's mountinfo has it.
fn seen<'a>(report: &'a Value, target: &str) -> &'a Value {
    let mounts = report["mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    mounts.iter().rfind(|mount| mount["target"] == target).unwrap_or(&Value::Null)
}

fn has(list: &Value, word: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|item| item == word))
}

/// Mounts a tmpfs in this test's own mount namespace, and hands what is mounted on it on to others.
fn shared_tmpfs(path: &Path) -> Result<()> {
    mount_2(Some("t"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    Ok(mount_2(None::<&str>, path, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?)
}

fn attributes(host: &Host) -> Outcome {
    let volume = host.new_dir()?;
    let words = ["ro", "nosuid", "nodev", "noexec", "nosymfollow", "nodiratime", "noatime"];
    let report = probed(host, |config| {
        tmpfs(config, "/all", &words);
        tmpfs(config, "/none", &["ro", "noexec", "rw", "exec", "noatime", "relatime", "sync"]);
        tmpfs(config, "/times", &["strictatime"]);
        // In a user namespace the kernel lets nobody choose another way of keeping access times than the host's.
        bind(config, &volume, "/bound", &[&["bind"][..], &words[..5]].concat());
    })?;
    for (target, words) in [("/all", &words[..]), ("/bound", &words[..5])] {
        for word in words {
            assert!(
                has(&seen(&report, target)["options"], word),
                "{target} {word}: {}",
                seen(&report, target)
            );
        }
    }
    let none = &seen(&report, "/none")["options"];
    assert!(has(none, "rw") && has(none, "relatime") && !has(none, "noexec"), "{none}");
    assert!(has(&seen(&report, "/none")["super_options"], "sync"), "{}", seen(&report, "/none"));
    assert!(!has(&seen(&report, "/times")["options"], "relatime"), "{}", seen(&report, "/times"));
    Ok(())
}

fn strict_source(host: &Host) -> Result<PathBuf> {
    let source = host.new_dir()?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    mount_2(Some(&source), &source, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    mount_2(
        None::<&str>,
        &source,
        None::<&str>,
        flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(source)
}

fn taken_back(host: &Host) -> Outcome {
    let source = strict_source(host)?;
    let text = "touch /back/new && echo wrote; (touch /as/new) 2>/dev/null || echo refused; grep -e ' /back ' -e ' /as ' /proc/self/mountinfo";
    let output = script(host, text, |config| {
        bind(config, &source, "/back", &["bind", "rw", "suid", "exec", "relatime"]);
        bind(config, &source, "/as", &["bind"]);
    })?
    .success()?;
    assert!(output.stdout.starts_with("wrote\nrefused\n"), "{output:?}");
    let line = |target: &str| output.stdout.lines().find(|line| line.contains(target)).unwrap_or_default();
    assert!(
        line(" /back ").contains(" rw,")
            && !line(" /back ").contains("nosuid")
            && line(" /back ").contains("relatime"),
        "{output:?}"
    );
    assert!(line(" /as ").contains(" ro,nosuid,") && line(" /as ").contains("noexec,noatime"), "{output:?}");
    Ok(())
}

/// In a user namespace the kernel keeps what the host has set. To leave it is no error, to ask for the opposite is.
fn locked(host: &Host) -> Outcome {
    let source = strict_source(host)?;
    let user = host.as_user();
    let read = |options: &'static [&'static str]| {
        script(&user, "(touch /x/new) 2>/dev/null || echo refused", |config| {
            bind(config, &source, "/x", options);
        })
    };
    assert_eq!(read(&["rbind", "rprivate", "nosuid"])?.success()?.stdout, "refused\n");
    let output = read(&["rbind", "rw"])?;
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("/x") && output.stderr.contains("EPERM"), "{output:?}");
    Ok(())
}

fn recursive(host: &Host) -> Outcome {
    let source = host.new_dir()?;
    fs::create_dir(source.join("sub"))?;
    mount_2(Some("t"), &source.join("sub"), Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let text = "for d in /one /one/sub /all /all/sub /back/sub; do (touch $d/x) 2>/dev/null && echo wrote $d; done; echo end";
    let output = script(host, text, |config| {
        bind(config, &source, "/one", &["rbind", "ro"]);
        bind(config, &source, "/all", &["rbind", "rro", "rnosuid", "rnoexec", "rnosymfollow", "rnoatime"]);
        bind(config, &source, "/back", &["rbind", "rro", "rrw"]);
    })?;
    assert_eq!(output.success()?.stdout, "wrote /one/sub\nwrote /back/sub\nend\n");
    let report = probed(host, |config| {
        bind(config, &source, "/all", &["rbind", "rro", "rnosuid", "rnoexec", "rnosymfollow", "rnoatime"]);
    })?;
    for word in ["ro", "nosuid", "noexec", "nosymfollow", "noatime"] {
        assert!(has(&seen(&report, "/all/sub")["options"], word), "{word}: {}", seen(&report, "/all/sub"));
    }
    Ok(())
}

/// A configuration whose process may mount.
fn may_mount(config: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        if let Some(set) = config["process"]["capabilities"][set].as_array_mut() {
            set.push(json!("CAP_SYS_ADMIN"));
        }
    }
    config["linux"]["seccomp"] = Value::Null;
}

/// The last line of the process's mountinfo whose target ends so.
fn line(pid: i32, target: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let at = |line: &&str| line.split(' ').nth(4).is_some_and(|path| path.ends_with(target));
    text.lines().rfind(at).unwrap_or_default().to_owned()
}

fn spread(host: &Host) -> Outcome {
    let source = host.new_dir()?;
    shared_tmpfs(&source)?;
    for name in ["from-host", "private", "slave", "shared"] {
        fs::create_dir(source.join(name))?;
    }
    let text =
        "for how in private slave shared; do mount -t tmpfs t /$how/$how; done; touch /tmp/done; sleep 100";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
        may_mount(config);
        bind(config, &source, "/private", &["rbind", "rprivate"]);
        bind(config, &source, "/slave", &["rbind", "rslave"]);
        bind(config, &source, "/shared", &["rbind", "rshared"]);
        bind(config, &source, "/unbindable", &["rbind", "runbindable"]);
    })?;
    let child = bundle.cmd(&["run", "c"]).spawn()?;
    let done = bundle.rootfs()?.join("tmp/done");
    wait_until("it has mounted", SOON, || done.exists())?;
    let pid = bundle.pid("c")?;
    let own = i32::try_from(std::process::id())?;
    let mounted_here = ["private", "slave", "shared"].map(|how| !line(own, &format!("/{how}")).is_empty());
    assert_eq!(mounted_here, [false, false, true], "what the host sees of the container's mounts");
    mount_2(Some("t"), &source.join("from-host"), Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let seen = ["private", "slave", "shared"].map(|how| !line(pid, &format!("/{how}/from-host")).is_empty());
    assert_eq!(seen, [false, true, true], "what the container sees of the host's mounts");
    for (target, word) in [("/slave", " master:"), ("/shared", " shared:"), ("/unbindable", " unbindable ")] {
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        let line = table.lines().find(|line| line.split(' ').nth(4) == Some(target)).unwrap_or_default();
        assert!(line.contains(word), "{line}");
    }
    drop(child);
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn root_spreads(host: &Host) -> Outcome {
    let place = host.new_dir()?;
    shared_tmpfs(&place)?;
    let rootfs = place.join("rootfs");
    tests::tree::copy(&host.rootfs()?, &rootfs, None)?;
    for (how, hears, word) in [
        (Some("private"), false, " - "),
        (None, false, " - "),
        (Some("slave"), true, " master:"),
        (Some("rslave"), true, " master:"),
        (Some("shared"), false, " shared:"),
        (Some("unbindable"), false, " unbindable "),
    ] {
        let bundle = Bundle::new(host, &["/bin/sleep", "100"], |config| {
            config["root"]["path"] = json!(rootfs);
            config["linux"]["rootfsPropagation"] = json!(how);
        })?;
        bundle.call(&["create", "c"])?.success()?;
        let pid = bundle.pid("c")?;
        let root = line(pid, "/").lines().next().unwrap_or_default().to_owned();
        assert!(root.contains(word), "{how:?}: {root}");
        assert_eq!(root.contains("shared:"), how == Some("shared"), "{root}");
        let target = rootfs.join("mnt");
        fs::create_dir_all(&target)?;
        mount_2(Some("t"), &target, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        assert_eq!(!line(pid, "/mnt").is_empty(), hears, "{how:?}: {}", line(pid, "/mnt"));
        nix::mount::umount2(&target, nix::mount::MntFlags::MNT_DETACH)?;
        bundle.call(&["delete", "--force", "c"])?.success()?;
    }
    let output = script(host, "true", |config| config["linux"]["rootfsPropagation"] = json!("sideways"))?;
    assert!(output.code != 0 && output.stderr.contains("linux.rootfsPropagation"), "{output:?}");
    Ok(())
}

fn mapped_owners(host: &Host) -> Outcome {
    let source = host.new_dir()?;
    fs::create_dir(source.join("sub"))?;
    mount_2(Some(&host.new_dir()?), &source.join("sub"), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    for file in ["f", "sub/f"] {
        fs::write(source.join(file), "")?;
        chown(source.join(file), Some(1000), Some(1001))?;
    }
    let map = |host_id| json!([{ "containerID": 0, "hostID": host_id, "size": 65536 }]);
    let text = "stat -c %u:%g /top/f /top/sub/f /tree/f /tree/sub/f; su -s /bin/sh -c 'touch /top/new' six 2>&1; true";
    let rootfs = host.new_rootfs()?;
    let output = script(host, text, |config| {
        config["root"]["path"] = json!(rootfs);
        for (target, option) in [("/top", "idmap"), ("/tree", "ridmap")] {
            add(
                config,
                json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind", option],
                "uidMappings": map(5000), "gidMappings": map(7000) }),
            );
        }
    })?;
    assert_eq!(
        output.success()?.stdout.lines().take(4).collect::<Vec<_>>(),
        ["6000:8001", "1000:1001", "6000:8001", "6000:8001"]
    );
    // Without the word, but with maps, the mount itself is meant.
    let output = script(host, "stat -c %u:%g /x/f; touch /x/n 2>&1 | grep -o 'Value too large'", |config| {
        add(
            config,
            json!({ "destination": "/x", "source": source, "options": ["bind"], "uidMappings": map(5000), "gidMappings": map(7000) }),
        );
    })?;
    assert_eq!(output.success()?.stdout, "6000:8001\nValue too large\n", "root has no id on that disk");
    let owner = fs::metadata(source.join("f"))?;
    assert_eq!((owner.uid(), owner.gid()), (1000, 1001), "the disk is as it was");
    Ok(())
}

fn with_user_namespace(config: &mut Value) {
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.push(json!({ "type": "user" }));
    }
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

/// With the container's own maps; and from a directory to which root inside, nobody outside, could not walk.
fn mapped_to_the_container(host: &Host) -> Outcome {
    let closed = host.new_dir()?;
    let source = closed.join("volume");
    fs::create_dir(&source)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    let text = "stat -c %u /mapped /plain; touch /mapped/new; (touch /plain/new) 2>/dev/null || echo refused; stat -c %u /mapped/new";
    // The root file system is prepared for the maps, as the specification has it.
    let rootfs = host.new_dir()?.join("rootfs");
    tests::tree::copy(&host.rootfs()?, &rootfs, Some((100_000, 100_000)))?;
    let output = script(host, text, |config| {
        with_user_namespace(config);
        config["root"]["path"] = json!(rootfs);
        bind(config, &source, "/mapped", &["rbind", "idmap"]);
        bind(config, &source, "/plain", &["rbind"]);
    })?;
    assert_eq!(output.success()?.stdout, "0\n65534\nrefused\n0\n");
    assert_eq!(fs::metadata(source.join("new"))?.uid(), 0, "on the disk it is root's, too");
    let output = script(host, "true", |config| bind(config, &source, "/x", &["rbind", "idmap"]))?;
    assert!(output.code != 0 && output.stderr.contains("idmap needs"), "{output:?}");
    Ok(())
}

fn unmapped(host: &Host) -> Outcome {
    let source = host.new_dir()?;
    let output = script(host, "true", |config| bind(config, &source, "/x", &["rbind", "idmap"]))?;
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("idmap") && output.stderr.contains("EPERM"), "{output:?}");
    Ok(())
}

fn copied_up(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    let data = rootfs.join("data");
    fs::create_dir_all(data.join("sub"))?;
    fs::write(data.join("sub/file"), "from the image")?;
    fs::set_permissions(data.join("sub/file"), fs::Permissions::from_mode(0o640))?;
    symlink("/etc/shadow", data.join("link"))?;
    for (path, mode) in [("data", 0o1750), ("open", 0o1777)] {
        fs::create_dir_all(rootfs.join(path))?;
        fs::set_permissions(rootfs.join(path), fs::Permissions::from_mode(mode))?;
    }
    if host.ids().0 != 0 && nix::unistd::geteuid().is_root() {
        for path in ["data", "data/sub", "data/sub/file", "open"] {
            chown(rootfs.join(path), Some(host.ids().0), Some(host.ids().1))?;
        }
    }
    let text = "cat /data/sub/file; stat -c ' %a' /data /data/sub/file /open /mode; readlink /data/link; echo new > /data/sub/file; ls /empty
        (touch /ro/x) 2>/dev/null || cat /ro/sub/file; grep -c ' /data .*tmpfs' /proc/self/mountinfo";
    let output = script(host, text, |config| {
        config["root"]["path"] = json!(rootfs);
        tmpfs(config, "/data", &["tmpcopyup", "nosuid"]);
        tmpfs(config, "/empty", &["tmpcopyup"]);
        tmpfs(config, "/open", &[]);
        tmpfs(config, "/mode", &["mode=700"]);
        bind(config, &data, "/ro", &["bind"]);
        tmpfs(config, "/ro", &["tmpcopyup", "ro"]);
    })?;
    assert_eq!(
        output.success()?.stdout,
        "from the image 1750\n 640\n 1777\n 700\n/etc/shadow\nfrom the image1\n"
    );
    assert_eq!(fs::read_to_string(data.join("sub/file"))?, "from the image", "the image is as it was");
    Ok(())
}

fn remounted(host: &Host) -> Outcome {
    let report = probed(host, |config| {
        tmpfs(config, "/m", &["size=1m", "noexec"]);
        tmpfs(config, "/m", &["remount", "ro", "nosuid", "size=2m"]);
    })?;
    let mount = seen(&report, "/m");
    assert!(has(&mount["options"], "ro") && has(&mount["options"], "nosuid"), "{mount}");
    assert!(!has(&mount["options"], "noexec") && has(&mount["super_options"], "size=2048k"), "{mount}");
    let once = report["mounts"]
        .as_array()
        .is_some_and(|all| all.iter().filter(|m| m["target"] == "/m").count() == 1);
    assert!(once, "it is the same mount");
    Ok(())
}

fn words(host: &Host) -> Outcome {
    let output = script(host, "true", |config| tmpfs(config, "/mem", &["size=1m", "nosuchoption"]))?;
    assert_ne!(output.code, 0, "{output:?}");
    for word in ["tmpfs on /mem", "Unknown parameter 'nosuchoption'", "EINVAL"] {
        assert!(output.stderr.contains(word), "{word}: {output:?}");
    }
    let output = script(host, "true", |config| {
        add(config, json!({ "destination": "/x", "type": "nosuchfs", "source": "x" }));
    })?;
    assert!(output.code != 0 && output.stderr.contains("ENODEV"), "{output:?}");
    Ok(())
}
