//! Several commands on one store at once, and a shim that is killed at any instant.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Host, Outcome, Test, wait_until};

use super::{NET, ROOT, Sampan};

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("engine::forty_at_once_leave_nothing", NET, forty),
        test("engine::two_starts_run_one_container", ROOT, two_starts),
        test("engine::two_removals_are_one", ROOT, two_removals),
        test("engine::a_shim_that_waits_takes_little_memory", ROOT, little_memory),
        test("engine::stop_does_not_wait_for_the_bridge", NET, prompt_stop),
        test("engine::a_shim_killed_at_any_instant_leaves_nothing_that_stays", NET, killed_at_any_instant),
        test("engine::a_killed_shim_is_no_success", ROOT, lost),
        test("engine::a_start_that_fails_leaves_nothing", NET, failed_start),
    ]
}

fn nothing_is_left(sampan: &Sampan<'_>) -> Outcome {
    assert_eq!(sampan.ok(&["ps", "-aq"])?, "");
    assert_eq!(fs::read_dir(sampan.root.join("containers"))?.count(), 0);
    assert_eq!(fs::read_dir(sampan.root.join("volumes"))?.count(), 0);
    wait_until("the bridge is gone", Duration::from_secs(60), || {
        fs::read_to_string("/proc/self/net/dev").is_ok_and(|links| !links.contains("sampan"))
    })?;
    wait_until("the run folder is gone", Duration::from_secs(60), || !sampan.run.exists())?;
    for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        for left in fs::read_dir(hierarchy.path().join("sampan")).into_iter().flatten().flatten() {
            assert!(left.file_name().len() != 64, "{}", left.path().display());
        }
    }
    Ok(())
}

fn forty(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    for _ in 0..2 {
        let victims = (0..4).map(|_| sampan.spawn(&["run", "--rm", "-v", "/data", "busybox", "sleep", "60"]));
        let victims: Vec<_> = victims.collect::<Result<_, _>>()?;
        let children = (0..20).map(|number| {
            let text = number.to_string();
            sampan.spawn(&["run", "--rm", "-v", "/data", "busybox", "echo", &text])
        });
        let children: Vec<_> = children.collect::<Result<_, _>>()?;
        for _ in 0..3 {
            sampan.call(&["ps", "-a"])?.success()?;
        }
        wait_until("the victims are removed", Duration::from_secs(60), || {
            let listed = sampan.ok(&["ps", "-a", "--no-trunc"]).unwrap_or_default();
            let asleep = |line: &&str| line.contains("\"sleep 60\"") && line.contains(" Up ");
            for line in listed.lines().filter(asleep) {
                let _ = sampan.call(&["rm", "-f", "-v", line.split(' ').next().unwrap_or_default()]);
            }
            !listed.contains("sleep 60") && listed.starts_with("CONTAINER")
        })?;
        for (number, child) in children.into_iter().enumerate() {
            assert_eq!(child.wait()?.success()?.stdout, format!("{number}\n"));
        }
        for victim in victims {
            assert_eq!(victim.wait()?.code, 137);
        }
    }
    nothing_is_left(&sampan)
}

fn little_memory(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let id = sampan.ok(&["run", "-d", "--name", "c1", "--network", "none", "busybox", "sleep", "60"])?;
    let shim = sampan.state(&id)?["shim"]["pid"].as_i64().ok_or("no shim")?;
    let resident = || -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Rss:"))?.trim().strip_suffix(" kB")?.parse().ok()
    };
    // It took many megabytes to get here, and what it needs it still finds.
    wait_until("the program's pages are given back", Duration::from_secs(60), || {
        resident().is_some_and(|kib| kib < 5000)
    })?;
    assert!(sampan.call(&["exec", "c1", "echo", "hello"])?.success()?.stdout.contains("hello"));
    sampan.ok(&["rm", "-f", "c1"])?;
    Ok(())
}

fn two_starts(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let id = sampan.ok(&["run", "-d", "--name", "c1", "busybox", "sh", "-c", "echo began; sleep 60"])?;
    for begun in 2..5 {
        sampan.ok(&["stop", "-t", "0", "c1"])?;
        let starts: Vec<_> = (0..4).map(|_| sampan.spawn(&["start", "c1"])).collect::<Result<_, _>>()?;
        let ended: Vec<_> = starts.into_iter().map(|start| start.wait()).collect::<Result<_, _>>()?;
        assert!(ended.iter().any(|output| output.code == 0), "{ended:?}");
        wait_until("it is logged", Duration::from_secs(60), || {
            sampan.ok(&["logs", "c1"]).is_ok_and(|log| log.lines().count() >= begun)
        })?;
        assert_eq!(sampan.ok(&["logs", "c1"])?.lines().count(), begun, "one of the four has started it");
        assert_eq!(sampan.ok(&["exec", "c1", "hostname"])?, id[..12]);
    }
    // What is so already is no error.
    sampan.ok(&["start", "c1"])?;
    sampan.ok(&["rm", "-f", "c1"])?;
    nothing_is_left(&sampan)
}

