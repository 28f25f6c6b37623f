//! When the program runs, on which processors and on which memory; which machine it sees, and who judges it.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test, wait_until};

use super::{Bundle, ROOT, Result, script};

const SOON: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::a_scheduling_policy", needs: ROOT, run: policy },
        Test { name: "runtime::a_real_time_policy", needs: ROOT, run: real_time },
        Test { name: "runtime::io_priority", needs: ROOT, run: io_priority },
        Test { name: "runtime::processors_of_exec", needs: ROOT, run: processors_of_exec },
        Test { name: "runtime::memory_policy", needs: ROOT, run: memory_policy },
        Test { name: "runtime::personality", needs: ROOT, run: personality },
        Test { name: "runtime::labels_without_their_module", needs: ROOT, run: labels },
        Test {
            name: "runtime::an_apparmor_profile",
            needs: &[Need::Root, Need::Rootfs, Need::Security("apparmor")],
            run: apparmor,
        },
        Test { name: "runtime::values_out_of_range", needs: ROOT, run: out_of_range },
    ]
}

/// Runs a container that sleeps, and looks at its first process.
fn beside(
    host: &Host,
    edit: impl FnOnce(&mut Value),
    look: impl FnOnce(&Bundle<'_>, i32) -> Outcome,
) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], edit)?;
    let child = bundle.cmd(&["run", "c"]).spawn()?;
    let started = wait_until("it runs", SOON, || {
        bundle.pid("c").is_ok_and(|pid| tests::ask::command_line(pid).starts_with("/bin/sleep"))
    });
    let seen = match started {
        Ok(()) => look(&bundle, bundle.pid("c")?),
        Err(error) => Err(error),
    };
    bundle.call(&["kill", "c", "KILL"])?;
    child.wait()?;
    seen
}

/// Fields of `/proc/PID/stat`, numbered as in proc_pid_stat(5).
fn stat(pid: i32, fields: [usize; 3]) -> Result<[String; 3]> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest: Vec<_> = text.rsplit_once(')').ok_or("no name")?.1.split_whitespace().collect();
    Ok(fields.map(|field| rest[field - 3].to_owned()))
}

const NICE: usize = 19;
const PRIORITY: usize = 40;
const POLICY: usize = 41;

fn policy(host: &Host) -> Outcome {
    let edit = |config: &mut Value| {
        config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
    };
    beside(host, edit, |_, pid| {
        assert_eq!(stat(pid, [POLICY, NICE, PRIORITY])?, ["3", "7", "0"]);
        Ok(())
    })
}

/// Where cgroup v1 gives a group no time for it, the kernel refuses: then that is what is told.
fn real_time(host: &Host) -> Outcome {
    let edit = |config: &mut Value| {
        config["process"]["scheduler"] =
            json!({ "policy": "SCHED_RR", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    };
    let output = Bundle::new(host, &["/bin/true"], edit)?.run()?;
    if output.code != 0 {
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains("sched_setattr SCHED_RR nice 0 priority 3: EPERM"), "{output:?}");
        assert!(output.stderr.contains("cpu.rt_runtime_us"), "{output:?}");
        return Ok(());
    }
    beside(host, edit, |_, pid| {
        // SCHED_RESET_ON_FORK is a bit of the policy's number here.
        assert_eq!(stat(pid, [POLICY, PRIORITY, NICE])?[1], "3");
        Ok(())
    })
}

fn io_priority(host: &Host) -> Outcome {
    let edit = |config: &mut Value| {
        config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    };
    beside(host, edit, |_, pid| {
        let seen = std::process::Command::new("ionice").args(["-p", &pid.to_string()]).output()?;
        assert_eq!(String::from_utf8(seen.stdout)?.trim(), "best-effort: prio 6");
        Ok(())
    })
}

fn processors_of_exec(host: &Host) -> Outcome {
    beside(
        host,
        |_| {},
        |bundle, _| {
            let line = ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"];
            let allowed = |affinity: Value| -> Result<String> {
                let path = bundle.folder.join("process.json");
                let mut config: Value = serde_json::from_slice(&fs::read(
                    bundle.state.join(super::id("c")).join("config.json"),
                )?)?;
                config["process"]["execCPUAffinity"] = affinity;
                fs::write(&path, config.to_string())?;
                fs::write(bundle.state.join(super::id("c")).join("config.json"), config.to_string())?;
                let output = bundle.call(&[&["exec", "c"][..], &line].concat())?.success()?;
                Ok(output.stdout.split_whitespace().last().unwrap_or_default().to_owned())
            };
            let all = allowed(json!({}))?;
            assert_eq!(allowed(json!({ "initial": "0", "final": "0" }))?, "0");
            // Nothing takes it back but a cpuset that is joined after it.
            assert!(["0", &all].contains(&allowed(json!({ "initial": "0" }))?.as_str()));
            assert_eq!(allowed(json!({ "final": "0" }))?, "0");
            Ok(())
        },
    )
}

fn memory_policy(host: &Host) -> Outcome {
    let edit = |config: &mut Value| {
        config["linux"]["memoryPolicy"] =
            json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
    };
    beside(host, edit, |_, pid| {
        let maps = fs::read_to_string(format!("/proc/{pid}/numa_maps"))?;
        assert!(maps.lines().all(|line| line.contains(" bind=static:0")), "{maps}");
        Ok(())
    })?;
    let edit = |config: &mut Value| {
        config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "63" });
    };
    let output = Bundle::new(host, &["/bin/true"], edit)?.run()?.expect(1)?;
    assert!(output.stderr.contains("set_mempolicy MPOL_BIND 63: EINVAL"), "{output:?}");
    Ok(())
}

