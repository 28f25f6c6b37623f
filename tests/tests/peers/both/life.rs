//! From run to rm.

use std::fs;
use std::time::Duration;

use tests::{Outcome, wait_until};

use crate::peers::engine::IMAGE;
use crate::peers::{Engine, Kind, status};

const SOON: Duration = Duration::from_secs(60);
/// Ends with status 5 when it is asked to, as a program should.
const POLITE: &str = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done";

pub(super) fn to_the_end(engine: &Engine<'_>) -> Outcome {
    assert_eq!(engine.run(&[], &["echo", "hello"])?, "hello");
    assert_eq!(engine.cmd(&["run", "--rm", "-i", IMAGE, "cat"]).input("abc").run()?.success()?.stdout, "abc");
    let output = engine.call(&["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7"])?;
    let output = output.expect(7)?;
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    engine.start("c1", &[], &["sh", "-c", POLITE])?;
    assert_eq!(engine.inspect("c1", "State.Status")?, "running");
    let pid = engine.pid("c1")?;
    wait_until("it is the program", SOON, || tests::ask::command_line(pid).contains("sleep 0.05; done"))?;
    wait_until("it says so", SOON, || engine.ok(&["logs", "c1"]).is_ok_and(|log| log == "ready"))?;
    let listed = engine.ok(&["top", "c1"])?;
    assert!(listed.contains("sleep 0.05"), "{listed}");
    assert!(engine.ok(&["ps"])?.contains("c1"));
    engine.ok(&["stop", "-t", "10", "c1"])?;
    assert_eq!(
        (engine.inspect("c1", "State.ExitCode")?, engine.ok(&["wait", "c1"])?),
        ("5".into(), "5".into())
    );
    assert_eq!(engine.ok(&["logs", "c1"])?, "ready\nbye");
    assert!(tests::ask::state(pid).is_none_or(|state| state == 'Z'));
    engine.ok(&["start", "c1"])?;
    assert_ne!(engine.pid("c1")?, pid);
    engine.call(&["rm", "c1"])?.expect(if engine.kind == Kind::Podman { 2 } else { 1 })?;
    engine.ok(&["rm", "-f", "c1"])?;
    engine.ok(&["create", "--name", "c2", IMAGE, "true"])?;
    engine.ok(&["start", "-a", "c2"])?;
    engine.ok(&["rm", "c2"])?;
    Ok(())
}

pub(super) fn pauses_and_restarts(engine: &Engine<'_>) -> Outcome {
    engine.start("c1", &[], &["sh", "-c", "trap 'exit 6' USR1; echo ready; while :; do :; done"])?;
    let said =
        |times: usize| engine.ok(&["logs", "c1"]).is_ok_and(|log| log == ["ready"; 9][..times].join("\n"));
    wait_until("it waits for the signal", SOON, || said(1))?;
    let pid = engine.pid("c1")?;
    let time = || -> Result<u64, Box<dyn std::error::Error>> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after = text.rsplit_once(") ").ok_or("stat")?.1;
        Ok(after.split(' ').nth(11).ok_or("utime")?.parse()?)
    };
    engine.ok(&["pause", "c1"])?;
    let before = time()?;
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(time()?, before, "a paused process does not run");
    assert_eq!(engine.inspect("c1", "State.Status")?, "paused");
    let refused = engine.call(&["exec", "c1", "true"])?;
    assert_ne!(refused.code, 0, "{refused}");
    engine.ok(&["unpause", "c1"])?;
    wait_until("it runs again", SOON, || time().is_ok_and(|now| now > before))?;
    let stats = engine.ok(&["stats", "--no-stream", "c1"])?;
    assert!(stats.contains("c1") && !stats.contains("--"), "{stats}");
    engine.ok(&["restart", "-t", "0", "c1"])?;
    assert_ne!(engine.pid("c1")?, pid);
    wait_until("the second waits, too", SOON, || said(2))?;
    engine.ok(&["kill", "-s", "USR1", "c1"])?;
    assert_eq!(engine.ok(&["wait", "c1"])?, "6");
    // Killed while it is paused, it ends all the same.
    engine.ok(&["start", "c1"])?;
    engine.ok(&["pause", "c1"])?;
    engine.ok(&["rm", "-f", "c1"])?;
    engine.start("c3", &[], &["sleep", "100"])?;
    engine.ok(&["kill", "c3"])?;
    assert_eq!(engine.ok(&["wait", "c3"])?, "137");
    // Restarted by the engine when it fails.
    engine.start("c2", &["--restart", "on-failure:2"], &["sh", "-c", "echo again; exit 3"])?;
    wait_until("it was tried three times", SOON, || {
        engine.ok(&["logs", "c2"]).is_ok_and(|log| log.lines().count() == 3)
    })?;
    wait_until("it has given up", SOON, || {
        engine.inspect("c2", "State.Status").is_ok_and(|status| status == "exited")
    })?;
    assert_eq!(engine.inspect("c2", "State.ExitCode")?, "3");
    Ok(())
}

