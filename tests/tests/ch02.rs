//! Tests of chapter 2, namespaces: what its page says, asked of the kernel.

mod ending;
mod hints;
mod joining;
mod terminal;
mod views;

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tests::ask::{children, command_line, descendants};
use tests::{Child, Host, Need, Outcome, Test, args, ns_inode, wait_until};

const ROOT: &[Need] = &[Need::Root, Need::Rootfs];
const USER: &[Need] = &[Need::UserNamespaces, Need::Rootfs];
const KINDS: [&str; 8] = ["pid", "net", "mnt", "ipc", "uts", "user", "cgroup", "time"];
const SOON: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test { name: "ch02::each_namespace_is_its_own", needs: ROOT, run: each_namespace_is_its_own },
        Test {
            name: "ch02::user_each_namespace_is_its_own",
            needs: USER,
            run: |host| each_namespace_is_its_own(&host.as_user()),
        },
        Test { name: "ch02::what_is_shared_is_the_hosts", needs: ROOT, run: what_is_shared_is_the_hosts },
        Test {
            name: "ch02::user_what_is_shared_is_the_hosts",
            needs: USER,
            run: |host| what_is_shared_is_the_hosts(&host.as_user()),
        },
        Test { name: "ch02::root_inside_is_nobody_outside", needs: ROOT, run: root_inside_is_nobody_outside },
        Test {
            name: "ch02::user_root_inside_is_the_user_outside",
            needs: USER,
            run: root_inside_is_the_user,
        },
        Test {
            name: "ch02::user_has_the_ids_of_subuid",
            needs: &[Need::UserNamespaces, Need::Rootfs, Need::SubordinateIds],
            run: user_has_the_ids_of_subuid,
        },
        Test {
            name: "ch02::a_rootfs_that_cannot_be_mapped_keeps_its_ids",
            needs: &[Need::Root, Need::Rootfs, Need::Overlay],
            run: a_rootfs_that_cannot_be_mapped,
        },
        Test { name: "ch02::table_is_the_kernels", needs: ROOT, run: table_is_the_kernels },
        Test { name: "ch02::explain_tells_both_processes", needs: ROOT, run: explain_tells_both_processes },
        Test {
            name: "ch02::chroot_escape_is_stopped",
            needs: ROOT,
            run: |host| chroot_escape_is_stopped(host, &[]),
        },
        Test {
            name: "ch02::chroot_escape_is_stopped_without_a_user_namespace",
            needs: ROOT,
            run: |host| chroot_escape_is_stopped(host, &["--share", "user"]),
        },
        Test {
            name: "ch02::user_chroot_escape_is_stopped",
            needs: USER,
            run: |host| chroot_escape_is_stopped(&host.as_user(), &[]),
        },
        Test { name: "ch02::hogs_are_not_stopped", needs: ROOT, run: hogs_are_not_stopped },
    ];
    tests.extend(ending::tests());
    tests.extend(hints::tests());
    tests.extend(joining::tests());
    tests.extend(terminal::tests());
    tests.extend(views::tests());
    tests
}

/// A container that runs `/bin/sleep 60`, and its first process, by their pids on the host.
struct Sleeper {
    runtime: Child,
    first: i32,
    command: i32,
}

fn sleeper(host: &Host, options: &[&str]) -> Result<Sleeper> {
    started(host.spawn("02-namespaces", with(options, args![host.rootfs()?, "/bin/sleep", "60"]))?)
}

/// Waits until the container's `/bin/sleep 60` runs.
fn started(runtime: Child) -> Result<Sleeper> {
    let find = || descendants(runtime.pid()).into_iter().find(|&pid| command_line(pid) == "/bin/sleep 60");
    let mut command = None;
    wait_until("the command runs", SOON, || {
        command = find();
        command.is_some()
    })
    .map_err(|error| format!("{error}: {}", runtime.stderr()))?;
    let first = children(runtime.pid()).first().copied().ok_or("no first process")?;
    Ok(Sleeper { first, command: command.unwrap_or_default(), runtime })
}

/// The options, and what comes after them.
fn with(options: &[&str], rest: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    options.iter().map(Into::into).chain(rest).collect()
}

fn me() -> i32 {
    std::process::id().cast_signed()
}

fn status(pid: i32, field: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.ok_or(format!("no {field}"))?.split_whitespace().map(str::to_owned).collect())
}

