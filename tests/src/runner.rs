//! Outside the test: one process for each, watched, and ended as a whole.
//!
//! The runner is a *subreaper* (prctl(2)): whatever a test starts, also a process that has forked itself away, becomes the
//! runner's child when its parent ends. So nothing escapes; and what still runs a moment after the test has ended is a failure.
//! Where the runner itself is ended, by Ctrl-C say, its parent does that: see `keeper.rs`.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid};

use crate::ask;
use crate::cgroups;
use crate::host::Host;
use crate::inside;
use crate::keeper;
use crate::need;
use crate::process::Output;
use crate::{Case, Outcome};

/// How a child says that it skipped its test; the reason is the last line of its standard error.
const SKIPPED: u8 = 77;
/// How long a test may take; `KIT_TIME_LIMIT` (seconds) overrides it.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// How long a process may outlive the test that started it, on a machine that may stand still for a while.
const GRACE: Duration = Duration::from_secs(15);

/// Runs the tests, as the `main` of a test target with `harness = false`.
pub fn main(cases: Vec<Case>) -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--child") => return child(&cases, args.get(2).map_or("", String::as_str)),
        Some("--try") => {
            return match need::try_here(args.get(2).map_or("", String::as_str)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => {
                    eprintln!("{reason}");
                    ExitCode::FAILURE
                }
            };
        }
        _ => {}
    }
    if std::env::var_os(keeper::KEPT).is_none() {
        return keeper::keep().unwrap_or_else(|error| {
            eprintln!("error: cannot run the tests: {error}");
            ExitCode::FAILURE
        });
    }
    if let Err(error) = keeper::begin() {
        eprintln!("error: cannot run the tests: {error}");
        return ExitCode::FAILURE;
    }
    let (options, names) = several_names(args);
    let mut arguments = Arguments::from_iter(options);
    let cases: Vec<Case> = cases
        .into_iter()
        .filter(|case| names.is_empty() || names.iter().any(|name| case.name.contains(name.as_str())))
        .collect();
    // One after another: two tests would find each other's cgroups, and a time limit means little on a busy machine.
    arguments.test_threads = Some(1);
    let trials = cases
        .into_iter()
        .map(|case| {
            let name = case.name.clone();
            Trial::ignorable_test(case.name, move || supervise(&name).map_err(Failed::from))
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Takes the names out of the arguments where there is more than one, for libtest-mimic knows one alone.
fn several_names(args: Vec<String>) -> (Vec<String>, Vec<String>) {
    const VALUED: [&str; 5] = ["--skip", "--test-threads", "--format", "--color", "--logfile"];
    let is_value = |at: usize| at > 0 && VALUED.contains(&args[at - 1].as_str());
    let is_name = |at: usize| at > 0 && !args[at].starts_with('-') && !is_value(at);
    let names: Vec<String> = (0..args.len()).filter(|at| is_name(*at)).map(|at| args[at].clone()).collect();
    if names.len() < 2 {
        return (args, Vec::new());
    }
    let options = (0..args.len()).filter(|at| !is_name(*at)).map(|at| args[at].clone()).collect();
    (options, names)
}

/// Runs one test in a child process and tells what came of it.
fn supervise(name: &str) -> Result<Completion, String> {
    let told = |error: std::io::Error| error.to_string();
    let mut log = tempfile::tempfile().map_err(told)?;
    let mut command = Command::new(std::env::current_exe().map_err(told)?);
    // Root's scratch space ends with the test's mount namespace; an ordinary user's has to be removed.
    let scratch = if geteuid().is_root() { None } else { Some(tempfile::tempdir().map_err(told)?) };
    command.envs(scratch.as_ref().map(|folder| ("TMPDIR", folder.path())));
    let child = command
        .args(["--child", name])
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(told)?)
        .stderr(log.try_clone().map_err(told)?)
        .spawn()
        .map_err(told)?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let seconds = std::env::var("KIT_TIME_LIMIT").ok().and_then(|text| text.parse().ok());
    let limit = seconds.map_or(TIME_LIMIT, Duration::from_secs);
    let status = watch(pid, limit);
    let survivors = end_all();
    cgroups::remove_of_test(child.id());
    if let Some(folder) = inside::folder_of(child.id()) {
        // Its mounts ended with the test's mount namespace; an ordinary user has none.
        let _ = std::fs::remove_dir_all(folder);
    }
    let said = read(&mut log).map_err(told)?;
    match status {
        Some(0) if survivors.is_empty() => Ok(Completion::Completed),
        Some(0) => Err(format!("it left processes running:\n{}\n{said}", survivors.join("\n"))),
        Some(code) if code == i32::from(SKIPPED) => {
            Ok(Completion::ignored_with(said.lines().last().unwrap_or_default()))
        }
        Some(code) => Err(format!("status {code}\n{said}")),
        None => Err(format!("killed after {limit:?}\n{said}")),
    }
}

/// Waits for the test's process, and reaps what else ends meanwhile. None when the limit passed.
fn watch(pid: Pid, limit: Duration) -> Option<i32> {
    let start = Instant::now();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(ended, code)) if ended == pid => return Some(code),
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => return Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) if start.elapsed() > limit => return None,
            Ok(WaitStatus::StillAlive) | Err(_) => sleep(Duration::from_millis(2)),
            Ok(_) => {}
        }
    }
}

