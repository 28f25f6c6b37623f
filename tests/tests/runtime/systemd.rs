//! The systemd driver, against a real systemd: the machine's first process, as in `cargo kit vm --systemd`.
//!
//! systemd is asked by its own systemctl(1), and the kernel by the cgroup's files. `fake_systemd` is the same driver against a manager
//! of our own, on every machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test, wait_until};

use super::{Bundle, Result, id};

const SOON: Duration = Duration::from_secs(60);
const SYSTEMD: &[Need] = &[Need::Root, Need::Rootfs, Need::Systemd];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, run| Test { name, needs: SYSTEMD, run };
    vec![
        test("runtime::systemd_keeps_the_limits_of_its_scope", limits),
        test("runtime::systemd_leaves_the_rules_for_devices", devices),
        test("runtime::systemd_ends_the_scope_with_the_container", ends),
        test("runtime::systemd_says_what_it_refuses", refused),
    ]
}

/// The files of the machine's systemd, which the test's own `/run` covers.
fn uncover() -> Result<()> {
    for name in ["dbus", "systemd"] {
        symlink(Path::new("/proc/1/root/run").join(name), Path::new("/run").join(name))?;
    }
    Ok(())
}

/// A bundle of a container that sleeps, in this scope of system.slice.
fn bundle<'a>(host: &'a Host, edit: impl FnOnce(&mut Value)) -> Result<Bundle<'a>> {
    uncover()?;
    Bundle::new(host, &["/bin/sleep", "1000"], |config| {
        config["linux"]["cgroupsPath"] = json!(format!("system.slice:sampan:{}", id("c")));
        edit(config);
    })
}

fn unit() -> String {
    format!("sampan-{}.scope", id("c"))
}

/// What systemd says of the scope: `name=value` lines.
fn shown(host: &Host) -> Result<String> {
    Ok(host.command("systemctl", ["show", &unit()])?.success()?.stdout)
}

fn is_active(host: &Host) -> Result<bool> {
    Ok(host.command("systemctl", ["is-active", &unit()])?.stdout.trim() == "active")
}

fn directory() -> PathBuf {
    Path::new("/sys/fs/cgroup/system.slice").join(unit())
}