fn personality(host: &Host) -> Outcome {
    let edit = |config: &mut Value| config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    beside(host, edit, |bundle, pid| {
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/personality"))?.trim(), "00000008");
        let second = bundle.call(&["exec", "c", "/bin/uname", "-m"])?.success()?;
        assert!(["i686", "armv8l"].contains(&second.stdout.trim()), "{second:?}");
        Ok(())
    })
}

fn labels(host: &Host) -> Outcome {
    let apparmor =
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    if !apparmor {
        let output =
            script(host, "true", |config| config["process"]["apparmorProfile"] = json!("docker-default"))?;
        assert!(
            output
                .expect(1)?
                .stderr
                .starts_with("error: config: process.apparmorProfile: \"docker-default\"")
        );
        script(host, "true", |config| config["process"]["apparmorProfile"] = json!("unconfined"))?
            .success()?;
    }
    if !fs::exists("/sys/fs/selinux/enforce")? {
        for (at, field) in [("process", "selinuxLabel"), ("linux", "mountLabel")] {
            let output = script(host, "true", |config| config[at][field] = json!("u:r:container_t:s0"))?;
            assert!(output.expect(1)?.stderr.starts_with(&format!("error: config: {at}.{field}: ")));
        }
    }
    let output =
        script(host, "true", |config| config["linux"]["intelRdt"] = json!({ "closID": "x" }))?.expect(1)?;
    assert!(
        output.stderr.contains("linux.intelRdt") && output.stderr.contains("/sys/fs/resctrl"),
        "{output:?}"
    );
    Ok(())
}

fn apparmor(host: &Host) -> Outcome {
    let output = script(host, "cat /proc/self/attr/current", |config| {
        config["process"]["apparmorProfile"] = json!("unconfined");
    })?;
    assert_eq!(output.success()?.stdout.trim(), "unconfined");
    let output =
        script(host, "true", |config| config["process"]["apparmorProfile"] = json!("no-such-profile"))?;
    assert!(output.expect(1)?.stderr.contains("exec no-such-profile"));
    Ok(())
}

fn out_of_range(host: &Host) -> Outcome {
    for (field, value, named) in [
        ("scheduler", json!({ "policy": "SCHED_OTHER", "nice": 20 }), "process.scheduler.nice"),
        ("ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 8 }), "process.ioPriority.priority"),
    ] {
        let output = script(host, "true", |config| config["process"][field] = value)?.expect(1)?;
        assert!(output.stderr.starts_with(&format!("error: config: {named}: ")), "{output:?}");
    }
    Ok(())
}
