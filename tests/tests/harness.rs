//! The harness itself: a test that cheats must fail, and one that cannot run must be skipped with its reason.
//!
//! This program runs itself with `KIT_HARNESS=trial`, as a test program with tests that each do one wrong thing.

use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use tests::{Host, Need, Outcome, Test};

const WRONG: &[Test] = &[
    Test { name: "right", needs: &[], run: |_| Ok(()) },
    Test { name: "errs", needs: &[], run: |_| Err("the reason".into()) },
    Test { name: "panics", needs: &[], run: |_| panic!("the reason") },
    Test { name: "takes_too_long", needs: &[], run: takes_too_long },
    Test { name: "leaves_a_process", needs: &[], run: leaves_a_process },
    Test {
        name: "leaves_a_frozen_process",
        needs: &[Need::Root, Need::CgroupV1("freezer")],
        run: leaves_a_frozen_process,
    },
    Test { name: "leaves_a_folder_of_ours", needs: &[Need::Root, Need::Binary("kit")], run: leaves_a_folder },
    Test { name: "waits_with_a_container", needs: &[], run: waits_with_a_container },
    Test { name: "needs_the_moon", needs: &[Need::Program("no-such-program")], run: |_| Ok(()) },
    Test { name: "looks_around", needs: &[Need::Root], run: looks_around },
];

fn takes_too_long(_: &Host) -> Outcome {
    sleep(Duration::from_secs(60));
    Ok(())
}

fn leaves_a_process(host: &Host) -> Outcome {
    // A process that has forked itself away from everybody.
    host.command("sh", ["-c", "setsid sleep 60 > /dev/null 2>&1 < /dev/null & exit 0"])?.success()?;
    Ok(())
}

/// In a cgroup of the name that the harness removes.
fn leaves_a_frozen_process(host: &Host) -> Outcome {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let freezer = mounts.lines().find(|line| {
        line.split_once(" - cgroup ")
            .is_some_and(|(_, rest)| rest.split([' ', ',']).any(|word| word == "freezer"))
    });
    let freezer = freezer.and_then(|line| line.split(' ').nth(4)).ok_or("no freezer")?;
    let cgroup = format!("{freezer}/sampan/test-{}-frozen", std::process::id());
    std::fs::create_dir_all(&cgroup)?;
    let freeze = "setsid sh -c 'echo $$ > $0/tasks; exec sleep 60' $0 > /dev/null 2>&1 < /dev/null &
        until grep -q . $0/tasks; do sleep 0.01; done; echo FROZEN > $0/freezer.state";
    host.command("sh", ["-c", freeze, &cgroup])?.success()?;
    Ok(())
}

/// It would stay, as an engine's container does.
fn waits_with_a_container(host: &Host) -> Outcome {
    host.command("sh", ["-c", "setsid sleep 61.5 > /dev/null 2>&1 < /dev/null & exit 0"])?.success()?;
    sleep(Duration::from_secs(60));
    Ok(())
}

fn leaves_a_folder(host: &Host) -> Outcome {
    Ok(std::fs::create_dir(host.place().scratch.join("sampan-1073741824-abcdef"))?)
}

/// Changes that would show on the host.
fn looks_around(host: &Host) -> Outcome {
    host.command(
        "sh",
        ["-c", "mkdir /var/lib/sampan/x && echo x > /etc/sampan-test && echo x > /run/sampan-test"],
    )?
    .success()?;
    host.command("sh", ["-c", "echo sampan-test > /proc/sys/kernel/hostname"])?.success()?;
    Ok(())
}

fn main() -> ExitCode {
    if std::env::var_os("KIT_HARNESS").is_some_and(|value| value == "trial") {
        return tests::main(WRONG.iter().map(|test| (*test).into()).collect());
    }
    let expect = |name: &'static str, variables: &'static [(&str, &str)], words: &'static [&str]| {
        Trial::test(format!("harness::{name}"), move || trial(name, variables, words))
    };
    let trials = vec![
        expect("right", &[], &["1 passed"]),
        expect("errs", &[], &["1 failed", "the reason"]),
        expect("panics", &[], &["1 failed", "the reason"]),
        expect("takes_too_long", &[("KIT_TIME_LIMIT", "1")], &["1 failed", "killed after 1s"]),
        expect("leaves_a_process", &[], &["1 failed", "it left processes running", "sleep 60"]),
        expect("leaves_a_folder_of_ours", &[], &["1 failed", "it leaked", "sampan-1073741824-abcdef"]),
        expect(
            "needs_the_moon",
            &[],
            &["1 ignored", "program:no-such-program: no-such-program is not installed"],
        ),
        expect("needs_the_moon", &[("KIT_REQUIRE", "all")], &["1 failed", "a required need is missing"]),
        expect("needs_the_moon", &[("KIT_REQUIRE", "all"), ("KIT_ALLOW_SKIP", "program")], &["1 ignored"]),
        Trial::test("harness::leaves_a_frozen_process", || {
            let words = ["1 failed", "it leaked", "-frozen"];
            // A machine without version 1 of cgroups skips it.
            trial("leaves_a_frozen_process", &[], &words)
                .or_else(|wrong| trial("leaves_a_frozen_process", &[], &["1 ignored"]).map_err(|_| wrong))
        }),
        Trial::test("harness::interrupted_it_leaves_nothing", interrupted),
        Trial::test("harness::the_host_stays_as_it_is", || {
            trial("looks_around", &[], &["1 passed"])?;
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let seen =
                ["/etc/sampan-test", "/run/sampan-test", "/var/lib/sampan/x"].map(std::path::Path::new);
            let clean = name.trim() != "sampan-test" && !seen.iter().any(|path| path.exists());
            if clean { Ok(()) } else { Err("the host has changed".into()) }
        }),
    ];
    // Without root there is no private place, and nothing to show of it.
    let root = nix::unistd::geteuid().is_root();
    let trials = trials.into_iter().filter(|_| root).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, variables: &[(&str, &str)], words: &[&str]) -> Result<(), Failed> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", name])
        .env_remove("KIT_REQUIRE")
        .env_remove("KIT_ALLOW_SKIP")
        .env("KIT_HARNESS", "trial")
        .envs(variables.iter().copied())
        .output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    match words.iter().find(|word| !said.contains(**word)) {
        Some(word) => Err(format!("it never said {word:?}:\n{said}").into()),
        None => Ok(()),
    }
}

/// Ctrl-C, in the middle of a test.
fn interrupted() -> Result<(), Failed> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "waits_with_a_container"])
        .env_remove("KIT_KEPT")
        .env("KIT_HARNESS", "trial")
        .stdout(Stdio::null())
        .spawn()?;
    let there = || tests::ask::descendants(child.id().cast_signed());
    let sleepers =
        |pids: Vec<i32>| pids.into_iter().find(|pid| tests::ask::command_line(*pid) == "sleep 61.5");
    let patience = Duration::from_secs(60);
    let mut sleeper = None;
    tests::wait_until("the test waits", patience, || {
        sleeper = sleepers(there());
        sleeper.is_some()
    })
    .map_err(|error| error.to_string())?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().cast_signed()),
        nix::sys::signal::Signal::SIGINT,
    )?;
    let status = child.wait()?;
    let left = sleeper.and_then(|pid| sleepers(vec![pid]));
    if status.code() == Some(130) && left.is_none() {
        Ok(())
    } else {
        Err(format!("{status}, {left:?}").into())
    }
}
