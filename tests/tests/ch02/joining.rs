//! `02-namespaces join`: a process that enters a running container.

use nix::sys::signal::Signal;
use tests::ask::{command_line, descendants, environment};
use tests::{Host, Outcome, Test, args, ns_inode, wait_until};

use super::{KINDS, ROOT, SOON, USER, me, sleeper, status};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch02::join_enters_all_namespaces", needs: ROOT, run: join_enters_all_namespaces },
        Test {
            name: "ch02::user_join_enters_all_namespaces",
            needs: USER,
            run: |host| join_enters_all_namespaces(&host.as_user()),
        },
        Test {
            name: "ch02::join_enters_what_is_not_shared",
            needs: ROOT,
            run: join_enters_what_is_not_shared,
        },
        Test { name: "ch02::join_hands_back_the_status", needs: ROOT, run: join_hands_back_the_status },
        Test { name: "ch02::join_gives_a_terminal", needs: ROOT, run: join_gives_a_terminal },
        Test {
            name: "ch02::user_join_gives_a_terminal",
            needs: USER,
            run: |host| join_gives_a_terminal(&host.as_user()),
        },
        Test { name: "ch02::join_dies_with_its_runtime", needs: ROOT, run: join_dies_with_its_runtime },
        Test { name: "ch02::join_wants_a_process_inside", needs: ROOT, run: join_wants_a_process_inside },
    ]
}

fn join_enters_all_namespaces(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &[])?;
    for target in [sleeper.first, sleeper.command] {
        let joiner = host.spawn("02-namespaces", args!["join", target.to_string(), "/bin/sleep", "61"])?;
        let mut found = None;
        wait_until("it runs", SOON, || {
            found = descendants(joiner.pid()).into_iter().find(|&pid| command_line(pid) == "/bin/sleep 61");
            found.is_some()
        })
        .map_err(|error| format!("{error}: {}", joiner.stderr()))?;
        let joined = found.unwrap_or_default();
        for kind in KINDS {
            assert_eq!(ns_inode(joined, kind)?, ns_inode(sleeper.command, kind)?, "{kind}");
        }
        assert_eq!(status(joined, "Uid")?, status(sleeper.command, "Uid")?);
        assert_eq!(
            std::fs::read_link(format!("/proc/{joined}/cwd"))?,
            std::fs::read_link(format!("/proc/{joined}/root"))?
        );
        let environment = environment(joined);
        assert!(environment.contains("container=sampan"), "{environment}");
        assert_eq!(std::fs::read_dir(format!("/proc/{joined}/fd"))?.count(), 3);
        assert_eq!(descendants(joiner.pid()), [joined], "the process in between is gone");
    }
    let seen =
        host.command("02-namespaces", args!["join", sleeper.first.to_string(), "/bin/ps"])?.success()?;
    assert!(seen.stdout.contains("/bin/sleep 60"), "{seen}");
    Ok(())
}

fn join_enters_what_is_not_shared(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &["--share", "user", "--share", "network"])?;
    let link = |kind: &str| format!("/proc/self/ns/{kind}");
    for kind in KINDS {
        let output = host
            .command("02-namespaces", args!["join", sleeper.first.to_string(), "/bin/readlink", link(kind)])?
            .success()?;
        let inode = ns_inode(sleeper.command, kind)?;
        assert!(output.stdout.trim().ends_with(&format!("[{inode}]")), "{kind}: {output}");
    }
    assert_eq!(ns_inode(sleeper.command, "net")?, ns_inode(me(), "net")?);
    Ok(())
}

fn join_hands_back_the_status(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &[])?;
    let code = |command: &[&str]| {
        let pid = sleeper.first.to_string();
        let all = [&["join", &pid], command].concat();
        host.command("02-namespaces", all).map(|output| output.code)
    };
    assert_eq!(code(&["/bin/sh", "-c", "exit 7"])?, 7);
    assert_eq!(code(&["/bin/sh", "-c", "kill -TERM $$"])?, 143);
    assert_eq!(code(&["/no/such"])?, 127);
    assert_eq!(code(&["/bin"])?, 126);
    let mut child = host.spawn(
        "02-namespaces",
        args![
            "join",
            sleeper.first.to_string(),
            "/bin/sh",
            "-c",
            "trap 'exit 8' TERM; echo ready; while :; do sleep 0.01; done"
        ],
    )?;
    child.wait_for("ready")?;
    child.signal(Signal::SIGTERM)?;
    child.wait()?.expect(8)?;
    Ok(())
}

fn join_gives_a_terminal(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &[])?;
    let mut terminal = host.terminal(
        "02-namespaces",
        args!["join", "-t", sleeper.first.to_string(), "/bin/sh", "-c", "tty; stty size; sleep 60"],
    )?;
    terminal.expect("/dev/pts/0")?;
    terminal.expect("24 80")?;
    terminal.send("\x03")?;
    assert_eq!(terminal.wait()?, 128 + Signal::SIGINT as i32);
    Ok(())
}

fn join_dies_with_its_runtime(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &[])?;
    let joiner = host.spawn("02-namespaces", args!["join", sleeper.first.to_string(), "/bin/sleep", "61"])?;
    let runs = || descendants(me()).into_iter().any(|pid| command_line(pid) == "/bin/sleep 61");
    wait_until("it runs", SOON, runs)?;
    let joined = descendants(joiner.pid());
    joiner.signal(Signal::SIGKILL)?;
    joiner.wait()?;
    wait_until("it is gone", SOON, || {
        joined.iter().all(|&pid| tests::ask::state(pid).is_none_or(|state| state == 'Z'))
    })?;
    assert_eq!(command_line(sleeper.command), "/bin/sleep 60", "the container goes on");
    Ok(())
}

fn join_wants_a_process_inside(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &[])?;
    let join =
        |pid: i32| host.command("02-namespaces", args!["join", pid.to_string(), "/bin/true"])?.expect(125);
    let outside = join(sleeper.runtime.pid())?;
    assert!(outside.stderr.contains("shares all its namespaces with this one"), "{outside}");
    for pid in [0, 4_194_303, i32::MAX] {
        let nobody = join(pid)?;
        assert!(nobody.stderr.contains(&format!("no process {pid} ")), "{nobody}");
    }
    Ok(())
}
