//! How a container ends: exit statuses, signals, orphans, and a runtime process that is killed.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::ask::{command_line, descendants, state};
use tests::{Child, Host, Outcome, Test, args, wait_until};

use super::{ROOT, Result, SOON, USER, sleeper, started, status, with};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch02::exit_codes_are_dockers", needs: ROOT, run: exit_codes_are_dockers },
        Test {
            name: "ch02::user_exit_codes_are_dockers",
            needs: USER,
            run: |host| exit_codes_are_dockers(&host.as_user()),
        },
        Test { name: "ch02::signals_reach_the_command", needs: ROOT, run: signals_reach_the_command },
        Test {
            name: "ch02::user_signals_reach_the_command",
            needs: USER,
            run: |host| signals_reach_the_command(&host.as_user()),
        },
        Test {
            name: "ch02::ignored_signals_are_not_handed_on",
            needs: ROOT,
            run: ignored_signals_are_not_handed_on,
        },
        Test { name: "ch02::pid_1_has_no_default_actions", needs: ROOT, run: pid_1_has_no_default_actions },
        Test { name: "ch02::orphans_are_reaped", needs: ROOT, run: orphans_are_reaped },
        Test { name: "ch02::without_init_orphans_stay", needs: ROOT, run: without_init_orphans_stay },
        Test { name: "ch02::all_end_with_the_command", needs: ROOT, run: all_end_with_the_command },
        Test { name: "ch02::init_holds_no_pipe_open", needs: ROOT, run: init_holds_no_pipe_open },
        Test {
            name: "ch02::a_broken_pipe_ends_the_command",
            needs: ROOT,
            run: a_broken_pipe_ends_the_command,
        },
        Test {
            name: "ch02::a_killed_runtime_leaves_nothing",
            needs: ROOT,
            run: a_killed_runtime_leaves_nothing,
        },
        Test {
            name: "ch02::user_a_killed_runtime_leaves_nothing",
            needs: USER,
            run: |host| a_killed_runtime_leaves_nothing(&host.as_user()),
        },
    ]
}

fn exit_codes_are_dockers(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    fs::write(rootfs.join("text"), "no program\n")?;
    for options in [&[][..], &["--no-init"], &["-t"]] {
        let code = |command: &[&str]| -> Result<i32> {
            let rest = std::iter::once(rootfs.clone().into()).chain(command.iter().map(Into::into));
            Ok(host.command("02-namespaces", with(options, rest))?.code)
        };
        assert_eq!(code(&["/bin/true"])?, 0, "{options:?}");
        assert_eq!(code(&["sh", "-c", "exit 3"])?, 3, "{options:?}: the command's own");
        assert_eq!(code(&["/text"])?, 126, "{options:?}: cannot be run");
        assert_eq!(code(&["/no/such"])?, 127, "{options:?}: not there");
        assert_eq!(code(&["nosuch"])?, 127, "{options:?}: not in the PATH");
        assert_eq!(
            code(&["/bin/sh", "-c", "kill -KILL $$; exit 4"])?,
            if options.contains(&"--no-init") { 4 } else { 137 }
        );
    }
    assert_eq!(host.command("02-namespaces", ["/no/such/rootfs"])?.code, 125);
    assert_eq!(host.command("02-namespaces", args!["--share", "disk", &rootfs])?.code, 2, "clap's own");
    let output = host.command("02-namespaces", args![&rootfs, "/no/such"])?;
    assert_eq!(output.stderr, "error: no command \"/no/such\" in the root file system\n");
    Ok(())
}

fn signals_reach_the_command(host: &Host) -> Outcome {
    let ended = sleeper(host, &[])?;
    ended.runtime.signal(Signal::SIGTERM)?;
    ended.runtime.wait()?.expect(128 + Signal::SIGTERM as i32)?;
    for (signal, code) in
        [(Signal::SIGHUP, 11), (Signal::SIGUSR1, 12), (Signal::SIGINT, 13), (Signal::SIGQUIT, 14)]
    {
        let name = signal.as_str().trim_start_matches("SIG");
        let script = format!("trap 'exit {code}' {name}; echo ready; while :; do sleep 0.01; done");
        for options in [&[][..], &["--no-init"], &["-t"]] {
            let mut child =
                host.spawn("02-namespaces", with(options, args![host.rootfs()?, "/bin/sh", "-c", &script]))?;
            child.wait_for("ready")?;
            child.signal(signal)?;
            child.wait()?.expect(code).map_err(|error| format!("{signal} {options:?}: {error}"))?;
        }
    }
    Ok(())
}

fn ignored_signals_are_not_handed_on(host: &Host) -> Outcome {
    let script = "trap '' HUP INT QUIT PIPE; exec 02-namespaces \"$@\"";
    let command = host.command(
        "sh",
        args!["-c", script, "sh", host.rootfs()?, "/bin/grep", "SigIgn", "/proc/self/status"],
    )?;
    // Without those that the C library keeps for itself.
    let ignored = command.success()?.stdout;
    let ignored = u64::from_str_radix(ignored.trim_start_matches("SigIgn:").trim(), 16)?;
    assert_eq!(ignored & 0x7fff_ffff, 0, "{ignored:#x}");
    Ok(())
}

fn pid_1_has_no_default_actions(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &["--no-init"])?;
    sleeper.runtime.signal(Signal::SIGTERM)?;
    std::thread::sleep(Duration::from_millis(300));
    // On a busy machine it may not yet have got to where it sleeps.
    wait_until("sleep as pid 1 has not noticed", SOON, || state(sleeper.command) == Some('S'))?;
    kill(Pid::from_raw(sleeper.command), Signal::SIGKILL)?;
    sleeper.runtime.wait()?.expect(128 + Signal::SIGKILL as i32)?;
    Ok(())
}

