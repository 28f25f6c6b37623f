//! Docker's other flags for limits and devices: what stands in the kernel's files, and what a process may do.

use std::fs;
use std::path::{Path, PathBuf};

use tests::{Host, Need, Outcome, Test};

use super::confined::cgroup_file;
use super::{ROOT, Result, Sampan};

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    const MEMORY: &[Need] = &[Need::Root, Need::Overlay, Need::Rootfs, Need::Cgroup("memory")];
    const CPU: &[Need] =
        &[Need::Root, Need::Overlay, Need::Rootfs, Need::Cgroup("cpu"), Need::Cgroup("cpuset")];
    // The controller of disks has one name in version 1 and another in version 2.
    const V1: &[Need] = &[Need::Root, Need::Overlay, Need::Rootfs, Need::CgroupV1("blkio")];
    const V2: &[Need] = &[Need::Root, Need::Overlay, Need::Rootfs, Need::CgroupV2("io")];
    vec![
        test("engine::memory_flags_are_dockers", MEMORY, memory),
        test("engine::cpu_flags_are_dockers", CPU, cpu),
        test("engine::a_disk_is_throttled_by_version_1", V1, io),
        test("engine::a_disk_is_throttled_by_version_2", V2, io),
        test("engine::limits_of_each_process", ROOT, process),
        test("engine::a_device_with_its_rule", ROOT, device),
        test("engine::a_parent_for_the_cgroup", MEMORY, parent),
        test("engine::limits_that_contradict_each_other", ROOT, refused),
    ]
}

/// The process of a container that sleeps, with these flags.
fn sleeper(sampan: &Sampan<'_>, flags: &[&str]) -> Result<i32> {
    let id = sampan.ok(&[&["run", "-d", "--network", "none"], flags, &["busybox", "sleep", "60"]].concat())?;
    sampan.pid(&id)
}

/// Removes all containers: a test leaves nothing that runs.
fn clear(sampan: &Sampan<'_>) -> Outcome {
    for id in sampan.ok(&["ps", "-aq"])?.lines() {
        sampan.ok(&["rm", "-f", id])?;
    }
    Ok(())
}

fn is_v2(controller: &str) -> Result<bool> {
    Ok(!fs::read_to_string("/proc/self/cgroup")?
        .lines()
        .any(|line| line.split(':').nth(1).is_some_and(|names| names.split(',').any(|it| it == controller))))
}

fn memory(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let words = ["-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m"];
    let pid = sleeper(&sampan, &words)?;
    let file = |pid, v1, v2| cgroup_file(pid, "memory", v1, v2);
    assert_eq!(file(pid, "memory.soft_limit_in_bytes", "memory.low")?, (32 << 20).to_string());
    let swap = if is_v2("memory")? { 32 << 20 } else { 96 << 20 };
    assert_eq!(file(pid, "memory.memsw.limit_in_bytes", "memory.swap.max")?, swap.to_string());
    let pid = sleeper(&sampan, &["-m", "64m", "--memory-swap", "-1"])?;
    let swap = file(pid, "memory.memsw.limit_in_bytes", "memory.swap.max")?;
    assert!(swap == "max" || swap.parse::<u64>()? > 1 << 60, "{swap}");
    let flags = ["--memory-swappiness", "7", "--oom-kill-disable"];
    if is_v2("memory")? {
        let output = sampan.call(&["run", "--rm", "--memory-swappiness", "7", "busybox", "true"])?;
        assert_eq!(output.code, 125, "{output}");
        assert!(output.stderr.contains("version 1"), "{output}");
    } else {
        let pid = sleeper(&sampan, &[&["-m", "64m"], &flags[..]].concat())?;
        assert_eq!(file(pid, "memory.swappiness", "")?, "7");
        assert!(file(pid, "memory.oom_control", "")?.starts_with("oom_kill_disable 1"));
    }
    clear(&sampan)
}