pub(super) fn cannot_run(engine: &Engine<'_>) -> Outcome {
    let nope = engine.call(&["run", "--rm", IMAGE, "nope"])?.expect(127)?;
    assert!(nope.stderr.contains("executable file not found in $PATH"), "{nope}");
    let path = engine.call(&["run", "--rm", IMAGE, "/bin/nope"])?.expect(127)?;
    assert!(path.stderr.contains("no such file or directory"), "{path}");
    let folder = engine.call(&["run", "--rm", IMAGE, "/etc"])?.expect(126)?;
    assert!(folder.stderr.contains("permission denied"), "{folder}");
    let user = engine.call(&["run", "--rm", "--user", "nobody-here", IMAGE, "true"])?;
    assert!([125, 126].contains(&user.code), "{user}");
    // The working directory is made by the engine, or asked of the user; a file cannot be one.
    if engine.kind == Kind::Docker {
        assert_eq!(engine.run(&["-w", "/new/one"], &["pwd"])?, "/new/one");
    }
    let file = engine.call(&["run", "--rm", "-w", "/bin/busybox", IMAGE, "true"])?;
    assert_ne!(file.code, 0, "{file}");
    engine.start("c1", &[], &["sleep", "100"])?;
    let nope = engine.call(&["exec", "c1", "nope"])?;
    assert!([126, 127].contains(&nope.code), "{nope}");
    assert!((nope.stdout + &nope.stderr).contains("executable file not found in $PATH"));
    engine.call(&["exec", "c1", "/etc"])?.expect(126)?;
    engine.call(&["exec", "c1", "sh", "-c", "exit 9"])?.expect(9)?;
    // What cannot run leaves a container that can be removed.
    let failed = engine.call(&["run", "--name", "c2", IMAGE, "nope"])?;
    assert_eq!(failed.code, 127, "{failed}");
    engine.ok(&["rm", "c2"])?;
    Ok(())
}

pub(super) fn terminals(engine: &Engine<'_>) -> Outcome {
    let mut terminal = engine.terminal(&["run", "--rm", "-it", "--name", "c1", IMAGE, "sh"])?;
    terminal.send("tty; echo in${x}side\n")?;
    let shown = terminal.expect("inside")?;
    assert!(shown.contains("/dev/pts/0") || shown.contains("/dev/console"), "{shown}");
    // Docker tells the size after the start: the shell may be faster.
    let sized = |expected: &str| {
        engine.ok(&["exec", "c1", "sh", "-c", "stty size </proc/1/fd/0"]).is_ok_and(|size| size == expected)
    };
    wait_until("the first size has come", SOON, || sized("24 80"))?;
    terminal.resize(40, 100)?;
    wait_until("the new size has come", SOON, || sized("40 100"))?;
    terminal.send("sleep 100\n")?;
    wait_until("it sleeps", SOON, || engine.ok(&["top", "c1"]).is_ok_and(|top| top.contains("sleep 100")))?;
    terminal.send("\x03")?;
    terminal.send("echo code $?\n")?;
    terminal.expect("code 130")?;
    let mut second = engine.terminal(&["exec", "-it", "c1", "sh"])?;
    second.send("tty; exit 4\n")?;
    second.expect("/dev/pts/")?;
    assert_eq!(second.wait()?, 4);
    terminal.send("exit 3\n")?;
    assert_eq!(terminal.wait()?, 3);
    // Detached with a terminal, attached, left by the keys, attached again.
    engine.start("c2", &["-it"], &["sh"])?;
    let mut first = engine.terminal(&["attach", "c2"])?;
    first.send("x=kept; echo go${y}ne\n")?;
    first.expect("gone")?;
    // Podman knows the keys only where each comes alone.
    first.send("\x10")?;
    first.wait_read()?;
    first.send("\x11")?;
    first.wait()?;
    assert_eq!(engine.inspect("c2", "State.Status")?, "running");
    let mut again = engine.terminal(&["attach", "c2"])?;
    again.send("echo $x; exit 2\n")?;
    again.expect("kept")?;
    again.wait()?;
    assert_eq!(engine.ok(&["wait", "c2"])?, "2");
    Ok(())
}