fn words(path: String) -> Result<Vec<String>> {
    Ok(fs::read_to_string(path)?.split_whitespace().map(str::to_owned).collect())
}

fn each_namespace_is_its_own(host: &Host) -> Outcome {
    for option in [&[][..], &["--no-init"]] {
        let sleeper = sleeper(host, option)?;
        for kind in KINDS {
            assert_ne!(ns_inode(sleeper.command, kind)?, ns_inode(me(), kind)?, "{kind}");
            assert_eq!(ns_inode(sleeper.command, kind)?, ns_inode(sleeper.first, kind)?, "{kind}");
            assert_eq!(
                ns_inode(sleeper.runtime.pid(), kind)?,
                ns_inode(me(), kind)?,
                "{kind}: the runtime process stays"
            );
        }
        let inside = status(sleeper.command, "NSpid")?.pop();
        assert_eq!(inside.as_deref(), Some(if option.is_empty() { "2" } else { "1" }));
    }
    Ok(())
}

fn what_is_shared_is_the_hosts(host: &Host) -> Outcome {
    for shared in ["pid", "network", "ipc", "uts", "user", "cgroup", "time"] {
        if shared == "user" && host.ids().0 != 0 {
            continue;
        }
        let sleeper = sleeper(host, &["--share", shared])?;
        for kind in KINDS {
            let same = ns_inode(sleeper.command, kind)? == ns_inode(me(), kind)?;
            assert_eq!(same, shared.starts_with(kind), "--share {shared}, {kind}");
        }
    }
    let refused = host.command("02-namespaces", args!["--share", "mount", host.rootfs()?])?.expect(125)?;
    assert!(refused.stderr.contains("the mount namespace cannot be shared"), "{refused}");
    let refused =
        host.command("02-namespaces", args!["--share", "uts", "--hostname", "x", host.rootfs()?])?;
    assert!(refused.expect(125)?.stderr.contains("would rename the host"));
    Ok(())
}

fn root_inside_is_nobody_outside(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &[])?;
    for map in ["uid_map", "gid_map"] {
        let [inside, outside, count] =
            <[String; 3]>::try_from(words(format!("/proc/{}/{map}", sleeper.first))?)
                .map_err(|map| format!("{map:?}"))?;
        assert_eq!((inside.as_str(), count.as_str()), ("0", "65536"));
        let outside: u64 = outside.parse()?;
        // Nobody else may have them.
        for line in fs::read_to_string("/etc/subuid")?.lines() {
            let numbers: Vec<u64> = line.split(':').skip(1).map_while(|number| number.parse().ok()).collect();
            assert!(
                outside >= numbers[0] + numbers[1] || numbers[0] >= outside + 65536,
                "{line} and {outside}"
            );
        }
        let field = if map == "uid_map" { "Uid" } else { "Gid" };
        assert!(status(sleeper.command, field)?.iter().all(|id| *id == outside.to_string()));
    }
    assert_eq!(status(sleeper.command, "Groups")?, Vec::<String>::new(), "no group of root's is left");
    // The files are root's on both sides.
    let rootfs = host.rootfs()?;
    fs::write(rootfs.join("outside"), "")?;
    let script = "touch /inside && stat -c %u:%g /inside /outside && cat /proc/self/uid_map > /dev/null";
    let output = host.command("02-namespaces", args![&rootfs, "/bin/sh", "-c", script])?.success()?;
    assert_eq!(output.stdout, "0:0\n0:0\n");
    assert_eq!(
        (fs::metadata(rootfs.join("inside"))?.uid(), fs::metadata(rootfs.join("inside"))?.gid()),
        (0, 0)
    );
    Ok(())
}

fn root_inside_is_the_user(host: &Host) -> Outcome {
    let host = host.as_user();
    let sleeper = sleeper(&host, &[])?;
    let (user, group) = host.ids();
    for (map, id) in [("uid_map", user), ("gid_map", group)] {
        let map = words(format!("/proc/{}/{map}", sleeper.first))?;
        assert_eq!(map[..3], ["0".to_owned(), id.to_string(), "1".to_owned()]);
    }
    assert!(status(sleeper.command, "Uid")?.iter().all(|id| *id == user.to_string()));
    let rootfs = host.rootfs()?;
    host.command("02-namespaces", args![&rootfs, "/bin/touch", "/inside"])?.success()?;
    assert_eq!(fs::metadata(rootfs.join("inside"))?.uid(), user);
    Ok(())
}

