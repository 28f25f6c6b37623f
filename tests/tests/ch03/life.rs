//! A cgroup's life: who is in it and from when, freezing, and its end.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{Host, Need, Outcome, Test, ask, ns_inode, wait_until};

use super::{ROOT, Result, SOON, V1, V2, container, dir, inside, keyed, left, mount_point, read, run};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "ch03::the_command_is_in_its_cgroup_from_the_first_instruction",
            needs: ROOT,
            run: membership,
        },
        Test { name: "ch03::the_cgroup_namespace_shows_a_root", needs: ROOT, run: namespace },
        Test {
            name: "ch03::the_container_is_cloned_into_version_2",
            needs: &[Need::Root, Need::Rootfs, Need::CgroupV2("")],
            run: cloned_into,
        },
        Test { name: "ch03::frozen_processes_stand_still_until_thawed", needs: ROOT, run: frozen },
        Test {
            name: "ch03::version_1_freezes_where_version_2_is_not_mounted",
            needs: &[Need::Root, Need::Rootfs, Need::CgroupV1("freezer")],
            run: frozen_by_version_1,
        },
        Test { name: "ch03::stats_says_what_the_kernel_says", needs: ROOT, run: stats },
        Test {
            name: "ch03::limits_are_changed_while_it_runs",
            needs: &[Need::Root, Need::Rootfs, Need::CgroupV1("memory"), Need::CgroupV1("cpu")],
            run: update,
        },
        Test { name: "ch03::nothing_is_left_at_the_end", needs: ROOT, run: nothing_left },
        Test { name: "ch03::who_outlives_the_command_is_killed", needs: ROOT, run: survivors },
        Test { name: "ch03::cgroups_made_inside_are_removed", needs: ROOT, run: nested },
        Test {
            name: "ch03::clean_removes_what_a_killed_one_left",
            needs: &[Need::Root, Need::Rootfs, Need::Binary("kit")],
            run: killed,
        },
    ]
}

/// The lines of a `/proc/PID/cgroup` whose cgroup is ours.
fn ours(text: &str, pid: i32) -> usize {
    text.lines().filter(|line| line.ends_with(&format!(":/sampan/03-cgroups-{pid}"))).count()
}

fn membership(host: &Host) -> Outcome {
    // `cat` is what the container process executes: what it reads is about itself, before anything else runs there.
    for init in [&[][..], &["--no-init"]] {
        let mut args: Vec<_> =
            [init, &["--memory", "48m", "--share", "cgroup"]].concat().iter().map(Into::into).collect();
        args.push(host.rootfs()?.into_os_string());
        args.extend(["/bin/cat", "/proc/self/cgroup"].map(Into::into));
        let child = host.spawn("03-cgroups", args)?;
        let pid = child.pid();
        let output = child.wait()?.success()?;
        // memory and pids at least, each in its own hierarchy in version 1, together in version 2.
        let least = if mount_point(V1, "memory").is_ok() { 2 } else { 1 };
        assert!(ours(&output.stdout, pid) >= least, "{output}");
    }
    Ok(())
}

fn namespace(host: &Host) -> Outcome {
    let mut child = container(host, &["--memory", "48m"], "cat /proc/self/cgroup; echo done; sleep 60")?;
    child.wait_for("done")?;
    let process = inside(&child, "sleep 60")?;
    assert!(ours(&read(format!("/proc/{process}/cgroup"))?, child.pid()) > 0, "the host sees where it is");
    let text = child.stdout();
    let shown = text.lines().filter(|line| line.contains(":/"));
    assert!(shown.clone().all(|line| line.ends_with(":/")), "inside, it is at the top: {text}");
    assert!(shown.count() > 0);
    assert_ne!(ns_inode(process, "cgroup")?, ns_inode(std::process::id().cast_signed(), "cgroup")?);
    Ok(())
}

/// On a hybrid host too: nobody writes a pid there, so only the birth can have brought it in.
fn cloned_into(host: &Host) -> Outcome {
    let child = container(host, &[], "sleep 60")?;
    let process = inside(&child, "sleep 60")?;
    let procs = read(dir(&child, V2, "")?.join("cgroup.procs"))?;
    assert!(procs.lines().any(|pid| pid == process.to_string()), "{procs}");
    assert!(
        !procs.lines().any(|pid| pid == child.pid().to_string()),
        "the runtime process stays outside: {procs}"
    );
    Ok(())
}

