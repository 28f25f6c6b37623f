//! Limits and rules for devices: what stands in the cgroup's files, and what the kernel does by it.
//!
//! The files have other names in version 1 and 2; which is asked follows from where the container's process is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test, wait_until};

use super::{Bundle, ROOT, Result, script};

const SOON: Duration = Duration::from_secs(60);
const MEMORY: &[Need] = &[Need::Root, Need::Rootfs, Need::Cgroup("memory"), Need::Cgroup("pids")];
const CPU: &[Need] = &[Need::Root, Need::Rootfs, Need::Cgroup("cpu"), Need::Cgroup("cpuset")];

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::memory_and_pids_are_as_configured", needs: MEMORY, run: memory_and_pids },
        Test { name: "runtime::cpu_is_as_configured", needs: CPU, run: cpu },
        Test { name: "runtime::what_only_version_1_has_is_refused_on_2", needs: ROOT, run: only_version_1 },
        Test { name: "runtime::a_file_of_version_2_by_its_name", needs: ROOT, run: unified },
        Test { name: "runtime::devices_are_denied_by_a_program", needs: V2, run: devices_by_program },
        Test {
            name: "runtime::devices_are_denied_by_version_1",
            needs: &[Need::Root, Need::Rootfs, Need::CgroupV1("devices")],
            run: devices_by_version_1,
        },
        Test { name: "runtime::devices_are_denied_without_a_cgroup", needs: ROOT, run: devices_by_mounts },
        Test { name: "runtime::a_cgroups_path_is_used_and_shared_with_nobody", needs: MEMORY, run: paths },
        Test { name: "runtime::update_changes_the_kernel_and_the_record", needs: MEMORY, run: update },
        Test { name: "runtime::update_replaces_the_rules_for_devices", needs: V2, run: update_devices },
        Test { name: "runtime::events_tell_what_is_used", needs: MEMORY, run: stats },
        Test { name: "runtime::events_tell_of_a_kill", needs: MEMORY, run: out_of_memory },
    ]
}

/// A version 2 hierarchy, with whichever controllers: programs need none.
const V2: &[Need] = &[Need::Root, Need::Rootfs, Need::CgroupV2("")];

/// A container that sleeps until it is deleted.
pub(super) struct Sleeper<'a>(pub(super) Bundle<'a>);

impl<'a> Sleeper<'a> {
    pub(super) fn new(host: &'a Host, edit: impl FnOnce(&mut Value)) -> Result<Self> {
        let bundle = Bundle::new(host, &["/bin/sleep", "100"], edit)?;
        bundle.call(&["create", "c"])?.success()?;
        let sleeper = Self(bundle);
        sleeper.0.call(&["start", "c"])?.success()?;
        Ok(sleeper)
    }

    /// The directory of its cgroup with this controller, and whether it is of version 2.
    pub(super) fn dir(&self, controller: &str) -> Result<(PathBuf, bool)> {
        let own = fs::read_to_string(format!("/proc/{}/cgroup", self.0.pid("c")?))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let find = |list: &str, fits: &dyn Fn(&str) -> bool| -> Option<PathBuf> {
            let path = own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let fits = parts.next()?.split(',').any(|name| name == list);
                parts.next().filter(|_| fits)
            })?;
            let mount = mounts.lines().find(|line| fits(line))?.split(' ').nth(4)?;
            Some(Path::new(mount).join(path.trim_start_matches('/')))
        };
        let v1 = |line: &str| {
            line.contains(" - cgroup ")
                && line.rsplit(' ').next().is_some_and(|it| it.split(',').any(|it| it == controller))
        };
        let found = find(controller, &v1).map(|dir| (dir, false));
        let found = found.or_else(|| Some((find("", &|line| line.contains(" - cgroup2 "))?, true)));
        found.ok_or_else(|| format!("no cgroup with {controller:?}:\n{own}").into())
    }

    /// What stands in the file, which has one name in version 1 and another in version 2; an empty name is none.
    fn file(&self, controller: &str, v1: &str, v2: &str) -> Result<String> {
        let (dir, unified) = self.dir(controller)?;
        let path = dir.join(if unified { v2 } else { v1 });
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    fn update(&self, words: &[&str]) -> Result<tests::Output> {
        self.0.call(&[&["update"], words, &["c"]].concat())
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        let _ = self.0.call(&["delete", "--force", "c"]);
    }
}

