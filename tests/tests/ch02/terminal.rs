//! `-t`: a terminal inside that works as one outside does, on a real one.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::ask::{children, command_line, descendants, in_foreground, state};
use tests::{Host, Outcome, Terminal, Test, args, wait_until};

use super::{ROOT, Result, SOON, USER, with};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch02::terminal_is_the_containers", needs: ROOT, run: terminal_is_the_containers },
        Test {
            name: "ch02::user_terminal_is_the_containers",
            needs: USER,
            run: |host| terminal_is_the_containers(&host.as_user()),
        },
        Test { name: "ch02::terminal_follows_the_window", needs: ROOT, run: terminal_follows_the_window },
        Test {
            name: "ch02::terminal_ctrl_c_reaches_the_foreground",
            needs: ROOT,
            run: ctrl_c_reaches_the_foreground,
        },
        Test { name: "ch02::terminal_job_control_works", needs: ROOT, run: job_control_works },
        Test {
            name: "ch02::user_terminal_job_control_works",
            needs: USER,
            run: |host| job_control_works(&host.as_user()),
        },
        Test { name: "ch02::terminal_is_set_right_at_every_end", needs: ROOT, run: set_right_at_every_end },
        Test { name: "ch02::terminal_without_one_outside", needs: ROOT, run: without_one_outside },
        Test { name: "ch02::terminal_loses_no_output", needs: ROOT, run: loses_no_output },
        Test { name: "ch02::without_t_ctrl_c_comes_once", needs: ROOT, run: without_t_ctrl_c_comes_once },
    ]
}

/// A shell inside, on a terminal, which has shown its prompt.
fn shell(host: &Host, options: &[&str]) -> Result<Terminal> {
    let mut terminal =
        host.terminal("02-namespaces", with(options, args!["-t", host.rootfs()?, "/bin/sh"]))?;
    terminal.expect("/ # ")?;
    Ok(terminal)
}

fn terminal_is_the_containers(host: &Host) -> Outcome {
    for options in [&[][..], &["--no-init"]] {
        let mut terminal = shell(host, options)?;
        terminal.send("tty\n")?;
        terminal.expect("\n/dev/pts/0")?;
        terminal.send("stty size; ls /dev/pts; echo hidden >/dev/tty\n")?;
        terminal.expect("\n24 80")?;
        terminal.expect("0     ptmx")?;
        terminal.expect("\nhidden")?;
        // The kernel's word: the shell leads a session of its own, with that terminal.
        let first = *children(terminal.pid()).first().ok_or("no first process")?;
        let shell = children(first).first().copied().filter(|_| options.is_empty()).unwrap_or(first);
        let stat = fs::read_to_string(format!("/proc/{shell}/stat"))?;
        let fields: Vec<_> = stat.rsplit_once(") ").ok_or("stat")?.1.split(' ').collect();
        assert_eq!(fields[3], shell.to_string(), "session");
        // 136:0 as the kernel writes it: major number of pts, the first one.
        assert_eq!(fields[4], (136 << 8).to_string(), "controlling terminal");
        for number in 0..3 {
            assert_eq!(fs::read_link(format!("/proc/{shell}/fd/{number}"))?.to_str(), Some("/dev/pts/0"));
        }
        terminal.send("exit 9\n")?;
        assert_eq!(terminal.wait()?, 9);
    }
    Ok(())
}

fn terminal_follows_the_window(host: &Host) -> Outcome {
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut terminal =
        host.terminal("02-namespaces", args!["-t", host.rootfs()?, "/bin/sh", "-c", script])?;
    terminal.expect("ready")?;
    for (rows, columns) in [(33, 101), (50, 20), (24, 80)] {
        terminal.resize(rows, columns)?;
        terminal.expect(&format!("{rows} {columns}"))?;
    }
    Ok(())
}

/// The shell's `sleep 60`, when it runs and the terminal's keys are meant for it.
fn job(terminal: &Terminal) -> Result<i32> {
    let mut job = None;
    wait_until("it sleeps in the foreground", SOON, || {
        let all = descendants(terminal.pid());
        job = all.into_iter().find(|&pid| command_line(pid) == "sleep 60" && in_foreground(pid));
        job.is_some()
    })?;
    job.ok_or_else(|| "no job".into())
}

fn ctrl_c_reaches_the_foreground(host: &Host) -> Outcome {
    let mut terminal = shell(host, &[])?;
    terminal.send("sleep 60\n")?;
    job(&terminal)?;
    terminal.send("\x03")?;
    terminal.expect("/ # ")?;
    terminal.send("echo status $?\n")?;
    terminal.expect("\nstatus 130")?;
    terminal.send("\x04")?;
    assert_eq!(terminal.wait()?, 0, "Ctrl-D ends the shell");
    Ok(())
}

