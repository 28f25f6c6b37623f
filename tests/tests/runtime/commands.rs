//! runc's command line: what each flag does, asked of the kernel, and what callers read: tables, JSON, logs, pid files.

use std::fs;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};
use tests::{Host, Outcome, Test, wait_until};

use super::lifecycle::SOON;
use super::{Bundle, ROOT, USER, status};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::lists_and_states_are_runcs", needs: ROOT, run: lists },
        Test {
            name: "runtime::user_lists_and_states_are_runcs",
            needs: USER,
            run: |host| lists(&host.as_user()),
        },
        Test { name: "runtime::pause_freezes_the_cgroup", needs: ROOT, run: pause },
        Test { name: "runtime::exec_takes_its_flags", needs: ROOT, run: exec_flags },
        Test {
            name: "runtime::user_exec_takes_a_process",
            needs: USER,
            run: |host| exec_file(&host.as_user()),
        },
        Test { name: "runtime::a_log_has_runcs_lines", needs: ROOT, run: log },
        Test { name: "runtime::only_preserved_descriptors_are_inside", needs: ROOT, run: descriptors },
        Test { name: "runtime::listening_sockets_are_handed_on", needs: ROOT, run: listening },
        Test { name: "runtime::kill_all_reaches_a_shared_pid_namespace", needs: ROOT, run: kill_all },
        Test { name: "runtime::kill_takes_any_number", needs: ROOT, run: kill_numbers },
        Test { name: "runtime::the_terminal_goes_to_the_console_socket", needs: ROOT, run: console },
        Test {
            name: "runtime::user_the_terminal_goes_to_the_console_socket",
            needs: USER,
            run: |host| console(&host.as_user()),
        },
        Test { name: "runtime::flags_that_contradict_are_refused", needs: ROOT, run: refused },
        Test { name: "runtime::a_root_can_be_moved_in_place_of_swapped", needs: ROOT, run: no_pivot },
    ]
}

fn sleeping(host: &Host) -> super::Result<Bundle<'_>> {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    Ok(bundle)
}