fn processor_time(pid: i32) -> Result<u64> {
    let text = read(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    Ok(fields.split(' ').nth(11).unwrap_or_default().parse()?)
}

fn frozen(host: &Host) -> Outcome {
    let child = container(host, &[], "while :; do :; done")?;
    let busy = inside(&child, "while :")?;
    let name = child.pid().to_string();
    host.command("03-cgroups", ["freeze", &name])?.success()?;
    if mount_point(V2, "").is_ok() {
        assert_eq!(keyed(&dir(&child, V2, "")?.join("cgroup.events"), "frozen"), 1);
    } else {
        assert_eq!(read(dir(&child, V1, "freezer")?.join("freezer.state"))?, "FROZEN");
    }
    assert_ne!(ask::state(busy), Some('R'));
    assert_ne!(ask::state(busy), Some('T'), "no signal has stopped it");
    let before = processor_time(busy)?;
    sleep(Duration::from_millis(200));
    assert_eq!(processor_time(busy)?, before, "it stands still");
    // By the pid of a process inside, too.
    host.command("03-cgroups", ["thaw", &busy.to_string()])?.success()?;
    wait_until("it runs on", SOON, || processor_time(busy).is_ok_and(|now| now > before))?;
    Ok(())
}

fn frozen_by_version_1(host: &Host) -> Outcome {
    if let Ok(v2) = mount_point(V2, "") {
        host.command("umount", [v2])?.success()?;
    }
    let child = container(host, &[], "while :; do :; done")?;
    let state = dir(&child, V1, "freezer")?.join("freezer.state");
    let pid = child.pid().to_string();
    host.command("03-cgroups", ["freeze", &pid])?.success()?;
    assert_eq!(read(&state)?, "FROZEN");
    let busy = inside(&child, "while :")?;
    assert_eq!(ask::state(busy), Some('D'));
    host.command("03-cgroups", ["thaw", &pid])?.success()?;
    assert_eq!(read(&state)?, "THAWED");
    child.end()
}

fn stats(host: &Host) -> Outcome {
    // The shell becomes the program, so that there are as many processes at the second look as at the first.
    let child = container(host, &["--memory", "48m", "--pids", "12"], "exec sleep 60")?;
    let output = host.command("03-cgroups", ["stats", &format!("03-cgroups-{}", child.pid())])?.success()?;
    let version = if mount_point(V1, "pids").is_ok() { V1 } else { V2 };
    let tasks = read(dir(&child, version, "pids")?.join("pids.current"))?;
    assert!(output.stdout.contains(&format!("pids    {tasks}, limit 12, forks refused 0\n")), "{output}");
    assert!(output.stdout.contains(", limit 48m, "), "{output}");
    assert!(output.stdout.ends_with("state   running\n"), "{output}");
    let missing = host.command("03-cgroups", ["stats", "no-such"])?.expect(125)?;
    assert!(missing.stderr.starts_with("error: no cgroup sampan/no-such in any hierarchy"), "{missing}");
    Ok(())
}

fn update(host: &Host) -> Outcome {
    let child = container(host, &["--memory", "48m"], "sleep 60")?;
    let memory = dir(&child, V1, "memory")?;
    let name = child.pid().to_string();
    // Up and down: memory may at no moment be above memory and swap together.
    for (size, bytes) in [("96m", 96 << 20), ("32m", 32 << 20)] {
        host.command("03-cgroups", ["update", &name, "--memory", size])?.success()?;
        assert_eq!(read(memory.join("memory.limit_in_bytes"))?, bytes.to_string());
        assert_eq!(read(memory.join("memory.memsw.limit_in_bytes"))?, (2 * bytes).to_string());
    }
    // A controller that nobody had needed: its processes are moved into it.
    host.command("03-cgroups", ["update", &name, "--cpus", "0.5"])?.success()?;
    let cpu = dir(&child, V1, "cpu")?;
    assert_eq!(read(cpu.join("cpu.cfs_quota_us"))?, "50000");
    let process = inside(&child, "sleep 60")?.to_string();
    assert!(read(cpu.join("cgroup.procs"))?.lines().any(|pid| pid == process));
    child.end()
}

fn nothing_left(host: &Host) -> Outcome {
    let options = ["--memory", "48m", "--cpus", "1", "--cpuset", "0", "--pids", "12"];
    run(host, &options, "true")?.success()?;
    // The folder of all containers goes with the last one, and stays when there is another.
    let cpuset = mount_point(if mount_point(V1, "cpuset").is_ok() { V1 } else { V2 }, "cpuset")?;
    let others = fs::read_dir(cpuset.join("sampan"))
        .is_ok_and(|mut all| all.any(|entry| entry.is_ok_and(|e| e.path().is_dir())));
    assert_eq!(cpuset.join("sampan").exists(), others);
    Ok(())
}

fn survivors(host: &Host) -> Outcome {
    // Without a pid namespace nobody but the cgroup knows who belongs to the container.
    let script = "for i in 1 2 3; do sleep 61 & done; exit 3";
    let options = ["--share", "pid", "--no-init"];
    run(host, &options, script)?.expect(3)?;
    let alive = |pid: i32| ask::command_line(pid).contains("sleep 61");
    let processes =
        fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    assert_eq!(processes.filter(|&pid| alive(pid)).count(), 0);
    Ok(())
}

fn nested(host: &Host) -> Outcome {
    let child = container(host, &["--memory", "48m"], "sleep 60")?;
    let version = if mount_point(V1, "memory").is_ok() { V1 } else { V2 };
    let below = dir(&child, version, "memory")?.join("a/b");
    fs::create_dir_all(&below)?;
    child.end()
}

fn killed(host: &Host) -> Outcome {
    let child = container(host, &["--memory", "48m"], "sleep 60")?;
    let process = inside(&child, "sleep 60")?;
    let pid = child.pid();
    child.signal(Signal::SIGKILL)?;
    drop(child);
    wait_until("the container dies with its runtime process", SOON, || ask::state(process).is_none())?;
    assert!(!left(pid).is_empty(), "a killed program cannot remove anything");
    host.command("kit", ["clean"])?.success()?;
    assert!(left(pid).is_empty(), "{:?}", left(pid));
    Ok(())
}