/// Reaps what the test left, for a moment; then kills it, and names what had to be killed.
fn end_all() -> Vec<String> {
    let start = Instant::now();
    let mut survivors = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return survivors,
            Ok(WaitStatus::StillAlive) | Err(_) => {
                if start.elapsed() > GRACE {
                    for pid in ask::children(std::process::id().cast_signed()) {
                        survivors.push(format!("  {pid} {}", ask::command_line(pid)));
                        cgroups::thaw(pid);
                        // It may have ended by itself just now.
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                    survivors.sort();
                    survivors.dedup();
                }
                sleep(Duration::from_millis(2));
            }
            Ok(_) => {}
        }
    }
}

fn read(log: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    log.seek(SeekFrom::Start(0))?;
    log.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What `--child NAME` does: one test, in its private place.
fn child(cases: &[Case], name: &str) -> ExitCode {
    // A test that nobody watches any more must not go on.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let case = cases.iter().find(|case| case.name == name).ok_or("no such test")?;
        let host = Host::new(inside::enter()?);
        if let Some((need, reason)) =
            case.needs.iter().find_map(|need| need.missing(&host).map(|reason| (*need, reason)))
        {
            let reason = format!("{need}: {}", reason.replace('\n', "; "));
            if need.required() {
                return Err(format!("a required need is missing: {reason}").into());
            }
            return Ok(Some(reason));
        }
        let before = leaks(&host)?;
        (case.run)(&host)?;
        nothing_leaked(&host, &before)?;
        Ok::<_, Box<dyn Error>>(None)
    }));
    match outcome {
        Ok(Ok(None)) => ExitCode::SUCCESS,
        Ok(Ok(Some(reason))) => {
            eprintln!("{reason}");
            ExitCode::from(SKIPPED)
        }
        Ok(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::from(101),
    }
}

/// Fails when `kit leaks` lists what it did not list before the test. What ends with a process or a namespace ends a moment
/// after it, so it is asked until it is so.
fn nothing_leaked(host: &Host, before: &[String]) -> Outcome {
    let start = Instant::now();
    loop {
        let mut leaked = leaks(host)?;
        leaked.retain(|line| !before.contains(line));
        if leaked.is_empty() {
            return Ok(());
        }
        if start.elapsed() > GRACE {
            return Err(format!("it leaked:\n  {}", leaked.join("\n  ")).into());
        }
        sleep(Duration::from_millis(50));
    }
}

fn leaks(host: &Host) -> Result<Vec<String>, Box<dyn Error>> {
    if !host.bin("kit").is_file() {
        let required = std::env::var_os("KIT_REQUIRE").is_some();
        return if required {
            Err("no `kit` to look for leaks with: build it".into())
        } else {
            Ok(Vec::new())
        };
    }
    let Output { stdout, .. } = host.command("kit", ["leaks"])?;
    Ok(stdout.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_one_name_is_taken_out_of_the_arguments() {
        let split = |words: &str| several_names(words.split(' ').map(str::to_owned).collect());
        assert_eq!(split("kernel --skip a b").1, Vec::<String>::new());
        let (options, names) = split("kernel ch03 --format terse --list ch04");
        assert_eq!(
            (options.join(" "), names.join(" ")),
            ("kernel --format terse --list".into(), "ch03 ch04".into())
        );
    }
}