fn lists(host: &Host) -> Outcome {
    let bundle = sleeping(host)?;
    let (id, pid) = (super::id("c"), bundle.pid("c")?);
    let state = bundle.state("c")?;
    assert_eq!(state["rootfs"], json!(bundle.rootfs()?));
    assert_eq!(state["owner"], "");
    let created = state["created"].as_str().unwrap_or_default();
    assert!(created.contains('T') && created.ends_with('Z'), "{state}");
    let table = bundle.call(&["list"])?.success()?.stdout;
    let (head, line) = table.split_once('\n').ok_or("two lines")?;
    assert_eq!(
        head.split_whitespace().collect::<Vec<_>>(),
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    let cells: Vec<_> = line.split_whitespace().collect();
    assert_eq!(cells[..3], [&*id, &*pid.to_string(), "running"]);
    // The columns begin where their names do.
    assert_eq!(head.find("STATUS"), line.find("running"), "{table}");
    let list: Value = bundle.call(&["list", "--format", "json"])?.success()?.json()?;
    assert_eq!(
        (&list[0]["id"], &list[0]["pid"], &list[0]["status"]),
        (&json!(id), &json!(pid), &json!("running"))
    );
    assert_eq!(bundle.call(&["list", "--quiet"])?.success()?.stdout, format!("{id}\n"));
    let numbers: Value = bundle.call(&["ps", "--format", "json", "c"])?.success()?.json()?;
    assert_eq!(numbers, json!([pid]));
    bundle.call(&["delete", "--force", "c"])?.success()?;
    assert_eq!(bundle.call(&["list", "--format", "json"])?.success()?.stdout, "null\n");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    assert!(bundle.call(&["delete", "c"])?.expect(1)?.stderr.contains("does not exist"));
    Ok(())
}

fn pause(host: &Host) -> Outcome {
    let mark = host.new_dir()?.join("count");
    let text = "while :; do echo x >> /mark/count; sleep 0.02; done";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
        super::bind(config, mark.parent().unwrap_or(&mark), "/mark", &["rbind"]);
    })?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    let size = || fs::metadata(&mark).map(|file| file.len()).unwrap_or_default();
    wait_until("it runs", SOON, || size() > 0)?;
    bundle.call(&["pause", "c"])?.success()?;
    let before = size();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(size(), before, "it stands still");
    assert_eq!(bundle.state("c")?["status"], "paused");
    bundle.call(&["pause", "c"])?.expect(1)?;
    assert!(bundle.call(&["exec", "c", "/bin/true"])?.expect(255)?.stderr.contains("--ignore-paused"));
    bundle.call(&["resume", "c"])?.success()?;
    wait_until("it runs on", SOON, || size() > before)?;
    bundle.call(&["resume", "c"])?.expect(1)?;
    bundle.call(&["pause", "c"])?.success()?;
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn exec_flags(host: &Host) -> Outcome {
    let bundle = sleeping(host)?;
    let file = bundle.folder.join("pid");
    let words = [
        "exec",
        "--detach",
        "--pid-file",
        &file.display().to_string(),
        "--user",
        "5:6",
        "-g",
        "7",
        "--cap",
        "CAP_SYS_ADMIN",
        "--cwd",
        "/tmp",
        "--env",
        "A=b",
        "--no-new-privs",
        "c",
        "/bin/sleep",
        "77",
    ];
    bundle.call(&words)?.success()?;
    let pid: i32 = fs::read_to_string(&file)?.parse()?;
    wait_until("it runs", SOON, || tests::ask::command_line(pid).starts_with("/bin/sleep"))?;
    assert_eq!(status(pid, "Uid")?.split_whitespace().next(), Some("5"));
    assert_eq!(status(pid, "Gid")?.split_whitespace().next(), Some("6"));
    assert_eq!(status(pid, "Groups")?, "7");
    assert_eq!(status(pid, "NoNewPrivs")?, "1");
    let bounding = u64::from_str_radix(&status(pid, "CapBnd")?, 16)?;
    assert_eq!(bounding >> 21 & 1, 1, "CAP_SYS_ADMIN");
    assert_eq!(status(pid, "CapInh")?, "0000000000000000");
    let environ = tests::ask::environment(pid);
    assert!(environ.split('\0').any(|entry| entry == "A=b"), "{environ}");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd"))?.file_name(), Some("tmp".as_ref()));
    for kind in ["mnt", "pid", "net", "uts", "ipc"] {
        let link = |pid| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        assert_eq!(link(pid)?, link(bundle.pid("c")?)?);
    }
    let numbers: Value = bundle.call(&["ps", "--format", "json", "c"])?.success()?.json()?;
    assert!(numbers.as_array().is_some_and(|all| all.contains(&json!(pid))), "in the cgroup: {numbers}");
    let table = bundle.call(&["ps", "c", "-e", "-o", "pid,cmd"]);
    assert!(table?.success()?.stdout.contains("/bin/sleep 77"));
    assert_eq!(bundle.call(&["exec", "c", "/bin/sh", "-c", "exit 9"])?.code, 9);
    bundle.call(&["exec", "c", "/no/such"])?.expect(255)?;
    bundle.call(&["exec", "--cwd", "/no/such", "c", "/bin/true"])?.expect(255)?;
    assert!(!bundle.rootfs()?.join("no").exists(), "a slip of the pen makes no directory");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn exec_file(host: &Host) -> Outcome {
    let bundle = sleeping(host)?;
    let file = bundle.folder.join("process.json");
    let process = json!({ "args": ["/bin/sh", "-c", "echo $A; pwd"], "cwd": "/tmp", "env": ["A=b", "PATH=/bin"],
        "user": { "uid": 0, "gid": 0 } });
    fs::write(&file, process.to_string())?;
    let output = bundle.call(&["exec", "--process", &file.display().to_string(), "c"])?.success()?;
    assert_eq!(output.stdout, "b\n/tmp\n");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn log(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["nosuch"], |_| {})?;
    let log = bundle.folder.join("log.json");
    let path = log.display().to_string();
    bundle.call(&["--log", &path, "--log-format", "json", "create", "c"])?.expect(1)?;
    bundle.call(&["--log", &path, "--log-format", "json", "kill", "c"])?.expect(1)?;
    let text = fs::read_to_string(&log)?;
    let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let message = |line: &Value| line["msg"].as_str().unwrap_or_default().to_owned();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines.iter().all(|line| line["level"] == "error" && line["time"].is_string()), "{text}");
    // These words are what engines look for.
    assert!(message(&lines[0]).contains("nosuch"), "{text}");
    assert!(message(&lines[0]).contains("executable file not found"), "{text}");
    assert!(message(&lines[1]).contains("does not exist"), "{text}");
    bundle.rewrite(&["/bin/true"], |config| {
        config["process"]["capabilities"]["bounding"] = json!(["CAP_TIME_TRAVEL"]);
    })?;
    let output = bundle.call(&["--log", &path, "--log-format", "json", "run", "c"])?.success()?;
    let text = fs::read_to_string(&log)?;
    let line: Value = serde_json::from_str(text.lines().nth(2).ok_or("a third line")?)?;
    assert!(line["level"] == "warning" && message(&line).contains("CAP_TIME_TRAVEL"), "{text}");
    assert_eq!(output.stderr, "", "the warning is in the log");
    let path = bundle.folder.join("log.text");
    bundle.call(&["--log", &path.display().to_string(), "state", "c"])?.expect(1)?;
    assert!(fs::read_to_string(path)?.contains("level=error msg=\"container "));
    Ok(())
}

