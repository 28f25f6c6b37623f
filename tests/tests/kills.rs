//! Each binary, killed with SIGKILL at ten random moments of its life, leaves nothing that `kit clean` does not remove.
//!
//! What is left is asked of the kernel too, by the names that everything of ours has. `KIT_SEED` repeats a run.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tests::{Host, Need, Outcome, Test, args, ask, ns_inode, wait_until};

const MOMENTS: usize = 10;

macro_rules! kill {
    ($name:literal, [$($need:expr),*], $host:ident => $run:expr) => {
        Test {
            name: concat!("kills::", $name),
            needs: &[Need::Patience, Need::Rootfs, Need::Binary("kit"), $($need),*],
            run: |host| { let $host = host; $run },
        }
    };
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        kill!("01-chroot", [Need::Root], host => chroot(host)),
        kill!("01-chroot_by_a_user", [Need::UserNamespaces], host => chroot(&host.as_user())),
        kill!("02-namespaces", [Need::Root, Need::Binary("02-namespaces")], host => chapter(host, "02-namespaces", &[])),
        kill!("02-namespaces_by_a_user", [Need::UserNamespaces, Need::Binary("02-namespaces")],
            host => chapter(&host.as_user(), "02-namespaces", &[])),
        kill!("03-cgroups", [Need::Root, Need::Binary("03-cgroups"), Need::Cgroup("memory"), Need::Cgroup("pids")],
            host => chapter(host, "03-cgroups", &["--memory", "64m", "--pids", "64", "--cpus", "0.5"])),
        kill!("04-unionfs", [Need::Root, Need::Overlay, Need::Binary("04-unionfs")], host => unionfs(host)),
        kill!("04-unionfs_by_a_user", [Need::OverlayUser, Need::Binary("04-unionfs")], host => unionfs(&host.as_user())),
        kill!("05-network", [Need::Root, Need::Nftables, Need::Bridge, Need::Binary("05-network")],
            host => chapter(host, "05-network", &["-p", "18080:80", "--memory", "64m"])),
        kill!("05-network_by_a_user", [Need::Root, Need::UserNamespaces, Need::Tun0666, Need::Program("pasta"), Need::Binary("05-network")],
            host => { host.uplink()?; chapter(&host.as_user(), "05-network", &[]) }),
        kill!("sampan_run", [Need::Root, Need::Overlay, Need::Nftables, Need::Bridge, Need::Binary("sampan")],
            host => engine(host, false)),
        kill!("sampan_run_and_its_shim", [Need::Root, Need::Overlay, Need::Nftables, Need::Bridge, Need::Binary("sampan")],
            host => engine(host, true)),
        kill!("sampan_run_by_a_user", [Need::OverlayUser, Need::Binary("sampan")], host => engine(&host.as_user(), true)),
    ]
}

/// The longest work of chapter 1 is to unpack.
fn chroot(host: &Host) -> Outcome {
    let folder = host.place().scratch.clone();
    kill_often(host, "01-chroot", false, &mut |round| {
        let rootfs = folder.join(format!("unpacked-{}-{round}", std::process::id()));
        args!["--tar", host.tar(), rootfs, "/bin/sleep", "0.1"].to_vec()
    })
}

fn chapter(host: &Host, binary: &str, options: &[&str]) -> Outcome {
    let rootfs = host.rootfs()?;
    let options: Vec<OsString> = options.iter().map(Into::into).collect();
    kill_often(host, binary, false, &mut |_| {
        [options.clone(), args![&rootfs, "/bin/sh", "-c", "sleep 0.1 & sleep 0.1"].to_vec()].concat()
    })
}

fn unionfs(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    kill_often(host, "04-unionfs", false, &mut |_| {
        args!["--layer", &rootfs, "/bin/sh", "-c", "echo x > /etc/x; sleep 0.1"].to_vec()
    })
}

/// Killing the command stops no container: it goes on, and ends by itself. Killing the shim too does stop it.
fn engine(host: &Host, shim: bool) -> Outcome {
    host.uplink()?;
    host.command("sampan", args!["import", host.tar(), "killed"])?.success()?;
    kill_often(host, "sampan", shim, &mut |_| {
        args!["run", "--rm", "killed", "/bin/sh", "-c", "sleep 0.1 & sleep 0.1"].to_vec()
    })?;
    // The store has come through it.
    host.command("sampan", ["run", "--rm", "killed", "/bin/true"])?.success()?;
    Ok(())
}