/// Two processes whose parent ends before them.
const ORPHANS: &str = "for i in 1 2; do (sleep 0.1 & ) ; done; exec /bin/sleep 60";

fn orphans_are_reaped(host: &Host) -> Outcome {
    let sleeper = started(host.spawn("02-namespaces", args![host.rootfs()?, "/bin/sh", "-c", ORPHANS])?)?;
    wait_until("pid 1 has one child left", SOON, || descendants(sleeper.first) == [sleeper.command])
}

fn without_init_orphans_stay(host: &Host) -> Outcome {
    // The same with a pid 1 that does not wait for others: what the init process is there for.
    let sleeper =
        started(host.spawn("02-namespaces", args!["--no-init", host.rootfs()?, "/bin/sh", "-c", ORPHANS])?)?;
    wait_until("both are zombies", SOON, || {
        descendants(sleeper.first).iter().filter(|&&pid| state(pid) == Some('Z')).count() == 2
    })
}

fn all_end_with_the_command(host: &Host) -> Outcome {
    let script = "(trap '' TERM HUP; /bin/sleep 60) & while :; do sleep 0.05; [ -e /stop ] && exit 6; done";
    let sleeper = started(host.spawn("02-namespaces", args![host.rootfs()?, "/bin/sh", "-c", script])?)?;
    fs::write(host.rootfs()?.join("stop"), "")?;
    sleeper.runtime.wait()?.expect(6)?;
    assert!(
        command_line(sleeper.command) == "[]" || state(sleeper.command) == Some('Z'),
        "it outlived its pid 1"
    );
    Ok(())
}

fn init_holds_no_pipe_open(host: &Host) -> Outcome {
    // A command that closes its output has ended it for whoever reads, though it runs on.
    let script = format!(
        "{} {} /bin/sh -c 'echo said; exec >&- 2>&-; /bin/sleep 60' | cat; echo closed",
        host.bin("02-namespaces").display(),
        host.rootfs()?.display()
    );
    let mut shell = host.spawn("sh", ["-c", &script])?;
    shell.wait_for("said")?;
    let found = |child: &Child| {
        descendants(child.pid()).into_iter().filter(|&pid| command_line(pid) == "/bin/sleep 60").count()
    };
    wait_until("it runs on", SOON, || found(&shell) == 1)?;
    let open = descendants(shell.pid())
        .into_iter()
        .filter(|&pid| status(pid, "NSpid").is_ok_and(|ids| ids.len() == 2))
        .all(|pid| {
            let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            links
                .filter_map(|entry| fs::read_link(entry.path()).ok())
                .all(|link| !link.to_string_lossy().starts_with("pipe:"))
        });
    assert!(open, "a process inside holds the pipe");
    for pid in descendants(shell.pid()).into_iter().filter(|&pid| command_line(pid).contains("02-namespaces"))
    {
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    }
    shell.wait_for("closed")
}

fn a_broken_pipe_ends_the_command(host: &Host) -> Outcome {
    // Rust programs ignore SIGPIPE; the command must not have inherited that.
    for options in [&[][..], &["--no-init"]] {
        let script = "(while :; do echo y; done); echo $? > /status";
        let args = with(options, args![host.rootfs()?, "/bin/sh", "-c", script]);
        let words: Vec<_> = args.iter().map(|arg| format!("'{}'", arg.to_string_lossy())).collect();
        host.command(
            "sh",
            ["-c", &format!("{} {} | head -n 1", host.bin("02-namespaces").display(), words.join(" "))],
        )?
        .success()?;
        wait_until("the loop was ended", SOON, || {
            fs::read_to_string(host.rootfs().unwrap_or_default().join("status"))
                .is_ok_and(|status| status == "141\n")
        })?;
        fs::remove_file(host.rootfs()?.join("status"))?;
    }
    Ok(())
}

fn a_killed_runtime_leaves_nothing(host: &Host) -> Outcome {
    let before = fs::read_to_string("/proc/self/mountinfo")?;
    let moments = [0, 1, 2, 3, 4, 5, 7, 9, 13, 20, 40, 90];
    for (number, millis) in moments.into_iter().enumerate() {
        let options: &[&str] =
            [&[][..], &["-t"], &["--no-init"], &["--table", "--share", "network"]][number % 4];
        let script = "trap '' TERM HUP INT; /bin/sleep 60 & setsid sleep 60 & wait";
        let runtime =
            host.spawn("02-namespaces", with(options, args![host.rootfs()?, "/bin/sh", "-c", script]))?;
        let start = Instant::now();
        let mut seen = Vec::new();
        while start.elapsed() < Duration::from_millis(millis) {
            seen.extend(descendants(runtime.pid()));
        }
        kill(Pid::from_raw(runtime.pid()), Signal::SIGSTOP)?;
        seen.extend(descendants(runtime.pid()));
        runtime.signal(Signal::SIGKILL)?;
        runtime.wait()?.expect(137)?;
        seen.sort_unstable();
        seen.dedup();
        // The runner has adopted what is left of them, and reaps it.
        wait_until("all are gone", SOON, || {
            seen.iter().all(|&pid| state(pid).is_none_or(|state| state == 'Z'))
        })
        .map_err(|error| {
            format!(
                "after {millis} ms {options:?}: {error}: {:?}",
                seen.iter().map(|&pid| command_line(pid)).collect::<Vec<_>>()
            )
        })?;
    }
    assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, before);
    Ok(())
}
