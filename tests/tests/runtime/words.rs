//! What is said on the command line and is no container's: words that are none, signals, and what runc can do and this cannot.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{Host, Need, Outcome, Test, wait_until};

use super::lifecycle::SOON;
use super::{Bundle, ROOT};

pub(super) fn tests() -> Vec<Test> {
    const FREEZER: &[Need] = &[Need::Root, Need::Rootfs, Need::CgroupV1("freezer")];
    vec![
        Test { name: "runtime::a_word_that_is_none_is_in_the_log", needs: ROOT, run: misused },
        Test { name: "runtime::what_needs_criu_is_refused_by_its_name", needs: ROOT, run: criu },
        Test { name: "runtime::any_signal_reaches_the_container", needs: ROOT, run: signals },
        Test { name: "runtime::a_paused_container_can_be_killed", needs: FREEZER, run: paused },
    ]
}

/// The status of a call, and the last line of its log.
fn logged(bundle: &Bundle<'_>, words: &[&str]) -> super::Result<(i32, String)> {
    let log = bundle.folder.join("log.json");
    let _ = fs::remove_file(&log);
    let path = log.display().to_string();
    let output = bundle.call(&[&["--log", &path, "--log-format", "json"], words].concat())?;
    let text = fs::read_to_string(&log)?;
    let line: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    assert_eq!(line["level"], "error", "{text}");
    Ok((output.code, line["msg"].as_str().unwrap_or_default().to_owned()))
}

fn misused(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/true"], |_| {})?;
    for words in [
        &["create", "--nothing", "c"][..],
        &["create"],
        &["nothing"],
        &["create", "c", "d"],
        &["exec", "c"],
        &["update", "--memory", "much", "c"],
        &["list", "--format", "xml"],
    ] {
        let (code, said) = logged(&bundle, words)?;
        assert_eq!(code, 1, "{words:?}");
        assert!(!said.is_empty(), "{words:?}");
        assert!(!bundle.state.exists(), "{words:?}");
    }
    // Without a log the format is that of standard error, as runc has it.
    for words in [&["--log-format", "json", "state", "c"][..], &["--log-format=json", "state", "--nothing"]] {
        let output = bundle.call(words)?.expect(1)?;
        let line: Value =
            serde_json::from_str(&output.stderr).map_err(|error| format!("{error}: {output}"))?;
        assert_eq!(line["level"], "error");
    }
    for words in [&["--help"][..], &["exec", "--help"], &["--version"]] {
        bundle.call(words)?.success()?;
    }
    Ok(())
}

fn criu(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    for words in [
        &["checkpoint", "--image-path", "/nowhere", "--leave-running", "c"][..],
        &["restore", "--bundle", ".", "--detach", "d"],
    ] {
        let (code, said) = logged(&bundle, words)?;
        assert_eq!(code, 1);
        assert!(said.contains(&format!("{} is not supported", words[0])), "{said}");
    }
    assert_eq!(bundle.state("c")?["status"], "running");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn signals(host: &Host) -> Outcome {
    let text = "for s in USR1 ALRM CONT PWR 37 64; do trap \"echo got $s\" $s; done; trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |_| {})?;
    let run: &[&str] = &["run", "c"];
    let sleeper = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    sleeper.call(&["run", "--detach", "d"])?.success()?;
    for (bundle, words) in [(&bundle, run), (&sleeper, &["exec", "d", "/bin/sh", "-c", text])] {
        let mut child = bundle.cmd(words).spawn()?;
        child.wait_for("ready")?;
        for signal in ["USR1", "ALRM", "CONT", "PWR", "37", "64"] {
            host.command("sh", ["-c", &format!("kill -{signal} {}", child.pid())])?.success()?;
            child.wait_for(&format!("got {signal}"))?;
        }
        child.signal(Signal::SIGTERM)?;
        child.wait()?.expect(5)?;
    }
    sleeper.call(&["delete", "--force", "d"])?.success()?;
    Ok(())
}

/// In version 1 a process that is frozen does not die before it is thawed.
fn paused(host: &Host) -> Outcome {
    for line in
        fs::read_to_string("/proc/self/mountinfo")?.lines().filter(|line| line.contains(" - cgroup2 "))
    {
        host.command("umount", ["-l", line.split(' ').nth(4).unwrap_or_default()])?.success()?;
    }
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    for words in [&["kill", "c", "KILL"][..], &["kill", "--all", "c", "9"]] {
        bundle.call(&["run", "--detach", "c"])?.success()?;
        bundle.call(&["pause", "c"])?.success()?;
        bundle.call(words)?.success()?;
        let outcome = wait_until("it has ended", SOON, || {
            bundle.state("c").is_ok_and(|state| state["status"] == "stopped")
        });
        bundle.call(&["delete", "--force", "c"])?.success()?;
        outcome?;
    }
    Ok(())
}
