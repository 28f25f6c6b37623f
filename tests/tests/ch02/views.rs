//! What the container sees, and what can be seen of it: mounts, devices, host name, network, pid 1, descriptors.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use tests::ask::{command_line, environment};
use tests::{Host, Outcome, Test, args, wait_until};

use super::{ROOT, Result, SOON, USER, sleeper, started, with};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "ch02::the_mount_table_is_the_containers",
            needs: ROOT,
            run: the_mount_table_is_the_containers,
        },
        Test {
            name: "ch02::user_the_mount_table_is_the_containers",
            needs: USER,
            run: |host| the_mount_table_is_the_containers(&host.as_user()),
        },
        Test {
            name: "ch02::nothing_is_mounted_on_a_shared_host",
            needs: ROOT,
            run: nothing_is_mounted_on_a_shared_host,
        },
        Test { name: "ch02::devices_work", needs: ROOT, run: |host| devices_work(host, &[]) },
        Test {
            name: "ch02::devices_made_by_root_work",
            needs: ROOT,
            run: |host| devices_work(host, &["--share", "user"]),
        },
        Test { name: "ch02::user_devices_work", needs: USER, run: |host| devices_work(&host.as_user(), &[]) },
        Test { name: "ch02::host_name_is_its_own", needs: ROOT, run: host_name_is_its_own },
        Test { name: "ch02::network_is_empty", needs: ROOT, run: network_is_empty },
        Test { name: "ch02::init_process_shows_nothing_of_the_host", needs: ROOT, run: init_shows_nothing },
        Test {
            name: "ch02::user_init_process_shows_nothing_of_the_host",
            needs: USER,
            run: |host| init_shows_nothing(&host.as_user()),
        },
        Test { name: "ch02::no_descriptor_leaks", needs: ROOT, run: no_descriptor_leaks },
    ]
}

fn the_mount_table_is_the_containers(host: &Host) -> Outcome {
    let before = fs::read_to_string("/proc/self/mountinfo")?;
    let sleeper = sleeper(host, &[])?;
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", sleeper.command))?;
    let places: BTreeSet<_> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    let expected = [
        "/",
        "/dev",
        "/dev/full",
        "/dev/mqueue",
        "/dev/null",
        "/dev/pts",
        "/dev/random",
        "/dev/shm",
        "/dev/tty",
        "/dev/urandom",
        "/dev/zero",
        "/proc",
        "/sys",
    ];
    assert_eq!(places, BTreeSet::from(expected), "{table}");
    for line in table.lines() {
        assert!(
            !line.contains(" shared:") && !line.contains(" master:"),
            "tied to another namespace: {line}"
        );
    }
    let options =
        |place: &str| table.lines().find(|line| line.split(' ').nth(4) == Some(place)).unwrap_or_default();
    assert!(options("/sys").contains(" ro,nosuid,nodev,noexec"), "{table}");
    assert!(options("/proc").contains(" rw,nosuid,nodev,noexec"), "{table}");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, before, "nothing is mounted on the host");
    // Pid 1 is the container's own: it is the container's proc.
    let processes = fs::read_dir(format!("/proc/{}/root/proc", sleeper.command))?.flatten();
    let pids: BTreeSet<_> =
        processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).collect();
    assert_eq!(pids, BTreeSet::from([1, 2]));
    Ok(())
}

fn nothing_is_mounted_on_a_shared_host(host: &Host) -> Outcome {
    // As systemd has it: whatever is mounted in a copy of the mount table appears in the original too.
    let flags = MsFlags::MS_REC | MsFlags::MS_SHARED;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
    let before = fs::read_to_string("/proc/self/mountinfo")?;
    for options in [&[][..], &["--share", "user"]] {
        let sleeper = sleeper(host, options)?;
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", sleeper.command))?;
        assert!(!table.contains(" shared:") && !table.contains(" master:"), "{options:?}: {table}");
        assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, before, "{options:?}");
    }
    Ok(())
}