fn resources(json: Value) -> impl FnOnce(&mut Value) {
    move |config| {
        for (key, value) in json.as_object().into_iter().flatten() {
            config["linux"]["resources"][key] = value.clone();
        }
    }
}

fn memory_and_pids(host: &Host) -> Outcome {
    let limits = json!({ "memory": { "limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20 }, "pids": { "limit": 17 } });
    let sleeper = Sleeper::new(host, resources(limits))?;
    let memory = |v1, v2| sleeper.file("memory", v1, v2);
    assert_eq!(memory("memory.limit_in_bytes", "memory.max")?, (64 << 20).to_string());
    assert_eq!(memory("memory.soft_limit_in_bytes", "memory.low")?, (32 << 20).to_string());
    let (_, unified) = sleeper.dir("memory")?;
    let swap = if unified { 32 << 20 } else { 96 << 20 };
    assert_eq!(memory("memory.memsw.limit_in_bytes", "memory.swap.max")?, swap.to_string());
    assert_eq!(sleeper.file("pids", "pids.max", "pids.max")?, "17");
    drop(sleeper);
    // Swap that nobody speaks of stays as it is, as with runc.
    let sleeper = Sleeper::new(host, resources(json!({ "memory": { "limit": 64 << 20 } })))?;
    let swap = sleeper.file("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")?;
    assert!(swap == "max" || swap.parse::<u64>()? > 1 << 60, "{swap}");
    if !unified {
        drop(sleeper);
        let limits = json!({ "memory": { "limit": 64 << 20, "swappiness": 7, "disableOOMKiller": true } });
        let sleeper = Sleeper::new(host, resources(limits))?;
        assert_eq!(sleeper.file("memory", "memory.swappiness", "")?, "7");
        assert!(sleeper.file("memory", "memory.oom_control", "")?.starts_with("oom_kill_disable 1"));
    }
    Ok(())
}

fn cpu(host: &Host) -> Outcome {
    let limits = json!({ "cpu": { "quota": 50_000, "period": 200_000, "burst": 10_000, "shares": 512, "cpus": "0", "mems": "0" } });
    let sleeper = Sleeper::new(host, resources(limits))?;
    let cpu = |v1, v2| sleeper.file("cpu", v1, v2);
    let (_, unified) = sleeper.dir("cpu")?;
    if unified {
        assert_eq!(cpu("", "cpu.max")?, "50000 200000");
        assert_eq!(cpu("", "cpu.weight")?, "59");
    } else {
        assert_eq!(
            (cpu("cpu.cfs_quota_us", "")?, cpu("cpu.cfs_period_us", "")?),
            ("50000".into(), "200000".into())
        );
        assert_eq!(cpu("cpu.shares", "")?, "512");
    }
    assert_eq!(cpu("cpu.cfs_burst_us", "cpu.max.burst")?, "10000");
    assert_eq!(sleeper.file("cpuset", "cpuset.cpus", "cpuset.cpus")?, "0");
    drop(sleeper);
    let sleeper = Sleeper::new(host, resources(json!({ "cpu": { "idle": 1 } })))?;
    assert_eq!(sleeper.file("cpu", "cpu.idle", "cpu.idle")?, "1");
    sleeper.update(&["--cpu-idle", "0"])?.success()?;
    assert_eq!(sleeper.file("cpu", "cpu.idle", "cpu.idle")?, "0");
    Ok(())
}

fn only_version_1(host: &Host) -> Outcome {
    for (limits, said) in [
        (json!({ "network": { "classID": 5 } }), "network.classID exists in cgroup version 1 alone"),
        (json!({ "rdma": { "none0": { "hcaHandles": 1 } } }), "rdma needs the cgroup controller rdma"),
        (json!({ "unified": { "../x": "1" } }), "unified ../x: it must be the name"),
        (json!({ "unified": { "nothing.max": "1" } }), "unified needs the cgroup controller nothing"),
        (json!({ "blockIO": { "weight": 5 } }), "blockIO.weight 5: it must be 10 to 1000"),
    ] {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let version_2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        if mounts.contains("net_cls") && said.starts_with("network")
            || said.starts_with("rdma") && (mounts.contains("rdma") || version_2.contains("rdma"))
        {
            continue;
        }
        let output = Bundle::new(host, &["/bin/true"], resources(limits))?.run()?.expect(1)?;
        assert!(output.stderr.starts_with(&format!("error: {said}")), "{output}");
    }
    Ok(())
}

fn unified(host: &Host) -> Outcome {
    let edit = || resources(json!({ "unified": { "cgroup.max.depth": "3" } }));
    if !fs::read_to_string("/proc/self/mountinfo")?.contains(" - cgroup2 ") {
        return Ok(());
    }
    let sleeper = Sleeper::new(host, edit())?;
    assert_eq!(sleeper.file("", "", "cgroup.max.depth")?, "3");
    Ok(())
}

/// 1:11 is /dev/kmsg, which root may always open to write; 1:5 is /dev/zero, which everybody has.
const OPEN: &str = "cd /dev && mknod log c 1 11 && mknod zero2 c 1 5 && (: > log) 2>&1 | sed 's/.*: //'; head -c 2 zero2 | wc -c";
/// The cgroup's refusal; that of a mount is "Permission denied".
const DENIED: &str = "Operation not permitted\n2\n";

fn devices(host: &Host) -> Outcome {
    assert_eq!(script(host, OPEN, |_| {})?.success()?.stdout, DENIED);
    let rules = |list: Value| resources(json!({ "devices": list }));
    let none = json!({ "allow": false, "access": "rwm" });
    let log = |allow: bool, access: &str| json!({ "allow": allow, "type": "c", "major": 1, "minor": 11, "access": access });
    for (list, expected) in [
        (json!([none, log(true, "w")]), "2\n"),
        (json!([none, log(true, "r")]), DENIED),
        (json!([log(true, "w"), none]), DENIED),
        (json!([log(true, "w"), log(false, "w")]), DENIED),
        (json!([none, { "allow": true, "type": "c", "major": 1, "access": "w" }]), "2\n"),
        (json!([none, { "allow": true, "type": "b", "major": 1, "minor": 11, "access": "w" }]), DENIED),
        (json!([{ "allow": true, "access": "rwm" }]), "2\n"),
        (json!([{ "allow": true, "access": "rwm" }, log(false, "w")]), DENIED),
    ] {
        let text = list.to_string();
        assert_eq!(script(host, OPEN, rules(list))?.success()?.stdout, expected, "{text}");
    }
    // What is not to be made cannot be made.
    let made = script(host, "mknod /dev/shm/x b 7 0", |_| {})?.success()?;
    assert_eq!(made.stderr, "");
    Ok(())
}

fn devices_by_program(host: &Host) -> Outcome {
    devices(host)?;
    // A single device out of a rule for all, which version 1 cannot hold.
    let list = json!([
        { "allow": true, "type": "c", "access": "rwm" },
        { "allow": false, "type": "c", "major": 1, "minor": 11, "access": "w" },
    ]);
    assert_eq!(script(host, OPEN, resources(json!({ "devices": list })))?.success()?.stdout, DENIED);
    Ok(())
}

fn without_version_2(host: &Host) -> Outcome {
    for line in
        fs::read_to_string("/proc/self/mountinfo")?.lines().filter(|line| line.contains(" - cgroup2 "))
    {
        host.command("umount", ["-l", line.split(' ').nth(4).unwrap_or_default()])?.success()?;
    }
    Ok(())
}

fn devices_by_version_1(host: &Host) -> Outcome {
    without_version_2(host)?;
    devices(host)?;
    let sleeper = Sleeper::new(host, |_| {})?;
    let list = sleeper.file("devices", "devices.list", "")?;
    assert!(list.lines().any(|line| line == "c 1:3 rwm") && !list.contains("a *:* rwm"), "{list}");
    drop(sleeper);
    let list = json!([{ "allow": true, "type": "c", "access": "rwm" }, { "allow": false, "type": "c", "major": 1, "minor": 11 }]);
    let output = script(host, "true", resources(json!({ "devices": list })))?.expect(1)?;
    assert!(output.stderr.contains("version 1 cannot take it out"), "{output}");
    Ok(())
}

fn devices_by_mounts(host: &Host) -> Outcome {
    host.command("umount", ["-R", "-l", "/sys/fs/cgroup"])?.success()?;
    // A node that the runtime has made works; one that is made inside does not, whatever its numbers are.
    let text =
        "cd /dev/shm && mknod log c 1 11 && (: > log) 2>&1 | sed 's/.*: //'; head -c 2 /dev/zero | wc -c";
    assert_eq!(script(host, text, |_| {})?.success()?.stdout, "Permission denied\n2\n");
    Ok(())
}

fn paths(host: &Host) -> Outcome {
    let name = format!("sampan/paths-{}", std::process::id());
    let at = |path: String| move |config: &mut Value| config["linux"]["cgroupsPath"] = json!(path);
    let sleeper = Sleeper::new(host, at(format!("/{name}/a")))?;
    let (dir, _) = sleeper.dir("memory")?;
    assert!(dir.ends_with(format!("{name}/a")), "{dir:?}");
    // Somebody is in it.
    let other = Bundle::new(host, &["/bin/true"], at(format!("/{name}/a")))?;
    let output = other.run()?.expect(1)?;
    assert!(output.stderr.contains("is there already and holds processes"), "{output}");
    wait_until("the first lives on", SOON, || {
        sleeper.0.state("c").is_ok_and(|it| it["status"] == "running")
    })?;
    drop(sleeper);
    assert!(!dir.exists());
    // One that is empty is used, and a relative path is below our own folder.
    fs::create_dir(&dir)?;
    let sleeper = Sleeper::new(host, at(format!("{}/a", &name["sampan/".len()..])))?;
    assert_eq!(sleeper.dir("memory")?.0, dir);
    drop(sleeper);
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines().filter(|line| line.contains(" - cgroup"))
    {
        let folder = Path::new(line.split(' ').nth(4).unwrap_or_default()).join(&name);
        let _ = fs::remove_dir(&folder);
        let _ = folder.parent().map(fs::remove_dir);
    }
    Ok(())
}

fn update(host: &Host) -> Outcome {
    let sleeper =
        Sleeper::new(host, resources(json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 } })))?;
    let limit = || sleeper.file("memory", "memory.limit_in_bytes", "memory.max");
    sleeper.update(&["--memory", "96m", "--memory-swap", "96m", "--pids-limit", "9"])?.success()?;
    assert_eq!(
        (limit()?, sleeper.file("pids", "pids.max", "pids.max")?),
        ((96 << 20).to_string(), "9".to_owned())
    );
    // Swap alone is understood with the memory that was kept.
    sleeper.update(&["--memory-swap", "128m"])?.success()?;
    let (_, unified) = sleeper.dir("memory")?;
    let swap = if unified { 32 << 20 } else { 128 << 20 };
    assert_eq!(sleeper.file("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")?, swap.to_string());
    let json = json!({ "memory": { "limit": 80 << 20 }, "pids": { "limit": -1 } }).to_string();
    let words = ["update", "--resources", "-", "c"];
    sleeper.0.cmd(&words).input(json).run()?.success()?;
    assert_eq!(
        (limit()?, sleeper.file("pids", "pids.max", "pids.max")?),
        ((80 << 20).to_string(), "max".to_owned())
    );
    // What it has in use it keeps, where that is asked for; and nothing is changed.
    let json = json!({ "memory": { "limit": 4096, "swap": 4096, "checkBeforeUpdate": true } }).to_string();
    let output = sleeper.0.cmd(&words).input(json).run()?.expect(1)?;
    assert!(output.stderr.contains("are in use already"), "{output}");
    assert_eq!(limit()?, (80 << 20).to_string());
    sleeper.update(&["--memory", "-1", "--memory-swap", "-1"])?.success()?;
    assert!(limit()? == "max" || limit()?.parse::<u64>()? > 1 << 60);
    Ok(())
}

