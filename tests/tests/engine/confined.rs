//! What a container may do, and how much, as the kernel has it.

use std::fs;

use serde_json::Value;
use tests::{Host, Need, Outcome, Test, ns_inode};

use super::{ROOT, Result, Sampan};

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("engine::capabilities_and_system_calls_are_dockers", ROOT, confined),
        test(
            "engine::limits_are_the_kernels",
            &[
                Need::Root,
                Need::Overlay,
                Need::Rootfs,
                Need::Cgroup("memory"),
                Need::Cgroup("pids"),
                Need::Cgroup("cpu"),
            ],
            limits,
        ),
        test("engine::exec_is_confined_like_the_container", ROOT, exec),
        test("engine::the_shims_program_cannot_be_overwritten", ROOT, own_exe),
    ]
}

fn confined(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let id = sampan.ok(&["run", "-d", "busybox", "sleep", "60"])?;
    let status = fs::read_to_string(format!("/proc/{}/status", sampan.pid(&id)?))?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
            .unwrap_or_default()
    };
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod,
    // audit_write, setfcap: Docker's fourteen.
    for set in ["CapBnd:", "CapEff:", "CapPrm:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16)?, 0xa804_25fb, "{set}");
    }
    assert_eq!(u64::from_str_radix(&field("CapAmb:"), 16)?, 0);
    assert_eq!(u64::from_str_radix(&field("CapInh:"), 16)?, 0);
    assert_eq!(field("Seccomp:"), "2");
    sampan.ok(&["rm", "-f", &id])?;
    let output = sampan.call(&["run", "--rm", "busybox", "mount", "-t", "tmpfs", "none", "/mnt"])?;
    assert_ne!(output.code, 0, "{output}");
    let output =
        sampan.call(&["run", "--rm", "busybox", "sh", "-c", "echo x > /proc/sys/kernel/hostname"])?;
    assert_ne!(output.code, 0, "/proc/sys is read-only: {output}");
    Ok(())
}

/// The container's file of a controller, in whichever hierarchy the host has it.
pub(super) fn cgroup_file(pid: i32, controller: &str, v1: &str, v2: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let found = if names.split(',').any(|name| name == controller) {
            fs::read_to_string(format!("/sys/fs/cgroup/{names}{path}/{v1}"))
        } else {
            fs::read_to_string(format!("/sys/fs/cgroup{path}/{v2}"))
        };
        if let Ok(text) = found {
            return Ok(text.trim().to_owned());
        }
    }
    Err(format!("no file of {controller} for {pid}: {text}").into())
}

fn limits(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let id = sampan.ok(&[
        "run",
        "-d",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "20",
        "busybox",
        "sleep",
        "60",
    ])?;
    let pid = sampan.pid(&id)?;
    assert_eq!(cgroup_file(pid, "memory", "memory.limit_in_bytes", "memory.max")?, (64 << 20).to_string());
    assert_eq!(cgroup_file(pid, "pids", "pids.max", "pids.max")?, "20");
    let quota = cgroup_file(pid, "cpu", "cpu.cfs_quota_us", "cpu.max")?;
    assert_eq!(quota.split(' ').next(), Some("50000"));
    sampan.ok(&["rm", "-f", &id])?;
    let output = sampan.call(&[
        "run",
        "-m",
        "32m",
        "--name",
        "hog",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=128M",
        "count=1",
    ])?;
    assert_eq!(output.code, 137, "{output}");
    assert_eq!(sampan.state(&sampan.ok(&["ps", "-aq", "--no-trunc"])?)?["oom_killed"], true);
    sampan.ok(&["rm", "hog"])?;
    Ok(())
}

fn exec(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let id = sampan.ok(&["run", "-d", "--name", "c1", "-e", "A=1", "busybox", "sleep", "60"])?;
    let first = sampan.pid(&id)?;
    let inside: Value = sampan.call(&["exec", "c1", "/kit/probe"])?.success()?.json()?;
    let status = |field: &str| -> Result<String> {
        let text = fs::read_to_string(format!("/proc/{first}/status"))?;
        Ok(text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim().to_owned())
    };
    assert_eq!(status("Seccomp:")?, "2");
    assert_eq!(
        sampan.ok(&[
            "exec",
            "c1",
            "grep",
            "-E",
            "^(CapBnd|CapEff|Seccomp|NoNewPrivs):",
            "/proc/self/status"
        ])?,
        sampan.ok(&["exec", "c1", "grep", "-E", "^(CapBnd|CapEff|Seccomp|NoNewPrivs):", "/proc/1/status"])?
    );
    assert_eq!(inside["namespaces"]["pid"].as_u64(), Some(ns_inode(first, "pid")?), "{inside}");
    assert_eq!(sampan.ok(&["exec", "c1", "sh", "-c", "echo $A"])?, "1");
    assert_eq!(
        sampan.ok(&[
            "exec",
            "-e",
            "B=2",
            "-w",
            "/tmp",
            "-u",
            "1000",
            "c1",
            "sh",
            "-c",
            "echo $B; pwd; id -u"
        ])?,
        "2\n/tmp\n1000"
    );
    assert_eq!(sampan.call(&["exec", "c1", "sh", "-c", "exit 7"])?.code, 7);
    assert_eq!(sampan.call(&["exec", "c1", "nope"])?.code, 127);
    assert_eq!(sampan.call(&["exec", "nobody", "true"])?.code, 1);
    sampan.ok(&["rm", "-f", "c1"])?;
    Ok(())
}

fn own_exe(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let id = sampan.ok(&["run", "-d", "busybox", "sleep", "60"])?;
    let shim = sampan.state(&id)?["shim"]["pid"].as_i64().ok_or("no shim")?;
    // While it runs, a program is busy for writers (ETXTBSY); what counts is that its mount is read-only for afterwards.
    let mount = nix::sys::statvfs::statvfs(format!("/proc/{shim}/exe").as_str())?;
    assert!(mount.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
    sampan.ok(&["rm", "-f", &id])?;
    Ok(())
}
