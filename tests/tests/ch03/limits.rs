//! Each limit: what the kernel has in the cgroup's files, and what it does at the limit.

use std::fs;

use nix::sys::signal::Signal;
use tests::{Host, Need, Outcome, Test, wait_until};

use super::{ROOT, SOON, V1, V2, Version, container, dir, inside, keyed, read, run};

/// Takes 200 MB at once, and is killed for it below that.
const HOG: &str = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null";

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! both {
        ($name:literal, $v1:literal, $v2:literal, $run:ident) => {
            [
                Test {
                    name: concat!("ch03::v1_", $name),
                    needs: &[Need::Root, Need::Rootfs, Need::CgroupV1($v1)],
                    run: |host| $run(host, V1),
                },
                Test {
                    name: concat!("ch03::v2_", $name),
                    needs: &[Need::Root, Need::Rootfs, Need::CgroupV2($v2)],
                    run: |host| $run(host, V2),
                },
            ]
        };
    }
    let mut tests = Vec::new();
    tests.extend(both!("memory_is_limited_and_the_kill_is_counted", "memory", "memory", memory));
    tests.extend(both!("swap_is_counted_with_memory", "memory", "memory", swap));
    tests.extend(both!("pids_are_limited_and_the_refusal_is_counted", "pids", "pids", pids));
    tests.extend(both!("cpu_is_throttled_and_that_is_counted", "cpu", "cpu", cpu));
    tests.extend(both!("cpuset_is_the_list_that_the_kernel_allows", "cpuset", "cpuset", cpuset));
    tests.extend(both!("io_limit_stands_in_the_file", "blkio", "io", io));
    tests.push(Test { name: "ch03::a_killed_command_gives_137_and_is_told_of", needs: ROOT, run: killed });
    tests.push(Test { name: "ch03::who_met_no_limit_is_told_nothing", needs: ROOT, run: quiet });
    tests
}

fn memory(host: &Host, version: Version) -> Outcome {
    let child = container(host, &["--memory", "48m"], &format!("{HOG}; sleep 60"))?;
    let dir = dir(&child, version, "memory")?;
    let (limit, events) = match version {
        V1 => ("memory.limit_in_bytes", "memory.oom_control"),
        V2 => ("memory.max", "memory.events"),
    };
    assert_eq!(read(dir.join(limit))?, (48 << 20).to_string());
    wait_until("a kill is counted", SOON, || keyed(&dir.join(events), "oom_kill") == 1)?;
    // The one who was killed was the hog; the shell and the init process live on.
    inside(&child, "sleep 60")?;
    child.end()
}

fn swap(host: &Host, version: Version) -> Outcome {
    let child = container(host, &["--memory", "48m", "--memory-swap", "64m"], "sleep 60")?;
    let dir = dir(&child, version, "memory")?;
    let (file, bytes) = match version {
        V1 => ("memory.memsw.limit_in_bytes", 64 << 20),
        V2 => ("memory.swap.max", 16 << 20),
    };
    assert_eq!(read(dir.join(file))?, bytes.to_string());
    Ok(())
}

fn pids(host: &Host, version: Version) -> Outcome {
    // The shell that is refused a process ends; the one around it waits for what it started before.
    let refused = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 60 & done";
    let script = format!("sleep 60 & first=$!; ({refused}); wait $first");
    let child = container(host, &["--pids", "12"], &script)?;
    let dir = dir(&child, version, "pids")?;
    assert_eq!(read(dir.join("pids.max"))?, "12");
    wait_until("a refused fork is counted", SOON, || keyed(&dir.join("pids.events"), "max") > 0)?;
    assert!(read(dir.join("pids.current"))?.parse::<u32>()? <= 12);
    Ok(())
}

fn cpu(host: &Host, version: Version) -> Outcome {
    let mut child = container(host, &["--cpus", "0.2", "--cpu-weight", "100"], "while :; do :; done")?;
    let dir = dir(&child, version, "cpu")?;
    match version {
        V1 => {
            assert_eq!(read(dir.join("cpu.cfs_quota_us"))?, "20000");
            assert_eq!(read(dir.join("cpu.cfs_period_us"))?, "100000");
            assert_eq!(read(dir.join("cpu.shares"))?, "1024");
        }
        V2 => {
            assert_eq!(read(dir.join("cpu.max"))?, "20000 100000");
            assert_eq!(read(dir.join("cpu.weight"))?, "100");
        }
    }
    // Read, not timed: a busy machine may be slow, but it cannot throttle what has no ceiling.
    wait_until("periods are counted", SOON, || keyed(&dir.join("cpu.stat"), "nr_throttled") >= 3)?;
    child.signal(Signal::SIGTERM)?;
    child.wait_for("limits: throttled in ")?;
    Ok(())
}

fn cpuset(host: &Host, version: Version) -> Outcome {
    let child = container(host, &["--cpuset", "0"], "sleep 60")?;
    assert_eq!(read(dir(&child, version, "cpuset")?.join("cpuset.cpus"))?, "0");
    let status = read(format!("/proc/{}/status", inside(&child, "sleep 60")?))?;
    assert!(status.lines().any(|line| line == "Cpus_allowed_list:\t0"), "{status}");
    Ok(())
}

fn io(host: &Host, version: Version) -> Outcome {
    let device = fs::read_dir("/sys/block")?.flatten().find_map(|block| read(block.path().join("dev")).ok());
    let device = device.ok_or("this machine has no block device")?;
    let limit = format!("{device}:rbps=1m,wiops=50");
    let child = container(host, &["--io-max", &limit], "sleep 60")?;
    let dir = dir(&child, version, "blkio")?;
    match version {
        V1 => {
            assert_eq!(read(dir.join("blkio.throttle.read_bps_device"))?, format!("{device} 1048576"));
            assert_eq!(read(dir.join("blkio.throttle.write_iops_device"))?, format!("{device} 50"));
        }
        V2 => {
            assert_eq!(
                read(dir.join("io.max"))?,
                format!("{device} rbps=1048576 wbps=max riops=max wiops=50")
            );
        }
    }
    Ok(())
}

fn killed(host: &Host) -> Outcome {
    for options in [&["--memory", "48m"][..], &["--memory", "48m", "--no-init"]] {
        let output = run(host, options, &format!("exec {HOG}"))?.expect(137)?;
        let line = "limits: 1 process killed at the memory limit of 48m";
        assert!(output.stderr.lines().any(|told| told == line), "{output}");
    }
    Ok(())
}

fn quiet(host: &Host) -> Outcome {
    let output = run(host, &["--memory", "48m", "--pids", "12"], "exit 7")?;
    assert_eq!(output.expect(7)?.stderr, "");
    Ok(())
}