fn cpu(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let words = ["--cpu-quota", "50000", "--cpu-period", "200000", "-c", "512"];
    let pid = sleeper(&sampan, &[&words[..], &["--cpuset-cpus", "0", "--cpuset-mems", "0"]].concat())?;
    if is_v2("cpu")? {
        assert_eq!(cgroup_file(pid, "cpu", "", "cpu.max")?, "50000 200000");
        assert_eq!(cgroup_file(pid, "cpu", "", "cpu.weight")?, "59");
    } else {
        assert_eq!(cgroup_file(pid, "cpu", "cpu.cfs_quota_us", "")?, "50000");
        assert_eq!(cgroup_file(pid, "cpu", "cpu.cfs_period_us", "")?, "200000");
        assert_eq!(cgroup_file(pid, "cpu", "cpu.shares", "")?, "512");
    }
    assert_eq!(cgroup_file(pid, "cpuset", "cpuset.cpus", "cpuset.cpus")?, "0");
    assert_eq!(cgroup_file(pid, "cpuset", "cpuset.mems", "cpuset.mems")?, "0");
    clear(&sampan)
}

/// A whole disk, a real one before a loop device: its path and its numbers.
fn disk() -> Result<(String, String)> {
    let mut disks: Vec<PathBuf> = fs::read_dir("/sys/block")?
        .map(|entry| entry.map(|it| it.path()))
        .collect::<std::result::Result<_, _>>()?;
    disks.sort_by_key(|path| path.to_string_lossy().contains("loop"));
    for disk in disks {
        let node = Path::new("/dev").join(disk.file_name().unwrap_or_default());
        let size = fs::read_to_string(disk.join("size"))?;
        if node.exists() && size.trim() != "0" {
            return Ok((node.display().to_string(), fs::read_to_string(disk.join("dev"))?.trim().to_owned()));
        }
    }
    Err("this machine has no disk".into())
}

fn io(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let (node, numbers) = disk()?;
    let (bytes, count) = (|rate: &str| format!("{node}:{rate}"), format!("{node}:123"));
    let pid = sleeper(
        &sampan,
        &[
            "--device-read-bps",
            &bytes("2m"),
            "--device-write-bps",
            &bytes("1m"),
            "--device-read-iops",
            &count,
            "--device-write-iops",
            &count,
        ],
    )?;
    if is_v2("blkio")? {
        let text = cgroup_file(pid, "io", "", "io.max")?;
        assert_eq!(text, format!("{numbers} rbps=2097152 wbps=1048576 riops=123 wiops=123"));
    } else {
        for (file, rate) in
            [("read_bps", "2097152"), ("write_bps", "1048576"), ("read_iops", "123"), ("write_iops", "123")]
        {
            let text = cgroup_file(pid, "blkio", &format!("blkio.throttle.{file}_device"), "")?;
            assert_eq!(text, format!("{numbers} {rate}"), "{file}");
        }
    }
    for (path, said) in [("/etc/passwd:1m", "it is no device"), ("/dev/null:1m", "it is no block device")] {
        let output = sampan.call(&["run", "--rm", "--device-write-bps", path, "busybox", "true"])?;
        assert_eq!(output.code, 125, "{output}");
        assert!(output.stderr.contains(said), "{output}");
    }
    // By the scheduler of the disk, which not every kernel has: the weight, or a clear word.
    let output = sampan.call(&[
        "run",
        "-d",
        "--network",
        "none",
        "--blkio-weight",
        "300",
        "busybox",
        "sleep",
        "60",
    ])?;
    if output.code == 0 {
        let pid = sampan.pid(output.stdout.trim())?;
        let weight = cgroup_file(pid, "blkio", "blkio.bfq.weight", "io.bfq.weight")
            .or_else(|_| cgroup_file(pid, "blkio", "blkio.weight", "io.weight"))?;
        assert!(weight.contains("300") || weight.contains("2938"), "{weight}");
    } else {
        assert!(output.stderr.contains("weight"), "{output}");
    }
    clear(&sampan)
}

