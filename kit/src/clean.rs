//! `cargo kit clean`: remove what `cargo kit leaks` lists, and nothing else.
//!
//! Each kind has its own way to go, and the order matters: processes first, for they hold the rest; then mounts, deepest first;
//! cgroups, which the kernel only removes empty; links; the table; directories last. A thing that cannot be removed does not
//! keep the others.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use step::{StepError, step};

use crate::leaks::{self, Kind, Leak, Roots};
use crate::mountinfo;
use crate::netlink;

/// How long a killed process may take to be gone, and a cgroup to be empty.
const PATIENCE: Duration = Duration::from_secs(20);
/// What was held by something else may be free once that is gone.
const ROUNDS: u32 = 3;

/// Remove what `cargo kit leaks` lists, and nothing else
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo kit clean --explain")]
pub(crate) struct Args {
    /// Tell each step and why it is made, on standard error
    #[arg(long)]
    explain: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.explain {
        step::explain()?;
    }
    let mut failed = Vec::new();
    // A process that is killed leaves what it held, which is a leak from then on.
    for _ in 0..ROUNDS {
        failed.clear();
        let found = leaks::find(&Roots::host());
        if found.is_empty() {
            break;
        }
        for leak in &found {
            match remove(leak) {
                Ok(()) => println!("removed {leak}"),
                Err(error) => failed.push((leak.clone(), error)),
            }
        }
    }
    remove_parents();
    for (leak, error) in &failed {
        eprintln!("error: cannot remove {leak}");
        eprint!("{}", step::report(error.as_ref(), &[]).replacen("error:", "caused by:", 1));
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn remove(leak: &Leak) -> Result<()> {
    let path = Path::new(&leak.name);
    match leak.kind {
        Kind::Process => kill_process(leak.name.parse()?),
        Kind::Mount => {
            step(
                "umount2",
                format_args!("{} MNT_DETACH", leak.name),
                "nobody needs it any more, whoever still holds it",
            )
            .run(|| umount2(path, MntFlags::MNT_DETACH))?;
            Ok(())
        }
        Kind::Cgroup => remove_cgroup(path),
        Kind::Link => remove_link(&leak.name),
        Kind::Table => {
            step("NFT_MSG_DELTABLE", format_args!("{}", leak.name), "its chains and rules go with it")
                .run(|| gone_is_fine(netlink::delete_table(leaks::TABLE)))?;
            Ok(())
        }
        Kind::Directory => remove_directory(path),
    }
}

fn kill_process(pid: i32) -> Result<()> {
    step(
        "kill",
        format_args!("{pid} SIGKILL"),
        "a container's process without its runtime process; its pid namespace ends with it",
    )
    .run(|| gone_is_fine(kill(Pid::from_raw(pid), Signal::SIGKILL)))?;
    // A zombie counts as gone: only its parent can remove that.
    let lives = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    };
    wait_until(|| !lives()).map_err(|()| anyhow!("process {pid} does not end"))
}

/// The kernel removes a cgroup that has neither processes nor children, so: thaw, kill, wait, rmdir, from the leaves up.
fn remove_cgroup(cgroup: &Path) -> Result<()> {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    let thaw = [("cgroup.freeze", "0"), ("freezer.state", "THAWED")];
    for (file, value) in thaw.iter().filter(|(file, _)| cgroup.join(file).exists()) {
        let path = cgroup.join(file);
        step("write", format_args!("{value} to {}", path.display()), "a frozen process does not die")
            .run(|| fs::write(&path, value))?;
    }
    let processes = || fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut killed = Ok(());
    let empty = || {
        // 0 is a process that this pid namespace does not see, and -1 would be everybody.
        for pid in processes().lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid > 0) {
            killed = step("kill", format_args!("{pid} SIGKILL"), "it is in a cgroup whose owner is gone")
                .run(|| gone_is_fine(kill(Pid::from_raw(pid), Signal::SIGKILL)));
        }
        processes().is_empty()
    };
    let waited = wait_until(empty);
    killed?;
    waited.map_err(|()| anyhow!("the processes in {} do not end", cgroup.display()))?;
    step("rmdir", format_args!("{}", cgroup.display()), "empty, so the kernel lets go of it").run(|| {
        let mut last = Ok(());
        // A process that is just ending still counts for a moment.
        let _ = wait_until(|| {
            last = fs::remove_dir(cgroup);
            !matches!(&last, Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32))
        });
        last
    })?;
    Ok(())
}

fn remove_link(name: &str) -> Result<()> {
    let link = netlink::links()?.into_iter().find(|link| link.name == name);
    let Some(link) = link else { return Ok(()) };
    step("RTM_DELLINK", format_args!("{name}"), "its container is gone")
        .run(|| gone_is_fine(netlink::delete_link(link.index)))?;
    Ok(())
}

fn remove_directory(path: &Path) -> Result<()> {
    let held =
        mountinfo::read(Path::new("/proc/self")).into_iter().find(|mount| mount.target.starts_with(path));
    if let Some(mount) = held {
        // What is mounted there may be somebody's own files.
        return Err(anyhow!("something is mounted on {}", mount.target.display()));
    }
    let remove = || {
        step("rm", format_args!("-r {}", path.display()), "its owner is gone").run(
            || match fs::remove_dir_all(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            },
        )
    };
    match remove() {
        // An ordinary user's container writes as other users, and overlay keeps a directory that nobody may enter.
        Err(error) if matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM)) => {
            Ok(namespaces::as_root_of_the_files(|| Ok(remove()?))?)
        }
        outcome => Ok(outcome?),
    }
}

/// The folders that all of ours lie in; not where anything is left in them.
fn remove_parents() {
    let cgroups = mountinfo::read(Path::new("/proc/self"))
        .into_iter()
        .filter(|mount| mount.fstype.starts_with("cgroup"));
    let folders = cgroups.map(|mount| mount.target.join("sampan")).chain(Roots::host().run);
    for folder in folders.filter(|folder| folder.is_dir()) {
        // A folder that is still in use stays.
        let _ = remove_empty(&folder);
    }
}

fn remove_empty(folder: &Path) -> Result<(), StepError> {
    step("rmdir", format_args!("{}", folder.display()), "nothing of ours is in it any more")
        .run(|| fs::remove_dir(folder))
}

/// What ends by itself between being found and being removed is removed.
fn gone_is_fine(outcome: nix::Result<()>) -> nix::Result<()> {
    match outcome {
        Err(Errno::ESRCH | Errno::ENODEV | Errno::ENOENT) => Ok(()),
        outcome => outcome,
    }
}

fn wait_until(mut done: impl FnMut() -> bool) -> Result<(), ()> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > PATIENCE {
            return Err(());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
