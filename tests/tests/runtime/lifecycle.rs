//! create, start, state, kill, delete; and what goes wrong in between.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tests::{Host, Need, Outcome, Test, wait_until};

use super::{Bundle, ROOT, USER};

pub(super) const SOON: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::lifecycle", needs: ROOT, run: lifecycle },
        Test { name: "runtime::user_lifecycle", needs: USER, run: |host| lifecycle(&host.as_user()) },
        Test {
            name: "runtime::each_state_has_its_transitions",
            needs: &[Need::Root, Need::Rootfs, Need::Cgroup("memory")],
            run: transitions,
        },
        Test { name: "runtime::of_two_creates_one_wins", needs: ROOT, run: of_two_creates_one_wins },
        Test {
            name: "runtime::a_created_one_can_be_deleted",
            needs: ROOT,
            run: a_created_one_can_be_deleted,
        },
        Test { name: "runtime::errors_have_runcs_status", needs: ROOT, run: errors_have_runcs_status },
        Test {
            name: "runtime::user_errors_have_runcs_status",
            needs: USER,
            run: |host| errors_have_runcs_status(&host.as_user()),
        },
        Test {
            name: "runtime::what_cannot_be_is_refused_before_anything_is_made",
            needs: ROOT,
            run: refused,
        },
        Test { name: "runtime::a_killed_runtime_leaves_no_process", needs: ROOT, run: a_killed_runtime },
        Test { name: "runtime::signals_reach_the_container", needs: ROOT, run: signals_reach_the_container },
    ]
}

fn lifecycle(host: &Host) -> Outcome {
    let mark = host.new_dir()?;
    let text = "touch /mark/started; trap 'exit 5' TERM; while :; do sleep 0.05; done";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
        super::bind(config, &mark, "/mark", &["rbind"]);
        config["annotations"] = json!({ "org.example.key": "value" });
    })?;
    let pid_file = bundle.folder.join("pid");
    bundle.call(&["create", "--pid-file", &pid_file.display().to_string(), "c"])?.success()?;
    let state = bundle.state("c")?;
    assert_eq!(
        (&state["id"], &state["status"], &state["ociVersion"]),
        (&json!(super::id("c")), &json!("created"), &json!("1.2.0"))
    );
    assert_eq!(
        (&state["annotations"]["org.example.key"], &state["bundle"]),
        (&json!("value"), &json!(fs::canonicalize(&bundle.folder)?))
    );
    let pid = bundle.pid("c")?;
    assert_eq!(fs::read_to_string(&pid_file)?, pid.to_string());
    // It waits: the process is there, the user's program has not begun.
    std::thread::sleep(Duration::from_millis(50));
    assert!(!mark.join("started").exists());
    bundle.call(&["start", "c"])?.success()?;
    // Its arguments the kernel shows only a moment after it has closed what exec closes, by which start knows.
    let program = fs::read_link(format!("/proc/{pid}/exe"))?;
    assert!(!program.ends_with(super::BIN), "start comes back when it runs: {}", program.display());
    wait_until("it began", SOON, || mark.join("started").exists())?;
    assert_eq!(bundle.state("c")?["status"], "running");
    bundle.call(&["start", "c"])?.expect(1)?;
    bundle.call(&["delete", "c"])?.expect(1)?;
    bundle.call(&["kill", "c", "TERM"])?.success()?;
    wait_until("it stopped", SOON, || bundle.state("c").is_ok_and(|state| state["status"] == "stopped"))?;
    bundle.call(&["kill", "c"])?.expect(1)?;
    bundle.call(&["delete", "c"])?.success()?;
    bundle.call(&["state", "c"])?.expect(1)?;
    assert!(!bundle.state.exists(), "the last one takes the folder along");
    Ok(())
}

/// How each state is reached, and what a command makes of it: another state, or an error. As runc 1.1 has it.
fn transitions(host: &Host) -> Outcome {
    let states: [(&str, &[&str]); 5] = [
        ("created", &["create"]),
        ("running", &["create", "start"]),
        ("paused", &["create", "start", "pause"]),
        ("created and paused", &["create", "pause"]),
        ("stopped", &["create", "start", "kill"]),
    ];
    let commands: [(&[&str], [&str; 5]); 10] = [
        (&["start"], ["running", "no", "no", "no", "no"]),
        (&["pause"], ["paused", "paused", "no", "no", "no"]),
        (&["resume"], ["no", "no", "running", "created", "no"]),
        (&["kill"], ["stopped", "stopped", "stopped", "stopped", "no"]),
        (&["delete"], ["gone", "no", "no", "no", "gone"]),
        (&["delete", "--force"], ["gone", "gone", "gone", "gone", "gone"]),
        (&["exec"], ["created", "running", "no", "no", "no"]),
        (&["update", "--memory", "64m"], ["created", "running", "paused", "paused", "no"]),
        (&["events", "--stats"], ["created", "running", "paused", "paused", "no"]),
        (&["ps"], ["created", "running", "paused", "paused", "stopped"]),
    ];
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    let call = |command: &[&str]| {
        let after: &[&str] = match command[0] {
            "kill" => &["KILL"],
            "exec" => &["/bin/true"],
            _ => &[],
        };
        bundle.call(&[command, &["c"], after].concat())
    };
    let now = || -> super::Result<String> {
        let output = bundle.call(&["state", "c"])?;
        if output.code != 0 {
            return Ok("gone".to_owned());
        }
        Ok(output.json()?["status"].as_str().unwrap_or_default().to_owned())
    };
    let becomes = |state: &str| wait_until("it is so", SOON, || now().is_ok_and(|now| now == state));
    for (at, (name, way)) in states.iter().enumerate() {
        for (command, outcomes) in &commands {
            for step in *way {
                call(&[step])?.success()?;
            }
            let state = if *name == "created and paused" { "paused" } else { name };
            becomes(state)?;
            let output = call(command)?;
            let expected = outcomes[at];
            assert_eq!(output.code == 0, expected != "no", "{name} {command:?}: {output}");
            let expected = if expected == "no" { state } else { expected };
            becomes(expected).map_err(|error| format!("{name} {command:?}: {error}: {:?}", now()))?;
            bundle.call(&["delete", "--force", "c"])?.success()?;
        }
    }
    Ok(())
}