fn file(name: &str) -> Result<String> {
    let path = directory().join(name);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Whether systemd and the kernel say the same, also after systemd has written all it knows anew.
fn both(host: &Host, said: &[&str], files: &[(&str, &str)]) -> Result<()> {
    for reload in [false, true] {
        if reload {
            host.command("systemctl", ["daemon-reload"])?.success()?;
        }
        let all = shown(host)?;
        for line in said {
            assert!(all.lines().any(|it| it == *line), "{line} is not in\n{all}");
        }
        for (name, text) in files {
            assert_eq!(file(name)?, *text, "{name}, reloaded: {reload}");
        }
    }
    Ok(())
}

fn limits(host: &Host) -> Outcome {
    let bundle = bundle(host, |config| {
        config["linux"]["resources"]["memory"] =
            json!({ "limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20 });
        config["linux"]["resources"]["cpu"] =
            json!({ "quota": 50_000, "period": 200_000, "shares": 512, "cpus": "0" });
        config["linux"]["resources"]["pids"] = json!({ "limit": 33 });
    })?;
    bundle.call(&["--systemd-cgroup", "run", "--detach", "c"])?.success()?;
    both(
        host,
        &[
            "Slice=system.slice",
            "Delegate=yes",
            "MemoryMax=67108864",
            "MemoryLow=33554432",
            "MemorySwapMax=33554432",
            "TasksMax=33",
            "CPUQuotaPerSecUSec=250ms",
            "CPUWeight=59",
            "AllowedCPUs=0",
        ],
        &[
            ("memory.max", "67108864"),
            ("memory.low", "33554432"),
            ("memory.swap.max", "33554432"),
            ("pids.max", "33"),
            ("cpu.max", "50000 200000"),
            ("cpu.weight", "59"),
            ("cpuset.cpus", "0"),
            // Alone: who held the scope open is gone.
            ("cgroup.procs", &bundle.pid("c")?.to_string()),
        ],
    )?;
    let words = ["--memory", "80m", "--memory-swap", "80m", "--pids-limit", "44"];
    let cpu = ["--cpu-quota", "100000", "--cpu-period", "100000"];
    bundle.call(&[&["update"], &words[..], &cpu, &["c"]].concat())?.success()?;
    both(
        host,
        &["MemoryMax=83886080", "MemorySwapMax=0", "TasksMax=44", "CPUQuotaPerSecUSec=1s"],
        &[
            ("memory.max", "83886080"),
            ("memory.swap.max", "0"),
            ("pids.max", "44"),
            ("cpu.max", "100000 100000"),
        ],
    )?;
    let mut second = bundle.cmd(&["exec", "c", "/bin/sh", "-c", "echo in; sleep 1000"]).spawn()?;
    second.wait_for("in")?;
    assert!(file("cgroup.procs")?.lines().count() >= 2);
    bundle.call(&["pause", "c"])?.success()?;
    assert_eq!((file("cgroup.freeze")?, &bundle.state("c")?["status"]), ("1".into(), &json!("paused")));
    bundle.call(&["resume", "c"])?.success()?;
    bundle.call(&["delete", "--force", "c"])?.success()?;
    assert!(!directory().exists() && !is_active(host)?);
    Ok(())
}

fn devices(host: &Host) -> Outcome {
    let bundle = bundle(host, |_| {})?;
    bundle.call(&["--systemd-cgroup", "run", "--detach", "c"])?.success()?;
    // The kernel's log, which root may always open: see `resources`.
    let open = ["exec", "c", "/bin/sh", "-c", "cd /dev; test -e log || mknod log c 1 11; (: > log)"];
    for _ in 0..2 {
        let output = bundle.call(&open)?;
        assert!(output.stderr.contains("Operation not permitted"), "{output}");
        host.command("systemctl", ["daemon-reload"])?.success()?;
    }
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn ends(host: &Host) -> Outcome {
    let bundle = bundle(host, |_| {})?;
    // The container's own end.
    bundle.call(&["--systemd-cgroup", "run", "--detach", "c"])?.success()?;
    assert!(is_active(host)?);
    bundle.call(&["kill", "c", "KILL"])?.success()?;
    wait_until("the scope ends with its last process", SOON, || is_active(host).is_ok_and(|it| !it))?;
    bundle.call(&["delete", "c"])?.success()?;
    // The runtime's, in the foreground.
    let runtime = bundle.cmd(&["--systemd-cgroup", "run", "c"]).spawn()?;
    wait_until("it runs", SOON, || bundle.state("c").is_ok_and(|it| it["status"] == "running"))?;
    assert!(is_active(host)?);
    runtime.signal(Signal::SIGKILL)?;
    wait_until("the container dies with it, and the scope", SOON, || is_active(host).is_ok_and(|it| !it))?;
    bundle.call(&["delete", "--force", "c"])?.success()?;
    // Made and not started; without a path it has its id for a name.
    bundle.rewrite(&["/bin/true"], |_| {})?;
    bundle.call(&["--systemd-cgroup", "create", "c"])?.success()?;
    assert!(is_active(host)? && directory().exists());
    bundle.call(&["delete", "--force", "c"])?.success()?;
    assert!(!directory().exists() && !is_active(host)?);
    Ok(())
}

fn refused(host: &Host) -> Outcome {
    let bundle = bundle(host, |_| {})?;
    bundle.call(&["--systemd-cgroup", "run", "--detach", "c"])?.success()?;
    let second = Bundle::new(host, &["/bin/true"], |config| {
        config["linux"]["cgroupsPath"] = json!(format!("system.slice:sampan:{}", id("c")));
    })?;
    let output = second.call(&["--systemd-cgroup", "run", "c"])?.expect(1)?;
    assert!(output.stderr.contains(&format!("StartTransientUnit {}", unit())), "{output}");
    assert!(output.stderr.contains("UnitExists"), "{output}");
    // The first is as it was.
    assert_eq!(bundle.state("c")?["status"], "running");
    assert!(is_active(host)?);
    bundle.call(&["delete", "--force", "c"])?.success()?;
    let output = bundle.call(&["run", "c"])?.expect(1)?;
    assert!(output.stderr.contains("give --systemd-cgroup, before the command"), "{output}");
    Ok(())
}