/// Runs the runtime under a shell that has opened more descriptors for it.
fn with_descriptors(bundle: &Bundle<'_>, before: &str, words: &str) -> super::Result<tests::Output> {
    let binary = bundle.host.bin(super::BIN);
    let (root, id) = (bundle.state.display(), super::id("c"));
    let script = format!(
        "{before} exec {} --root {root} run {words} {id} 3</etc/hostname 4</etc/passwd 7</etc",
        binary.display()
    );
    bundle.host.cmd("sh", ["-c", &script]).cwd(&bundle.folder).run()
}

fn descriptors(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/ls", "/proc/self/fd"], |_| {})?;
    let seen =
        |output: tests::Output| output.stdout.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // One more is the directory that ls itself has opened.
    assert_eq!(seen(with_descriptors(&bundle, "", "")?.success()?), ["0", "1", "2", "3"]);
    assert_eq!(
        seen(with_descriptors(&bundle, "", "--preserve-fds 1")?.success()?),
        ["0", "1", "2", "3", "4"]
    );
    assert_eq!(
        seen(with_descriptors(&bundle, "", "--preserve-fds 2")?.success()?),
        ["0", "1", "2", "3", "4", "5"]
    );
    let output = with_descriptors(&bundle, "", "--preserve-fds 3")?.expect(1)?;
    assert!(output.stderr.contains("descriptor 5 is not open"), "{output:?}");
    assert!(!bundle.state.exists());
    Ok(())
}

fn listening(host: &Host) -> Outcome {
    let text = "echo $LISTEN_FDS $LISTEN_PID $$; ls /proc/self/fd | wc -l";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |_| {})?;
    let output = with_descriptors(&bundle, "LISTEN_PID=$$ LISTEN_FDS=2", "")?.success()?;
    assert_eq!(output.stdout, "2 1 1\n6\n");
    // Meant for another process.
    let output = with_descriptors(&bundle, "LISTEN_PID=1 LISTEN_FDS=2", "")?.success()?;
    assert_eq!(output.stdout, "1\n4\n");
    Ok(())
}

fn kill_all(host: &Host) -> Outcome {
    let text = "sleep 100 & echo $! > /mark/pid; exec sleep 100";
    let mark = host.new_dir()?;
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
        super::bind(config, &mark, "/mark", &["rbind"]);
        if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
            all.retain(|namespace| namespace["type"] != "pid");
        }
    })?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    let read = || fs::read_to_string(mark.join("pid")).ok().and_then(|text| text.trim().parse::<i32>().ok());
    wait_until("it has a child", SOON, || read().is_some())?;
    let (first, second) = (bundle.pid("c")?, read().ok_or("a pid")?);
    let gone = |pid| tests::ask::state(pid).is_none_or(|state| state == 'Z');
    bundle.call(&["kill", "c", "KILL"])?.success()?;
    wait_until("the first has ended", SOON, || gone(first))?;
    assert!(!gone(second), "the other lives on: they share the host's pid namespace");
    bundle.call(&["kill", "--all", "c", "TERM"])?.success()?;
    wait_until("the second has ended", SOON, || gone(second))?;
    bundle.call(&["delete", "c"])?.success()?;
    Ok(())
}