fn of_two_creates_one_wins(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/true"], |_| {})?;
    let children = (0..4).map(|_| bundle.cmd(&["create", "c"]).spawn()).collect::<Result<Vec<_>, _>>()?;
    let outputs = children.into_iter().map(tests::Child::wait).collect::<Result<Vec<_>, _>>()?;
    let won = outputs.iter().filter(|output| output.code == 0).count();
    assert_eq!(won, 1, "{outputs:?}");
    assert_eq!(bundle.state("c")?["status"], "created");
    bundle.call(&["delete", "c"])?.success()?;
    Ok(())
}

fn a_created_one_can_be_deleted(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/true"], |_| {})?;
    bundle.call(&["create", "c"])?.success()?;
    let pid = bundle.pid("c")?;
    bundle.call(&["delete", "c"])?.success()?;
    wait_until("its process is gone", SOON, || tests::ask::state(pid).is_none_or(|state| state == 'Z'))?;
    Ok(())
}

fn errors_have_runcs_status(host: &Host) -> Outcome {
    for (command, code, said) in [
        (&["/nope"][..], 1, "no command \"/nope\""),
        (&["nope"], 1, "no command \"nope\""),
        (&["/etc/passwd"], 1, "execve"),
        (&["/bin/sh", "-c", "exit 9"], 9, ""),
    ] {
        let bundle = Bundle::new(host, command, |_| {})?;
        let output = bundle.run()?.expect(code)?;
        assert!(output.stderr.contains(said), "{output:?}");
        assert!(!bundle.state.exists(), "nothing is left: {command:?}");
    }
    let bundle = Bundle::new(host, &["nope"], |_| {})?;
    assert!(bundle.call(&["create", "c"])?.expect(1)?.stderr.contains("no command"));
    assert!(!bundle.state.exists());
    Ok(())
}

fn refused(host: &Host) -> Outcome {
    type Edit = fn(&mut serde_json::Value);
    let edits: [(&str, Edit); 7] = [
        ("process.args", |config| config["process"]["args"] = json!([])),
        ("process.cwd", |config| config["process"]["cwd"] = json!("relative")),
        ("linux.sysctl.kernel.core_pattern", |config| {
            config["linux"]["sysctl"] = json!({ "kernel.core_pattern": "x" });
        }),
        ("mounts", |config| super::bind(config, Path::new("/tmp"), "/proc/sys", &["bind"])),
        ("hooks.prestart[0]", |config| config["hooks"] = json!({ "prestart": [{ "path": "true" }] })),
        ("linux.cgroupsPath", |config| config["linux"]["cgroupsPath"] = json!("../../x")),
        ("linux.namespaces", |config| {
            config["linux"]["namespaces"] = json!([{ "type": "pid" }, { "type": "pid" }]);
        }),
    ];
    for (field, edit) in edits {
        let bundle = Bundle::new(host, &["/bin/true"], edit)?;
        let output = bundle.run()?.expect(1)?;
        assert!(output.stderr.starts_with(&format!("error: config: {field}")), "{output:?}");
    }
    Ok(())
}

fn a_killed_runtime(host: &Host) -> Outcome {
    // As another user inside: the change of the user makes the kernel forget the request to die, once.
    for uid in [0, 1000] {
        let bundle = Bundle::new(host, &["/bin/sleep", "100"], |config| {
            config["process"]["user"] = json!({ "uid": uid, "gid": uid });
        })?;
        let child = bundle.cmd(&["run", "c"]).spawn()?;
        wait_until("it runs", SOON, || {
            bundle.pid("c").is_ok_and(|pid| tests::ask::command_line(pid).starts_with("/bin/sleep"))
        })?;
        let pid = bundle.pid("c")?;
        child.signal(Signal::SIGKILL)?;
        child.wait()?;
        wait_until("the container is gone", SOON, || {
            tests::ask::state(pid).is_none_or(|state| state == 'Z')
        })?;
        bundle.call(&["delete", "--force", "c"])?.success()?;
        assert!(!bundle.state.exists());
    }
    Ok(())
}

fn signals_reach_the_container(host: &Host) -> Outcome {
    let text = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |_| {})?;
    let mut child = bundle.cmd(&["run", "c"]).spawn()?;
    child.wait_for("ready")?;
    child.signal(Signal::SIGTERM)?;
    child.wait()?.expect(5)?;
    Ok(())
}
