//! A runtime that is killed at any moment leaves nobody, and nothing that `delete --force` does not remove. And whose child a
//! container is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tests::{Host, Outcome, Test, wait_until};

use super::lifecycle::SOON;
use super::{Bundle, ROOT, USER, status};

/// How many moments of a command are tried.
const MOMENTS: u32 = 30;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "runtime::a_killed_create_leaves_nobody",
            needs: ROOT,
            run: |host| killed(host, &["create", "c"]),
        },
        Test {
            name: "runtime::user_a_killed_create_leaves_nobody",
            needs: USER,
            run: |host| killed(&host.as_user(), &["create", "c"]),
        },
        Test {
            name: "runtime::a_killed_run_leaves_nobody",
            needs: ROOT,
            run: |host| killed(host, &["run", "c"]),
        },
        Test {
            name: "runtime::a_killed_detached_run_can_be_deleted",
            needs: ROOT,
            run: |host| killed(host, &["run", "--detach", "c"]),
        },
        Test { name: "runtime::a_killed_exec_can_be_deleted", needs: ROOT, run: killed_exec },
        Test { name: "runtime::a_killed_delete_can_be_repeated", needs: ROOT, run: killed_delete },
        Test { name: "runtime::of_twenty_creates_one_wins", needs: ROOT, run: twenty },
        Test { name: "runtime::a_container_is_its_subreapers_child", needs: ROOT, run: subreaper },
        Test {
            name: "runtime::user_a_container_is_its_subreapers_child",
            needs: USER,
            run: |host| subreaper(&host.as_user()),
        },
    ]
}

/// Whoever loses his parent becomes this process's child, so that it can be seen, and reaped.
fn adopt() -> Outcome {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Processes below this one that live.
fn alive() -> Vec<i32> {
    let own = std::process::id().cast_signed();
    reap();
    let lives = |pid: &i32| tests::ask::state(*pid).is_some_and(|state| state != 'Z');
    let alive = tests::ask::descendants(own).into_iter().filter(lives).collect();
    // One that ended meanwhile is not alive, and unreaped it would hold up the end of its pid namespace's first process.
    reap();
    alive
}

fn reap() {
    while let Ok(status) = nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
        if status == nix::sys::wait::WaitStatus::StillAlive {
            break;
        }
    }
}

/// The container's cgroups in all hierarchies.
fn cgroups(id: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter(|line| line.contains(" - cgroup"));
    let places = mounts.filter_map(|line| line.split(' ').nth(4));
    places.map(|place| Path::new(place).join("sampan").join(id)).filter(|path| path.exists()).collect()
}

fn nothing_is_left(bundle: &Bundle<'_>) -> Outcome {
    bundle.call(&["delete", "--force", "c"])?.success()?;
    wait_until("all have ended", SOON, || alive().is_empty()).map_err(|error| {
        format!("{error}: {:?}", alive().into_iter().map(tests::ask::command_line).collect::<Vec<_>>())
    })?;
    assert!(!bundle.state.exists());
    assert_eq!(cgroups(&super::id("c")), [] as [PathBuf; 0]);
    Ok(())
}

fn killed(host: &Host, words: &[&str]) -> Outcome {
    adopt()?;
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    let apart = apart(&bundle)?;
    for moment in 0..MOMENTS {
        let child = bundle.cmd(words).spawn()?;
        std::thread::sleep(apart * moment);
        child.signal(Signal::SIGKILL)?;
        child.wait()?;
        nothing_is_left(&bundle)?;
    }
    Ok(())
}

/// How far the moments are apart, so that the last is after the end of a whole create.
fn apart(bundle: &Bundle<'_>) -> super::Result<Duration> {
    let start = std::time::Instant::now();
    bundle.call(&["create", "c"])?.success()?;
    let took = start.elapsed();
    nothing_is_left(bundle)?;
    Ok(took * 3 / 2 / MOMENTS)
}

fn killed_exec(host: &Host) -> Outcome {
    adopt()?;
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    let apart = apart(&bundle)?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    let first = bundle.pid("c")?;
    for moment in 0..MOMENTS {
        let child = bundle.cmd(&["exec", "c", "/bin/sleep", "50"]).spawn()?;
        std::thread::sleep(apart * moment);
        child.signal(Signal::SIGKILL)?;
        child.wait()?;
        wait_until("only the container's own is left", SOON, || alive() == [first])?;
    }
    nothing_is_left(&bundle)
}

fn killed_delete(host: &Host) -> Outcome {
    adopt()?;
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    let apart = apart(&bundle)?;
    for moment in 0..MOMENTS {
        bundle.call(&["run", "--detach", "c"])?.success()?;
        let child = bundle.cmd(&["delete", "--force", "c"]).spawn()?;
        std::thread::sleep(apart / 2 * moment);
        child.signal(Signal::SIGKILL)?;
        child.wait()?;
        nothing_is_left(&bundle)?;
    }
    Ok(())
}

fn twenty(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    let children = (0..20).map(|_| bundle.cmd(&["create", "c"]).spawn()).collect::<Result<Vec<_>, _>>()?;
    let outputs = children.into_iter().map(tests::Child::wait).collect::<Result<Vec<_>, _>>()?;
    let (won, lost): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.code == 0);
    assert_eq!(won.len(), 1, "{outputs:?}");
    assert!(lost.iter().all(|output| output.stderr.contains("exists already")), "{lost:?}");
    bundle.call(&["start", "c"])?.success()?;
    assert_eq!(bundle.state("c")?["status"], "running");
    // Two starts: one comes too late.
    bundle.call(&["start", "c"])?.expect(1)?;
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn subreaper(host: &Host) -> Outcome {
    adopt()?;
    let bundle = Bundle::new(host, &["/bin/sh", "-c", "exit 7"], |config| {
        config["process"]["env"] = json!(["PATH=/bin"]);
    })?;
    bundle.call(&["create", "c"])?.success()?;
    let pid = bundle.pid("c")?;
    assert_eq!(status(pid, "PPid")?, std::process::id().to_string());
    bundle.call(&["start", "c"])?.success()?;
    // As conmon does: the container's own status.
    let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)?;
    assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(nix::unistd::Pid::from_raw(pid), 7));
    bundle.call(&["delete", "c"])?.success()?;
    Ok(())
}
