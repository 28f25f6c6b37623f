//! What passes between a container and who looks at it.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::{Host, Outcome, Test, wait_until};

use super::{ROOT, Sampan};

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("engine::a_terminal_is_resized_and_interrupts", ROOT, terminal),
        test("engine::input_reaches_the_container_and_ends", ROOT, input),
        test("engine::a_long_input_comes_back_whole", ROOT, long_input),
        test("engine::a_slow_reader_gets_all_of_it", ROOT, slow_reader),
        test("engine::what_runs_on_does_not_hold_the_container", ROOT, background),
        test("engine::logs_follow_to_the_end_and_bear_any_bytes", ROOT, logs),
        test("engine::the_commands_flags_are_its_own", ROOT, own_flags),
    ]
}

fn long_input(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let text = "0123456789abcde\n".repeat(1 << 20);
    let args = sampan.args(&["run", "--rm", "-i", "--network", "none", "busybox", "cat"]);
    let output =
        host.cmd("sampan", args).input(text.clone()).limit(Duration::from_secs(60)).run()?.success()?;
    assert!(output.stdout == text, "{} bytes of {}", output.stdout.len(), text.len());
    Ok(())
}

fn slow_reader(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let mut command = Command::new(host.bin("sampan"));
    command.args(sampan.args(&["run", "--name", "c1", "--network", "none", "busybox", "seq", "60000"]));
    // A group of its own, as a shell gives it.
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).process_group(0).spawn()?;
    // It ends, and is written down as ended, whoever has not read yet.
    wait_until("it has ended", Duration::from_secs(60), || {
        sampan.ok(&["ps", "-a"]).is_ok_and(|list| list.contains("Exited (0)"))
    })?;
    std::thread::sleep(Duration::from_secs(11));
    let mut text = String::new();
    child.stdout.take().ok_or("no output")?.read_to_string(&mut text)?;
    assert_eq!(text.lines().count(), 60_000);
    assert!(child.wait()?.success());
    sampan.ok(&["rm", "c1"])?;
    Ok(())
}

fn background(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let output =
        sampan.ok(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "sleep 60 & echo done"])?;
    assert_eq!(output, "done");
    // An exec'ed process ends with its container.
    sampan.ok(&["run", "-d", "--name", "c1", "--network", "none", "busybox", "sleep", "60"])?;
    let exec = sampan.spawn(&["exec", "c1", "sleep", "60"])?;
    wait_until("it is there", Duration::from_secs(60), || {
        sampan.ok(&["exec", "c1", "ps"]).is_ok_and(|list| list.matches("sleep 60").count() == 2)
    })?;
    sampan.ok(&["stop", "-t", "0", "c1"])?;
    assert_eq!(exec.wait()?.code, 137);
    let late = sampan.call(&["exec", "c1", "true"])?;
    assert!(late.code == 1 && late.stderr.contains("exited: start it first"), "{late}");
    sampan.ok(&["rm", "c1"])?;
    Ok(())
}

fn logs(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let script = r"printf 'a\377b\n'; seq 20000; sleep 1; printf end";
    sampan.ok(&["run", "-d", "--name", "c1", "--network", "none", "busybox", "sh", "-c", script])?;
    let followed = sampan.ok(&["logs", "-f", "c1"])?;
    let lines: Vec<_> = followed.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[20_001]), (20_002, "a\u{fffd}b", "end"));
    assert_eq!(sampan.ok(&["logs", "--tail", "2", "c1"])?, "20000\nend");
    sampan.ok(&["rm", "c1"])?;
    Ok(())
}

fn own_flags(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let run = |args: &[&str]| sampan.ok(&[&["run", "--rm", "--network", "none"], args].concat());
    assert_eq!(run(&["busybox", "echo", "--rm", "-e", "x", "--help"])?, "--rm -e x --help");
    assert_eq!(run(&["--entrypoint", "echo", "busybox", "-v", "--name"])?, "-v --name");
    assert_eq!(run(&["-e", "HOSTNAME=mine", "busybox", "sh", "-c", "echo $HOSTNAME"])?, "mine");
    let id = sampan.ok(&["run", "-d", "--rm", "-p", "8080:80", "busybox", "sleep", "60"])?;
    assert!(sampan.ok(&["ps"])?.contains("0.0.0.0:8080->80/tcp"));
    let exec = host.cmd("sampan", sampan.args(&["exec", "-e", "TAKEN", &id, "sh", "-c", "echo $TAKEN"]));
    assert_eq!(exec.env("TAKEN", "over").run()?.success()?.stdout, "over\n");
    sampan.ok(&["stop", "-t", "0", &id])?;
    assert_eq!(sampan.ok(&["ps", "-aq"])?, "");
    Ok(())
}

fn terminal(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let mut terminal = host.terminal("sampan", sampan.args(&["run", "--rm", "-it", "busybox", "sh"]))?;
    terminal.send("stty size; tty; echo do''ne\n")?;
    let shown = terminal.expect("done")?;
    assert!(shown.contains("24 80") && shown.contains("/dev/pts/"), "{shown}");
    terminal.resize(40, 100)?;
    // Written so that what is typed does not look like what is answered.
    terminal.send("until stty size | grep '40 1''00'; do sleep 0.1; done\n")?;
    terminal.expect("40 100")?;
    terminal.send("sh -c 'echo begins; exec sleep 100'\n")?;
    terminal.expect("\nbegins")?;
    terminal.send("\x03")?;
    terminal.send("echo interrupted $?\n")?;
    terminal.expect("interrupted 130")?;
    terminal.send("exit 5\n")?;
    assert_eq!(terminal.wait()?, 5);
    Ok(())
}

fn input(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let text = "line\n".repeat(50_000);
    let output = host
        .cmd("sampan", sampan.args(&["run", "--rm", "-i", "busybox", "cat"]))
        .input(text.clone())
        .run()?
        .success()?;
    assert_eq!(output.stdout.len(), text.len());
    let output = host
        .cmd("sampan", sampan.args(&["run", "--rm", "busybox", "cat"]))
        .input("unseen")
        .run()?
        .success()?;
    assert_eq!(output.stdout, "", "without -i nothing of standard input reaches it");
    Ok(())
}