fn process(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let words = ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--oom-score-adj", "500"];
    let pid = sleeper(&sampan, &words)?;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((line("Max open files"), line("Max core file size")), ("100 200".into(), "0 0".into()));
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?.trim(), "500");
    clear(&sampan)
}

fn device(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    // The kernel's log: whoever may open it to write may, as far as the node's mode says.
    let open = |device: &str| {
        let script = "ls -l /dev/log | cut -c1-10; (: > /dev/log) 2>&1 | sed 's/.*: //'";
        sampan.ok(&["run", "--rm", "--network", "none", "--device", device, "busybox", "sh", "-c", script])
    };
    let mode = sampan.host.command("stat", ["-c", "%A", "/dev/kmsg"])?.success()?.stdout;
    assert_eq!(open("/dev/kmsg:/dev/log")?, mode.trim());
    assert_eq!(open("/dev/kmsg:/dev/log:w")?, mode.trim());
    assert_eq!(open("/dev/kmsg:/dev/log:r")?, format!("{}\nOperation not permitted", mode.trim()));
    for (device, said) in [("/dev/none", "No such file"), ("/etc/passwd", "it is no device")] {
        let output = sampan.call(&["run", "--rm", "--device", device, "busybox", "true"])?;
        assert_eq!(output.code, 125, "{output}");
        assert!(output.stderr.contains(said), "{output}");
    }
    Ok(())
}

fn parent(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let name = format!("sampan-parent-{}", std::process::id());
    let flags =
        ["run", "-d", "--network", "none", "--cgroup-parent", &format!("/{name}"), "busybox", "sleep", "60"];
    let id = sampan.ok(&flags)?;
    let own = fs::read_to_string(format!("/proc/{}/cgroup", sampan.pid(&id)?))?;
    assert!(own.lines().any(|line| line.ends_with(&format!(":/{name}/{id}"))), "{own}");
    sampan.ok(&["rm", "-f", &id])?;
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines().filter(|it| it.contains(" - cgroup")) {
        let folder = Path::new(line.split(' ').nth(4).unwrap_or_default()).join(&name);
        assert!(!folder.join(&id).exists());
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

fn refused(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    for (flags, said) in [
        (&["--cpus", "1", "--cpu-quota", "5000"][..], "leave --cpu-quota and --cpu-period out"),
        (&["--memory-swap", "64m"], "-m must be given too"),
        (&["-m", "64m", "--memory-swap", "32m"], "at least what -m is"),
        (&["-m", "64m", "--memory-reservation", "65m"], "at most what -m is"),
        (&["--cpu-quota", "999"], "at least 1000"),
        (&["--cpu-period", "999"], "from 1000 to 1000000"),
        (&["--memory-swappiness", "-2"], "from 0 to 100"),
        (&["--oom-score-adj", "1001"], "from -1000 to 1000"),
        (&["--blkio-weight", "9"], "from 10 to 1000"),
    ] {
        let output = sampan.call(&[&["run"], flags, &["busybox", "true"]].concat())?;
        assert_eq!(output.code, 125, "{output}");
        assert!(output.stderr.contains(said), "{output}");
    }
    // What means that nothing is asked for.
    let nothing = ["--memory-swappiness", "-1", "--memory-swap", "-1", "--platform", "linux"];
    let id = sampan.ok(&[&["create"], &nothing[..], &["busybox", "true"]].concat())?;
    sampan.ok(&["rm", &id])?;
    for flags in [["--ulimit", "files=5"], ["--device", "fuse"], ["--device-read-bps", "/dev/vda"]] {
        let output = sampan.call(&[&["run"], &flags[..], &["busybox", "true"]].concat())?;
        assert_ne!(output.code, 0);
        assert!(output.stderr.contains(flags[0]), "{output}");
    }
    assert_eq!(sampan.ok(&["ps", "-aq"])?, "");
    Ok(())
}