/// systemd in a container is stopped by a signal without a name.
fn kill_numbers(host: &Host) -> Outcome {
    for words in [&["kill", "c", "37"][..], &["kill", "--all", "c", "37"]] {
        let mark = host.new_dir()?;
        let text = "trap 'echo 37 > /mark/got; exit' 37; : > /mark/ready; while :; do sleep 0.05; done";
        let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
            super::bind(config, &mark, "/mark", &["rbind"]);
        })?;
        bundle.call(&["run", "--detach", "c"])?.success()?;
        wait_until("it waits", SOON, || mark.join("ready").exists())?;
        bundle.call(&["kill", "c", "0"])?.success()?;
        bundle.call(&["kill", "c", "65"])?.expect(1)?;
        bundle.call(words)?.success()?;
        wait_until("it got it", SOON, || {
            fs::read_to_string(mark.join("got")).is_ok_and(|text| text == "37\n")
        })?;
        wait_until("it has ended", SOON, || {
            bundle.state("c").is_ok_and(|state| state["status"] == "stopped")
        })?;
        bundle.call(&["kill", "c", "0"])?.expect(1)?;
        bundle.call(&["delete", "c"])?.success()?;
    }
    Ok(())
}

fn console(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/sh", "-c", "tty; stty size; sleep 100"], |config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({ "height": 30, "width": 90 });
    })?;
    assert!(bundle.call(&["create", "c"])?.expect(1)?.stderr.contains("--console-socket"));
    let path = bundle.folder.join("socket");
    let socket = UnixListener::bind(&path)?;
    let (uid, gid) = host.ids();
    std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
    bundle.call(&["create", "--console-socket", &path.display().to_string(), "c"])?.success()?;
    let (stream, _) = socket.accept()?;
    let (mut bytes, mut space) = ([0; 64], nix::cmsg_space!(i32));
    let mut pieces = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<()>(stream.as_raw_fd(), &mut pieces, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let fd = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let fd = fd.ok_or("no descriptor came")?;
    bundle.call(&["start", "c"])?.success()?;
    let mut said = String::new();
    wait_until("it has said where it is", SOON, || {
        let mut piece = [0; 256];
        if let Ok(length) = nix::unistd::read(unsafe_borrow(fd), &mut piece) {
            said.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
        said.contains("30 90")
    })?;
    assert!(said.contains("/dev/pts/0") || said.contains("/dev/console"), "{said}");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

#[allow(unsafe_code)]
fn unsafe_borrow<'a>(fd: i32) -> std::os::fd::BorrowedFd<'a> {
    // SAFETY: recvmsg has made this descriptor for the test, which never closes it.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

fn refused(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/true"], |_| {})?;
    let nowhere = bundle.folder.join("nowhere").display().to_string();
    for (words, said) in [
        (&["create", "--console-socket", &nowhere, "c"][..], "--console-socket is for"),
        (&["create", "--bundle", &nowhere, "c"], "no bundle"),
        (&["create", "a/b"], "no container id"),
        (&["create", "--pid-file", "/no/such/folder/pid", "c"], "cannot write"),
        (&["--log", "/no/such/folder/log", "create", "c"], "cannot open the log"),
        (&["start", "c"], "does not exist"),
        (&["kill", "c", "NOSIG"], "no signal"),
    ] {
        let output = bundle.call(words)?.expect(1)?;
        assert!(output.stderr.contains(said), "{words:?}: {output:?}");
        assert!(!bundle.state.exists(), "{words:?}");
    }
    for (text, said) in [
        ("{", "is no configuration"),
        (r#"{"process":{"user":{},"cwd":"/","args":["a"]}}"#, "ociVersion: it is missing"),
        (r#"{"ociVersion":"2.0.0"}"#, "ociVersion: 2.0.0"),
        (r#"{"ociVersion":"one"}"#, "ociVersion: one"),
        (r#"{"ociVersion":"1.1.0"}"#, "config: linux: it is missing"),
        (r#"{"ociVersion":"1.0.2-dev","linux":{}}"#, "config: process: it is missing"),
        (r#"{"ociVersion":"1.0.0","process":{"cwd":7}}"#, "is no configuration"),
    ] {
        fs::write(bundle.config(), text)?;
        let output = bundle.call(&["create", "c"])?.expect(1)?;
        assert!(output.stderr.contains(said), "{text}: {output:?}");
        assert!(!bundle.state.exists(), "{text}");
    }
    Ok(())
}

fn no_pivot(host: &Host) -> Outcome {
    let text = "cat /proc/self/mountinfo | wc -l; ls /kit/probe; ls /work /root/.. 2>&1 | head -1";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |_| {})?;
    for hook in [false, true] {
        bundle.rewrite(&["/bin/sh", "-c", text], |config| {
            if hook {
                config["hooks"]["createContainer"] = json!([{ "path": "/bin/true" }]);
            }
        })?;
        let output = bundle.call(&["run", "--no-pivot", "c"])?.success()?;
        assert!(output.stdout.contains("/kit/probe"), "{output:?}");
    }
    Ok(())
}