fn devices_work(host: &Host, options: &[&str]) -> Outcome {
    let script = "{ echo gone > /dev/null && head -c 3 /dev/zero | wc -c && head -c 5 /dev/urandom | wc -c && \
        head -c 2 /dev/random | wc -c && (echo x > /dev/full) 2>&1 | grep -c space; \
        echo by-fd | cat /dev/stdin > /dev/stdout && ls /dev | tr '\\n' ' '; } | cat";
    let output = host
        .command("02-namespaces", with(options, args![host.rootfs()?, "/bin/sh", "-c", script]))?
        .success()?;
    assert_eq!(
        output.stdout,
        "3\n5\n2\n1\nby-fd\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ",
        "{output}"
    );
    Ok(())
}

fn host_name_is_its_own(host: &Host) -> Outcome {
    let before = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let name = |options: &[&str]| -> Result<String> {
        Ok(host
            .command(
                "02-namespaces",
                with(options, args![host.rootfs()?, "/bin/cat", "/proc/sys/kernel/hostname"]),
            )?
            .success()?
            .stdout)
    };
    assert_eq!(name(&[])?, "sampan\n");
    assert_eq!(name(&["--hostname", "junk"])?, "junk\n");
    assert_eq!(name(&["--share", "uts"])?, before);
    host.command("02-namespaces", args![host.rootfs()?, "/bin/hostname", "changed"])?.success()?;
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname")?, before);
    Ok(())
}

fn network_is_empty(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &[])?;
    let devices = fs::read_to_string(format!("/proc/{}/net/dev", sleeper.first))?;
    let names: Vec<_> =
        devices.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    assert_eq!(names, ["lo"]);
    let shown = fs::read_dir(format!("/proc/{}/root/sys/class/net", sleeper.first))?.count();
    assert_eq!(shown, 1, "the sysfs is that of the namespace");
    Ok(())
}

fn init_shows_nothing(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let runtime =
        host.cmd("02-namespaces", args![&rootfs, "/bin/sleep", "60"]).env("SECRET", "of the host").spawn()?;
    let sleeper = started(runtime)?;
    let all = |file: &str| fs::read(format!("/proc/{}/{file}", sleeper.first));
    wait_until("it has changed its clothes", SOON, || {
        command_line(sleeper.first).starts_with("sampan-init")
    })?;
    let own = all("environ")?;
    assert!(own.starts_with(b"container=sampan\0"), "{:?}", String::from_utf8_lossy(&own));
    assert!(own[16..].iter().all(|&byte| byte == 0), "{:?}", String::from_utf8_lossy(&own));
    assert!(!String::from_utf8(all("cmdline")?)?.contains("rootfs"));
    wait_until("its descriptors are its own", SOON, || {
        let entries = fs::read_dir(format!("/proc/{}/fd", sleeper.first)).into_iter().flatten().flatten();
        let mut links: Vec<_> = entries
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .map(|link| link.display().to_string())
            .collect();
        links.sort();
        links == ["/dev/null", "/dev/null", "/dev/null", "anon_inode:[signalfd]"]
    })?;
    let environment = environment(sleeper.command);
    assert!(environment.contains("container=sampan") && !environment.contains("SECRET"), "{environment}");
    if host.ids().0 == 0 {
        let look =
            host.command("02-namespaces", args!["--share", "user", &rootfs, "/bin/cat", "/proc/1/environ"])?;
        assert_eq!(
            look.stdout.trim_matches('\0'),
            "container=sampan",
            "root with all capabilities sees the mark alone"
        );
        let look = host.command("02-namespaces", args![&rootfs, "/bin/ls", "/proc/1/root/"])?;
        assert_ne!(look.code, 0, "root of a user namespace may not look into pid 1: {look}");
    }
    Ok(())
}

fn no_descriptor_leaks(host: &Host) -> Outcome {
    let folder = File::open("/")?;
    fcntl(&folder, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let number = folder.as_raw_fd().to_string();
    for options in [&["--explain"][..], &["--explain", "--no-init"]] {
        let sleeper = sleeper(host, options)?;
        for pid in [sleeper.first, sleeper.command] {
            wait_until("no descriptor of the host's is open", SOON, || {
                let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
                let open: Vec<_> =
                    open.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
                // Pid 1 reads its signals from a fourth.
                open.len() <= 4 && (pid == sleeper.first || !open.contains(&number))
            })?;
        }
        let open = fs::read_dir(format!("/proc/{}/fd", sleeper.command))?.count();
        assert_eq!(open, 3, "{options:?}");
    }
    Ok(())
}