fn job_control_works(host: &Host) -> Outcome {
    let mut terminal = shell(host, &[])?;
    terminal.send("sleep 60\n")?;
    let job = job(&terminal)?;
    terminal.send("\x1a")?;
    terminal.expect("Stopped")?;
    assert_eq!(state(job), Some('T'));
    assert_ne!(state(terminal.pid()), Some('T'), "the runtime process is not stopped");
    terminal.send("bg\n")?;
    wait_until("it runs again", SOON, || state(job) == Some('S'))?;
    terminal.send("fg\n")?;
    wait_until("it is in the foreground", SOON, || in_foreground(job))?;
    terminal.send("\x03")?;
    wait_until("it is gone", SOON, || state(job).is_none())?;
    terminal.send("exit\n")?;
    terminal.wait()?;
    Ok(())
}

/// The program runs under a shell that then shows whether its terminal echoes, which raw mode does not.
fn set_right_at_every_end(host: &Host) -> Outcome {
    let program = format!("{} -t {}", host.bin("02-namespaces").display(), host.rootfs()?.display());
    let stty = host.rootfs()?.join("bin/stty");
    let check = format!(
        "{} -a | tr ' ;' '\\n\\n' | grep -x -e echo -e -echo -e icanon -e -icanon; echo checked",
        stty.display()
    );
    for end in [
        "/bin/true".to_owned(),
        "/no/such".to_owned(),
        "/bin/sh -c 'kill -KILL $$'".to_owned(),
        "/bin/sh -c 'echo up; sleep 60' & p=$!; sleep 0.5; kill -TERM $p; wait $p".to_owned(),
    ] {
        let script = format!("{program} {end}; {check}");
        let mut terminal = host.terminal("sh", ["-c", &script])?;
        terminal.expect("checked").map_err(|error| format!("{end}: {error}"))?;
        let shown = terminal.shown();
        let is_shown = |word: &str| shown.lines().any(|line| line.trim() == word);
        assert!(is_shown("icanon") && is_shown("echo") && !is_shown("-echo"), "{end}: {shown}");
    }
    Ok(())
}

fn without_one_outside(host: &Host) -> Outcome {
    // From a file to a file: the input's end is Ctrl-D, and lines end as on a terminal.
    let cmd = host.cmd("02-namespaces", args!["-t", host.rootfs()?, "/bin/cat"]).input("one\ntwo\n");
    let output = cmd.run()?.success()?;
    assert!(output.stdout.contains("one\r\n") && output.stdout.contains("two\r\n"), "{output}");
    // More than fits into the terminal, and an end in the middle of a line.
    let lines: String =
        (0..5000).map(|number| format!("this is line {number}\n")).chain(["rest".into()]).collect();
    let script = "stty -echo; sleep 0.3; cat | wc";
    let cmd =
        host.cmd("02-namespaces", args!["-t", host.rootfs()?, "/bin/sh", "-c", script]).input(lines.as_str());
    let output = cmd.run()?.success()?;
    let counts: Vec<_> = output.stdout.split_whitespace().rev().take(3).collect();
    assert_eq!(counts, [lines.len().to_string(), "20001".into(), "5000".into()], "{output}");
    Ok(())
}

fn loses_no_output(host: &Host) -> Outcome {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    let output =
        host.command("02-namespaces", args!["-t", host.rootfs()?, "/bin/sh", "-c", script])?.success()?;
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!((lines.len(), lines.last().copied()), (20000, Some("line 19999")));
    Ok(())
}

fn without_t_ctrl_c_comes_once(host: &Host) -> Outcome {
    // The container has the same terminal, whose Ctrl-C reaches all in it: it must not be passed on too.
    // wait ends at once with each signal, so that two are not taken for one.
    let script =
        "n=0; trap 'n=$((n+1)); echo interrupt $n' INT; /bin/sleep 60 & echo ready; while :; do wait; done";
    let mut terminal = host.terminal("02-namespaces", args![host.rootfs()?, "/bin/sh", "-c", script])?;
    terminal.expect("ready")?;
    terminal.send("\x03")?;
    terminal.expect("interrupt 1")?;
    std::thread::sleep(Duration::from_millis(300));
    assert!(!terminal.shown().contains("interrupt 2"), "{}", terminal.shown());
    let pid = nix::unistd::Pid::from_raw(terminal.pid());
    nix::sys::signal::kill(pid, Signal::SIGINT)?;
    terminal.expect("interrupt 2")?;
    Ok(())
}