pub(super) fn executes(engine: &Engine<'_>) -> Outcome {
    engine.start("c1", &["--user", "1000:1001", "-e", "A=1"], &["sleep", "100"])?;
    assert_eq!(engine.ok(&["exec", "c1", "id", "-u"])?, "1000");
    assert_eq!(engine.ok(&["exec", "--user", "7:8", "c1", "sh", "-c", "id -u; id -g"])?, "7\n8");
    assert_eq!(
        engine.ok(&["exec", "-e", "B=2", "-w", "/etc", "c1", "sh", "-c", "echo $A $B $PWD"])?,
        "1 2 /etc"
    );
    let cat = engine.cmd(&["exec", "-i", "c1", "cat"]).input("through").run()?.success()?;
    assert_eq!(cat.stdout, "through");
    // In each namespace and cgroup of the container.
    let pid = engine.pid("c1")?;
    let script = "for kind in net mnt pid ipc uts; do readlink /proc/self/ns/$kind; done";
    let inside = engine.ok(&["exec", "--user", "0", "c1", "sh", "-c", script])?;
    for (line, kind) in inside.lines().zip(["net", "mnt", "pid", "ipc", "uts"]) {
        assert_eq!(line, format!("{kind}:[{}]", tests::ns_inode(pid, kind)?));
    }
    engine.ok(&["exec", "-d", "c1", "sleep", "99"])?;
    let exec = || {
        // Podman's name for the pid on the host, and Docker's for the same.
        let named = engine.ok(&["top", "c1", "hpid", "args"]);
        let top = named.or_else(|_| engine.ok(&["top", "c1", "-eo", "pid,args"]));
        let line = top.ok()?.lines().find(|line| line.contains("sleep 99"))?.to_owned();
        line.split_whitespace().next()?.parse::<i32>().ok()
    };
    let mut found = None;
    wait_until("it is there", SOON, || {
        found = exec();
        found.is_some()
    })?;
    let exec = found.ok_or("gone")?;
    assert_eq!(status(exec, "Seccomp")?, "2");
    for file in ["cgroup", "oom_score_adj"] {
        let read = |pid| fs::read_to_string(format!("/proc/{pid}/{file}"));
        assert_eq!(read(exec)?, read(pid)?);
    }
    if engine.privileged()? {
        let capabilities = ["--user", "0", "c1", "grep", "CapEff", "/proc/self/status"];
        let all = engine.ok(&[&["exec", "--privileged"], &capabilities[..]].concat())?;
        let normal = engine.ok(&[&["exec"], &capabilities[..]].concat())?;
        assert!(all > normal, "{all} {normal}");
    }
    // It ends with its container.
    engine.ok(&["stop", "-t", "0", "c1"])?;
    wait_until("it ends", SOON, || tests::ask::state(exec).is_none_or(|state| state == 'Z'))?;
    Ok(())
}

pub(super) fn health_and_init(engine: &Engine<'_>) -> Outcome {
    let shown =
        engine.run(&["--init"], &["sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $$"])?;
    assert!(shown.contains("init") && !shown.ends_with("\n1"), "{shown}");
    let health = ["--health-cmd", "test -f /tmp/ok", "--health-interval", "1s", "--health-retries", "1"];
    engine.start("c1", &health, &["sleep", "100"])?;
    let check = |code: i32| -> Result<bool, Box<dyn std::error::Error>> {
        if engine.kind == Kind::Podman {
            // Without systemd nobody calls it but the user.
            return Ok(engine.call(&["healthcheck", "run", "c1"])?.code == code);
        }
        let state = engine.inspect("c1", "State.Health.Status")?;
        Ok(state == if code == 0 { "healthy" } else { "unhealthy" })
    };
    wait_until("it is not healthy", SOON, || check(1).unwrap_or(false))?;
    engine.ok(&["exec", "c1", "touch", "/tmp/ok"])?;
    wait_until("it is healthy", SOON, || check(0).unwrap_or(false))
}