fn two_removals(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    for _ in 0..3 {
        sampan.ok(&[
            "run",
            "-d",
            "--name",
            "c1",
            "--network",
            "none",
            "-v",
            "/x",
            "busybox",
            "sleep",
            "60",
        ])?;
        let removals: Vec<_> =
            (0..4).map(|_| sampan.spawn(&["rm", "-f", "-v", "c1"])).collect::<Result<_, _>>()?;
        for removal in removals {
            let output = removal.wait()?;
            assert!(output.code == 0, "{output}");
        }
        assert_eq!(sampan.ok(&["ps", "-aq"])?, "");
    }
    // With -f it is enough that there is none; without, it is an error.
    assert_eq!(sampan.call(&["rm", "-f", "c1"])?.code, 0);
    assert_eq!(sampan.call(&["rm", "c1"])?.code, 1);
    nothing_is_left(&sampan)
}

fn prompt_stop(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    // The bridge goes a second after its last container. Where it is there when the command comes back, that has not waited for
    // it; where it is not, this machine may have been busy for a second: so once is enough.
    let mut is_there = false;
    for _ in 0..10 {
        sampan.ok(&["run", "-d", "--name", "c1", "--init", "busybox", "sleep", "60"])?;
        sampan.ok(&["stop", "c1"])?;
        is_there |= fs::read_to_string("/proc/self/net/dev")?.contains("sampan0");
        assert!(sampan.ok(&["ps", "-a"])?.contains("Exited (143)"));
        sampan.ok(&["rm", "c1"])?;
        if is_there {
            break;
        }
    }
    assert!(is_there, "whoever stops a container waits for the bridge");
    nothing_is_left(&sampan)
}

/// The shim's pid as its mark has it, which is there before everything else.
fn marked(sampan: &Sampan<'_>) -> Option<i32> {
    let folder = fs::read_dir(&sampan.run).ok()?.flatten().find(|entry| entry.file_name().len() == 64)?;
    let mark: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("shim.json")).ok()?).ok()?;
    i32::try_from(mark["pid"].as_i64()?).ok()
}

fn killed_at_any_instant(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    for delay in 0..12 {
        let child =
            sampan.spawn(&["run", "--rm", "--name", "c1", "-p", "8080:80", "busybox", "sleep", "60"])?;
        let mut shim = None;
        wait_until("the shim's mark", Duration::from_secs(60), || {
            shim = shim.or_else(|| marked(&sampan));
            shim.is_some()
        })?;
        std::thread::sleep(Duration::from_millis(2 * delay));
        kill(Pid::from_raw(shim.ok_or("no shim")?), Signal::SIGKILL)?;
        assert_eq!(child.wait()?.code, 125);
        // The next command repairs what is left.
        assert_eq!(sampan.ok(&["ps", "-aq"])?, "", "after {delay}");
        assert_eq!(
            sampan.ok(&["run", "--rm", "--name", "c1", "-p", "8080:80", "busybox", "echo", "well"])?,
            "well"
        );
    }
    nothing_is_left(&sampan)
}

fn lost(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let child = sampan.spawn(&["run", "--name", "c1", "--network", "none", "busybox", "sleep", "60"])?;
    wait_until("it runs", Duration::from_secs(60), || {
        sampan.ok(&["ps"]).is_ok_and(|list| list.contains("Up "))
    })?;
    kill(Pid::from_raw(marked(&sampan).ok_or("no shim")?), Signal::SIGKILL)?;
    let output = child.wait()?;
    assert!(output.code == 125 && output.stderr.contains("shim was killed"), "{output}");
    sampan.ok(&["rm", "c1"])?;
    nothing_is_left(&sampan)
}

fn failed_start(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    for detached in [&["-d"][..], &[]] {
        let args =
            [&["run", "--rm", "--name", "c1", "-v", "/data"], detached, &["busybox", "no-such"]].concat();
        assert_eq!(sampan.call(&args)?.code, 127);
        assert_eq!(
            sampan.call(&["run", "--rm", "-v", "/a", "-v", "/no/such:/b", "busybox", "true"])?.code,
            125
        );
        assert_eq!(sampan.call(&["run", "--no-such-flag"])?.code, 125);
        nothing_is_left(&sampan)?;
    }
    Ok(())
}
