//! Each failure that chapter 3 explains, provoked.

use std::fs;

use tests::{Host, Need, Outcome, Output, Test};

use super::{ROOT, V1, mount_point, run};

const PIDS: &[Need] = &[Need::Root, Need::Rootfs, Need::CgroupV1("pids")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch03::a_missing_controller_is_named", needs: PIDS, run: no_controller },
        Test { name: "ch03::no_hierarchy_at_all_is_explained", needs: ROOT, run: no_hierarchy },
        Test { name: "ch03::an_invalid_cpuset_is_refused_before_anything_is_made", needs: ROOT, run: cpuset },
        Test { name: "ch03::values_out_of_range_are_refused", needs: ROOT, run: values },
        Test {
            name: "ch03::user_without_delegation_is_told_what_is_missing",
            needs: &[Need::UserNamespaces, Need::Rootfs],
            run: no_delegation,
        },
        Test {
            name: "ch03::user_without_limits_runs_and_is_told",
            needs: &[Need::UserNamespaces, Need::Rootfs],
            run: no_limits,
        },
        Test { name: "ch03::hint_cgroups_are_mounted_read_only", needs: PIDS, run: read_only },
        Test { name: "ch03::hint_a_cgroup_of_that_name_was_left", needs: PIDS, run: left_over },
        Test { name: "ch03::hint_no_room_for_the_init_process", needs: ROOT, run: no_room },
        Test {
            name: "ch03::hint_no_such_disk",
            needs: &[Need::Root, Need::Rootfs, Need::CgroupV1("blkio")],
            run: no_disk,
        },
        Test {
            name: "ch03::hint_quota_above_the_parents",
            needs: &[Need::Root, Need::Rootfs, Need::CgroupV1("cpu")],
            run: quota,
        },
    ]
}

fn fails(host: &Host, options: &[&str]) -> Result<Output, Box<dyn std::error::Error>> {
    let output = run(host, options, "echo it ran")?.expect(125)?;
    assert_eq!(output.stdout, "", "nothing was run: {output}");
    Ok(output)
}

/// The three lines of a failed step: what, why, what to do.
fn told(output: &Output, step: &str, errno: &str, advice: &str) {
    assert!(output.stderr.contains(&format!("error: {step}")), "no {step:?}: {output}");
    assert!(output.stderr.contains(&format!("caused by: {errno}: ")), "no {errno}: {output}");
    let hint = output.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_default();
    assert!(hint.contains(advice), "no {advice:?}: {output}");
    assert!(hint.contains("see the book, 03-cgroups.html#"), "{output}");
}

fn no_controller(host: &Host) -> Outcome {
    host.command("umount", [mount_point(V1, "pids")?])?.success()?;
    let output = fails(host, &["--pids", "12"])?;
    assert!(output.stderr.starts_with("error: --pids needs the cgroup controller pids"), "{output}");
    // Nobody asked for it here: it is done without.
    run(host, &["--memory", "48m"], "true")?.success()?;
    Ok(())
}

fn no_hierarchy(host: &Host) -> Outcome {
    host.command("umount", ["-R", "-l", "/sys/fs/cgroup"])?.success()?;
    let output = fails(host, &["--pids", "12"])?;
    assert!(output.stderr.starts_with("error: no cgroup hierarchy is mounted here"), "{output}");
    Ok(())
}

fn cpuset(host: &Host) -> Outcome {
    let output = fails(host, &["--cpuset", "0,4000"])?;
    assert!(output.stderr.starts_with("error: --cpuset 0,4000: this host offers 0"), "{output}");
    let output = fails(host, &["--cpuset", "all"])?;
    assert!(output.stderr.starts_with("error: --cpuset all: it must be a list"), "{output}");
    Ok(())
}

fn values(host: &Host) -> Outcome {
    for (option, value, reason) in [
        ("--cpus", "0", "the least is 0.01"),
        ("--cpu-weight", "0", "it must be 1 to 10000"),
        ("--memory-swap", "64m", "--memory must be given too"),
    ] {
        let output = fails(host, &[option, value])?;
        assert!(output.stderr.starts_with(&format!("error: {option} ")), "{output}");
        assert!(output.stderr.contains(reason), "{output}");
    }
    let output = host.command("03-cgroups", ["--memory", "64q", "/"])?.expect(2)?;
    assert!(output.stderr.contains("is no unit of size"), "{output}");
    Ok(())
}

fn no_delegation(host: &Host) -> Outcome {
    let output = fails(&host.as_user(), &["--memory", "48m"])?;
    assert!(output.stderr.starts_with("error: the cgroup "), "{output}");
    assert!(output.stderr.contains("does not belong to this user: "), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "one clear line: {output}");
    Ok(())
}

fn no_limits(host: &Host) -> Outcome {
    let user = host.as_user();
    let output = run(&user, &[], "echo it ran")?.success()?;
    assert_eq!(output.stdout, "it ran\n");
    assert!(output.stderr.contains("without a cgroup of its own, for no limit was asked for: "), "{output}");
    Ok(())
}

fn read_only(host: &Host) -> Outcome {
    let pids = mount_point(V1, "pids")?;
    host.command("mount", ["-o", "remount,bind,ro", &pids.to_string_lossy()])?.success()?;
    told(&fails(host, &["--pids", "12"])?, "mkdir ", "EROFS", "read-only");
    Ok(())
}

fn left_over(host: &Host) -> Outcome {
    // exec keeps the pid, and so the name.
    let folder = mount_point(V1, "pids")?.join("sampan");
    let script = format!(
        "echo $$; mkdir -p {0}/03-cgroups-$$; exec 03-cgroups --pids 5 / /bin/true",
        folder.display()
    );
    let output = host.command("sh", ["-c", &script])?.expect(125)?;
    let pid = output.stdout.trim();
    fs::remove_dir(folder.join(format!("03-cgroups-{pid}")))?;
    // Another container may be in it.
    let _ = fs::remove_dir(&folder);
    told(&output, "mkdir ", "EEXIST", "cargo kit clean");
    Ok(())
}

fn no_room(host: &Host) -> Outcome {
    told(&fails(host, &["--pids", "1"])?, "fork", "EAGAIN", "--no-init");
    run(host, &["--pids", "1", "--no-init"], "exit 0")?.success()?;
    Ok(())
}

fn no_disk(host: &Host) -> Outcome {
    let output = fails(host, &["--io-max", "254:4095:wbps=1m"])?;
    told(&output, "write blkio.throttle.write_bps_device", "ENODEV", "partition");
    let output = fails(host, &["--io-max", "254:4095:rbps=1m"])?;
    told(&output, "write blkio.throttle.read_bps_device", "ENODEV", "partition");
    Ok(())
}

fn quota(host: &Host) -> Outcome {
    // On a machine on which another container runs the folder is there already, and gets its quota back.
    let folder = mount_point(V1, "cpu")?.join("sampan");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("cpu.cfs_quota_us"), "10000")?;
    let outcome = fails(host, &["--cpus", "0.5"]);
    let _ = fs::write(folder.join("cpu.cfs_quota_us"), "-1");
    let _ = fs::remove_dir(&folder);
    told(&outcome?, "write cpu.cfs_quota_us", "EINVAL", "above that of the cgroup around it");
    Ok(())
}