fn update_devices(host: &Host) -> Outcome {
    let sleeper = Sleeper::new(host, |_| {})?;
    let open = || {
        sleeper.0.call(&[
            "exec",
            "c",
            "/bin/sh",
            "-c",
            "test -e /dev/log || mknod /dev/log c 1 11; (: > /dev/log)",
        ])
    };
    assert!(open()?.stderr.contains("Operation not permitted"));
    let set = |allow: bool| -> Result<()> {
        let rules = json!({ "devices": [
            { "allow": false, "access": "rwm" }, { "allow": allow, "type": "c", "major": 1, "minor": 11, "access": "rwm" },
            { "allow": true, "type": "c", "access": "m" }, { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw" },
        ] });
        sleeper.0.cmd(&["update", "-r", "-", "c"]).input(rules.to_string()).run()?.success()?;
        Ok(())
    };
    set(true)?;
    open()?.success()?;
    // Were the old program still attached beside the new one, it would stay allowed by neither or both.
    set(false)?;
    assert!(open()?.stderr.contains("Operation not permitted"));
    set(true)?;
    open()?.success()?;
    Ok(())
}

fn stats(host: &Host) -> Outcome {
    let sleeper =
        Sleeper::new(host, resources(json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 17 } })))?;
    let mut told = Value::Null;
    // A process that has ended is counted until it is reaped.
    wait_until("the container's own process is alone", SOON, || {
        let output = sleeper.0.call(&["events", "--stats", "c"]).and_then(|output| output.success()?.json());
        told = output.unwrap_or_default();
        told["data"]["pids"]["current"] == 1
    })
    .map_err(|error| format!("{error}: {told}"))?;
    assert_eq!((&told["type"], &told["id"]), (&json!("stats"), &json!(super::id("c"))));
    let data = &told["data"];
    assert_eq!((&data["pids"]["limit"], &data["pids"]["current"]), (&json!(17), &json!(1)));
    assert_eq!(data["memory"]["usage"]["limit"], json!(64 << 20));
    assert!(data["memory"]["usage"]["usage"].as_u64() > Some(0), "{data}");
    assert!(data["cpu"]["usage"]["total"].as_u64() > Some(0), "{data}");
    assert!(data["memory"]["raw"].as_object().is_some_and(|raw| raw.len() > 10), "{data}");
    let mut every = sleeper.0.cmd(&["events", "--interval", "100ms", "c"]).spawn()?;
    wait_until("two of them", SOON, || every.stdout().lines().count() >= 2)?;
    sleeper.0.call(&["kill", "c", "KILL"])?.success()?;
    wait_until("it ends with the container", SOON, || every.ended())?;
    Ok(())
}

fn out_of_memory(host: &Host) -> Outcome {
    let sleeper =
        Sleeper::new(host, resources(json!({ "memory": { "limit": 32 << 20, "swap": 32 << 20 } })))?;
    let events = sleeper.0.cmd(&["events", "--interval", "1h", "c"]).spawn()?;
    let hog = "dd if=/dev/zero of=/dev/null bs=100M count=1";
    // Nobody says when it has begun to listen.
    wait_until("it tells of a kill", SOON, || {
        let _ = sleeper.0.call(&["exec", "c", "/bin/sh", "-c", hog]);
        events.stdout().contains("\"type\":\"oom\"")
    })
    .map_err(|error| format!("{error}: {}", events.stderr()))?;
    events.signal(nix::sys::signal::Signal::SIGTERM)?;
    Ok(())
}