/// Runs the binary once to its end, to know how long it lives; then kills it at random moments of that time.
fn kill_often(
    host: &Host,
    binary: &str,
    all: bool,
    arguments: &mut dyn FnMut(usize) -> Vec<OsString>,
) -> Outcome {
    let start = Instant::now();
    host.command(binary, arguments(MOMENTS))?.success()?;
    let life = start.elapsed();
    let mut random = Random::new();
    let seed = random.0;
    for round in 0..MOMENTS {
        let moment = life.mul_f64(random.fraction());
        let child = host.spawn(binary, arguments(round))?;
        sleep(moment);
        child.signal(Signal::SIGKILL)?;
        if all {
            for pid in ours(&host.bin(binary)) {
                // It may have ended by itself just now.
                let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let pid = child.pid();
        drop(child);
        nothing_is_left(host, binary, pid)
            .map_err(|error| format!("killed after {moment:?} of {life:?} (KIT_SEED={seed}): {error}"))?;
    }
    Ok(())
}

/// What a process is, and where in the kernel it waits.
fn about(pid: i32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let words = read("cmdline").replace('\0', " ");
    let status: String =
        read("status").lines().filter(|line| line.starts_with("PPid") || line.starts_with("State")).collect();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let open: Vec<_> = open.filter_map(|fd| Some((fd.file_name(), fs::read_link(fd.path()).ok()?))).collect();
    format!("\n{pid}: {words}{status} {} {} {open:?}", read("wchan"), read("syscall").trim())
}

/// Cleans, and asks both `kit leaks` and the kernel.
fn nothing_is_left(host: &Host, binary: &str, pid: i32) -> Outcome {
    let limit = Duration::from_secs(60);
    let program = host.bin(binary);
    // What does not end by itself is for `kit clean`.
    let _ = wait_until("its processes are gone", Duration::from_secs(2), || ours(&program).is_empty());
    let mut cleaned = host.command("kit", ["clean"])?;
    // What ends with a namespace ends a moment after it.
    let mut left = String::new();
    let outcome = wait_until("`kit leaks` lists nothing", limit, || match host.command("kit", ["leaks"]) {
        Ok(leaks) if leaks.stdout.is_empty() => true,
        Ok(leaks) => {
            left = leaks.stdout;
            cleaned = host.command("kit", ["clean"]).unwrap_or_else(|error| panic!("{error}"));
            false
        }
        Err(error) => panic!("{error}"),
    });
    outcome.map_err(|error| format!("{error}:\n{left}after clean: {cleaned}"))?;
    wait_until("its processes are gone", limit, || {
        // What was only about to become what it is when it was looked for.
        ours(&program).is_empty() || host.command("kit", ["clean"]).is_err()
    })
    .map_err(|error| format!("{error}: {}", ours(&program).into_iter().map(about).collect::<String>()))?;
    let mut found: Vec<String> = cgroups_of(pid).iter().map(|path| path.display().to_string()).collect();
    found.extend(names_in(&host.place().scratch, &format!("sampan-{pid}")));
    let devices = fs::read_to_string("/proc/self/net/dev")?;
    found.extend(devices.lines().filter(|line| line.trim_start().starts_with("sampan")).map(str::to_owned));
    if found.is_empty() { Ok(()) } else { Err(format!("left: {}", found.join("; ")).into()) }
}

/// The processes of this program in this test: those that stand in its namespaces, or in some that were made from them.
fn ours(program: &Path) -> Vec<i32> {
    let me = std::process::id().cast_signed();
    let ipc = ns_inode(me, "ipc").ok();
    let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let runner = nix::unistd::getppid().as_raw();
    let family = ask::descendants(runner);
    family
        .into_iter()
        .filter(|&pid| pid != me && ask::state(pid).is_some_and(|state| state != 'Z'))
        .filter(|&pid| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            // A shim runs from a copy of its mount, and is known by its name alone.
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            exe.file_name().is_some_and(|exe| exe.to_string_lossy() == name)
                || comm.trim_end() == name
                || ask::command_line(pid).split([' ', '\0']).next() == Some(name.as_str())
                || ns_inode(pid, "ipc").ok() != ipc
        })
        .collect()
}

fn cgroups_of(pid: i32) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points =
        mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let suffix = format!("-{pid}");
    points
        .flat_map(|point| fs::read_dir(Path::new(point).join("sampan")).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(&suffix))
        .collect()
}

fn names_in(folder: &Path, part: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(part))
        .collect()
}

/// A linear congruential generator: enough to choose moments, and it can be repeated.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("KIT_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| u64::from(since.subsec_nanos()));
        Self(given.unwrap_or_else(clock))
    }

    /// At least 0 and below 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}