fn user_has_the_ids_of_subuid(host: &Host) -> Outcome {
    let host = host.as_user();
    let sleeper = sleeper(&host, &[])?;
    let granted = fs::read_to_string("/etc/subuid")?;
    let start =
        granted.lines().find_map(|line| line.strip_prefix("learner:")?.split(':').next()).ok_or("no line")?;
    let map = words(format!("/proc/{}/uid_map", sleeper.first))?;
    assert_eq!(
        map.iter().map(String::as_str).collect::<Vec<_>>(),
        ["0", &host.ids().0.to_string(), "1", "1", start, "65536"]
    );
    let chown = host.command(
        "02-namespaces",
        args![host.rootfs()?, "/bin/sh", "-c", "touch /x && chown 7:7 /x && stat -c %u /x"],
    )?;
    assert_eq!(chown.success()?.stdout, "7\n");
    Ok(())
}

fn a_rootfs_that_cannot_be_mapped(host: &Host) -> Outcome {
    // The kernel shows no overlay's files under other ids.
    let folder = host.new_dir()?;
    for name in ["upper", "work", "merged"] {
        fs::create_dir(folder.join(name))?;
    }
    let options = format!(
        "lowerdir={},upperdir={}/upper,workdir={}/work",
        host.rootfs()?.display(),
        folder.display(),
        folder.display()
    );
    let merged = folder.join("merged");
    nix::mount::mount(
        Some("overlay"),
        &merged,
        Some("overlay"),
        nix::mount::MsFlags::empty(),
        Some(options.as_str()),
    )?;
    let runtime = started(host.spawn("02-namespaces", args![&merged, "/bin/sleep", "60"])?)?;
    assert!(
        runtime.runtime.stderr().starts_with("note: the file system of the rootfs cannot"),
        "{}",
        runtime.runtime.stderr()
    );
    assert_ne!(ns_inode(runtime.command, "user")?, ns_inode(me(), "user")?);
    assert_eq!(words(format!("/proc/{}/uid_map", runtime.first))?[..2], ["0", "0"]);
    assert_eq!(status(runtime.command, "Uid")?[0], "0");
    Ok(())
}

fn table_is_the_kernels(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &["--table", "--share", "ipc"])?;
    let table = sleeper.runtime.stderr();
    let rows: Vec<Vec<_>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), KINDS.len(), "{table}");
    for (row, kind) in rows.iter().zip(KINDS) {
        assert_eq!(row[1], ns_inode(me(), kind)?.to_string(), "{kind} of the host");
        assert_eq!(row[2], ns_inode(sleeper.command, kind)?.to_string(), "{kind} of the container");
        assert_eq!(row[3] == "shared", kind == "ipc", "{table}");
    }
    Ok(())
}

fn explain_tells_both_processes(host: &Host) -> Outcome {
    let output = host.command("02-namespaces", args!["--explain", host.rootfs()?, "/bin/true"])?.success()?;
    let place = |text: &str| output.stderr.find(text).ok_or(format!("no {text:?}: {output}"));
    let order = [
        "clone3 CLONE_NEWPID|",
        "] setresuid 0 0 0",
        "--make-rprivate /",
        "move_mount /",
        "mount proc on /proc",
        "pivot_root . .",
        "umount2 . MNT_DETACH",
        "sethostname sampan",
        "execve /bin/true",
    ];
    let places = order.map(place).into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    assert!(places.is_sorted(), "{output}");
    assert_eq!(output.stderr.matches("clone3 ").count(), 1, "told once: {output}");
    Ok(())
}

fn chroot_escape_is_stopped(host: &Host, options: &[&str]) -> Outcome {
    let output =
        host.command("02-namespaces", with(options, args![host.rootfs()?, "/kit/01-escape"]))?.success()?;
    assert!(output.stdout.starts_with("SAFE: / is still the same directory"), "{output}");
    Ok(())
}

fn hogs_are_not_stopped(host: &Host) -> Outcome {
    let output = host.command("02-namespaces", args![host.rootfs()?, "/kit/02-escape"])?.expect(1)?;
    assert_eq!(
        output.stdout,
        "RISK: a fork bomb made 200 of 200 processes\nRISK: a memory hog took 256 MiB\n"
    );
    Ok(())
}
