//! Each failure that chapter 2 has a hint for, provoked. Where no machine can be brought to it, strace gives the kernel's answer.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tests::{Host, Need, Outcome, Output, Test, args};

use super::{ROOT, Result, USER, sleeper};

const TRACED: &[Need] = &[Need::Root, Need::Rootfs, Need::Program("strace")];
const LIMITED: &[Need] = &[Need::Root, Need::Rootfs, Need::Program("setpriv")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch02::hint_share_user_as_a_user", needs: USER, run: share_user_as_a_user },
        Test {
            name: "ch02::hint_clone_in_a_chroot",
            needs: &[Need::Root, Need::Rootfs, Need::Program("chroot")],
            run: clone_in_a_chroot,
        },
        Test { name: "ch02::hint_namespaces_are_used_up", needs: ROOT, run: namespaces_are_used_up },
        Test { name: "ch02::hint_map_without_cap_setuid", needs: LIMITED, run: map_without_cap_setuid },
        Test { name: "ch02::hint_answers_of_other_kernels", needs: TRACED, run: answers_of_other_kernels },
        Test {
            name: "ch02::hint_proc_is_covered",
            needs: &[Need::Root, Need::UserNamespaces, Need::Rootfs],
            run: proc_is_covered,
        },
        Test {
            name: "ch02::hint_sys_is_covered",
            needs: &[Need::Root, Need::UserNamespaces, Need::Rootfs],
            run: sys_is_covered,
        },
        Test {
            name: "ch02::hint_directory_is_missing",
            needs: &[Need::Root, Need::UserNamespaces, Need::Rootfs],
            run: directory_is_missing,
        },
        Test { name: "ch02::hint_rootfs_is_read_only", needs: ROOT, run: rootfs_is_read_only },
        Test { name: "ch02::hint_file_for_a_directory", needs: ROOT, run: file_for_a_directory },
        Test { name: "ch02::hint_host_name_is_too_long", needs: ROOT, run: host_name_is_too_long },
        Test { name: "ch02::hint_join_without_rights", needs: LIMITED, run: join_without_rights },
        Test {
            name: "ch02::hint_join_anothers",
            needs: &[Need::Root, Need::UserNamespaces, Need::Rootfs],
            run: join_anothers,
        },
        Test { name: "ch02::a_missing_rootfs_is_explained", needs: ROOT, run: a_missing_rootfs_is_explained },
    ]
}

/// The three lines of a failure: what, why, what to do.
fn told(output: &Output, step: &str, errno: &str, advice: &str) {
    assert!(output.stderr.contains(&format!("error: {step}")), "no {step:?}: {output}");
    assert!(output.stderr.contains(&format!("caused by: {errno}: ")), "no {errno}: {output}");
    let hint = output.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_default();
    assert!(hint.contains(advice), "no {advice:?}: {output}");
    assert!(hint.contains("see the book, 02-namespaces.html#"), "{output}");
}

fn run(host: &Host, rootfs: &Path) -> Result<Output> {
    host.command("02-namespaces", args![rootfs, "/bin/true"])?.expect(125)
}

fn share_user_as_a_user(host: &Host) -> Outcome {
    let user = host.as_user();
    let output = user.command("02-namespaces", args!["--share", "user", user.rootfs()?, "/bin/true"])?;
    told(&output.expect(125)?, "clone3 ", "EPERM", "leave out `--share user`");
    Ok(())
}

fn clone_in_a_chroot(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    fs::copy(host.bin("02-namespaces"), rootfs.join("kit/02-namespaces"))?;
    let command = args!["--userspec=12345:12345", &rootfs, "/kit/02-namespaces", "/", "/bin/true"];
    let output = host.command("/usr/sbin/chroot", command)?.expect(125)?;
    told(&output, "clone3 ", "EPERM", "in a chroot");
    Ok(())
}

fn namespaces_are_used_up(host: &Host) -> Outcome {
    // The limit counts below the namespace in which it is set, so this changes nothing for the host.
    let maps =
        "read go || true; for map in uid_map gid_map; do echo 0 0 65536 > /proc/$PPID/$map || exit 1; done";
    let rootfs = host.rootfs()?;
    let mut outside = host.cmd("sh", ["-c", maps]).input_pipe().spawn()?;
    unshare(CloneFlags::CLONE_NEWUSER)?;
    drop(outside.stdin.take());
    outside.wait()?.success()?;
    fs::write("/proc/sys/user/max_user_namespaces", "0")?;
    told(&run(host, &rootfs)?, "clone3 ", "ENOSPC", "max_user_namespaces");
    Ok(())
}

fn map_without_cap_setuid(host: &Host) -> Outcome {
    let program = host.bin("02-namespaces");
    let output =
        host.command("setpriv", args!["--bounding-set", "-setuid", program, host.rootfs()?, "/bin/true"])?;
    told(&output.expect(125)?, "write uid_map ", "EPERM", "apparmor_restrict_unprivileged_userns");
    Ok(())
}

/// Injected answers: what strace is told, and what the program must say.
const ANSWERS: [(&str, &str, &str, &str); 7] = [
    ("clone3:error=EINVAL", "clone3 ", "EINVAL", "time namespaces came with Linux 5.6"),
    ("clone3:error=ENOSYS", "clone3 ", "ENOSYS", "clone3 came with Linux 5.3"),
    (
        "mount_setattr:error=EPERM:when=2",
        "mount_setattr MOUNT_ATTR_IDMAP",
        "EPERM",
        "under other ids already",
    ),
    ("mount:error=EACCES", "mount --make-rprivate /", "EACCES", "a security module"),
    ("open_tree:error=EINVAL", "open_tree ", "EINVAL", "unmount it"),
    ("fsopen:error=ENODEV", "mount proc on /proc", "ENODEV", "/proc/filesystems"),
    ("pivot_root:error=EINVAL", "pivot_root refuses: ", "EINVAL", "the reason stands above"),
];

fn answers_of_other_kernels(host: &Host) -> Outcome {
    for (answer, step, errno, advice) in ANSWERS {
        let output = traced(host, &["-e", &format!("inject={answer}")], &[])
            .map_err(|error| format!("{answer}: {error}"))?;
        told(&output, step, errno, advice);
    }
    let no_devpts = ["-P", "/dev/ptmx", "-e", "inject=?open,openat:error=ENOENT"];
    told(&traced(host, &no_devpts, &["-t"])?, "open /dev/ptmx", "ENOENT", "leave out -t");
    Ok(())
}

fn traced(host: &Host, how: &[&str], options: &[&str]) -> Result<Output> {
    let mut all: Vec<OsString> = ["-f", "-qq", "-o", "/dev/null"].iter().chain(how).map(Into::into).collect();
    all.push(host.bin("02-namespaces").into());
    all.extend(options.iter().map(Into::into));
    all.extend(args![host.rootfs()?, "/bin/true"]);
    host.command("strace", all)?.expect(125)
}

fn cover(path: &str) -> Outcome {
    Ok(mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?)
}

fn proc_is_covered(host: &Host) -> Outcome {
    // As in a container of Docker's.
    cover("/proc/sys")?;
    let user = host.as_user();
    told(&run(&user, &user.rootfs()?)?, "mount proc on /proc", "EPERM", "--share pid");
    user.command("02-namespaces", args!["--share", "pid", user.rootfs()?, "/bin/true"])?.success()?;
    Ok(())
}

fn sys_is_covered(host: &Host) -> Outcome {
    cover("/sys/kernel")?;
    let user = host.as_user();
    told(&run(&user, &user.rootfs()?)?, "mount sysfs on /sys", "EPERM", "--share network");
    user.command("02-namespaces", args!["--share", "network", user.rootfs()?, "/bin/true"])?.success()?;
    Ok(())
}

fn directory_is_missing(host: &Host) -> Outcome {
    // A rootfs that belongs to somebody else.
    let rootfs = host.rootfs()?;
    fs::remove_dir(rootfs.join("proc"))?;
    told(&run(&host.as_user(), &rootfs)?, "mount proc on /proc", "EACCES", "make it as the rootfs's owner");
    run_well(host, &rootfs)
}

fn run_well(host: &Host, rootfs: &Path) -> Outcome {
    host.command("02-namespaces", args![rootfs, "/bin/true"])?.success()?;
    assert!(rootfs.join("proc").is_dir(), "its owner has it made");
    Ok(())
}

fn rootfs_is_read_only(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    fs::remove_dir(rootfs.join("sys"))?;
    mount(Some(&rootfs), &rootfs, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &rootfs, None::<&str>, flags, None::<&str>)?;
    told(&run(host, &rootfs)?, "mount sysfs on /sys", "EROFS", "make it where it can be written to");
    Ok(())
}

fn file_for_a_directory(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    fs::remove_dir(rootfs.join("proc"))?;
    fs::write(rootfs.join("proc"), "")?;
    told(&run(host, &rootfs)?, "mount proc on /proc", "ENOTDIR", "a file where a directory must be");
    Ok(())
}

fn host_name_is_too_long(host: &Host) -> Outcome {
    let output =
        host.command("02-namespaces", args!["--hostname", "x".repeat(65), host.rootfs()?, "/bin/true"])?;
    told(&output.expect(125)?, "sethostname x", "EINVAL", "at most 64 bytes");
    Ok(())
}

fn join_without_rights(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &["--share", "user"])?;
    let program = host.bin("02-namespaces");
    let command =
        args!["--bounding-set", "-sys_admin", program, "join", sleeper.first.to_string(), "/bin/true"];
    told(&host.command("setpriv", command)?.expect(125)?, "setns ", "EPERM", "run it as root");
    Ok(())
}

fn join_anothers(host: &Host) -> Outcome {
    let sleeper = sleeper(host, &[])?;
    let output =
        host.as_user().command("02-namespaces", args!["join", sleeper.command.to_string(), "/bin/true"])?;
    told(&output.expect(125)?, "readlink ", "EACCES", "belongs to another user");
    Ok(())
}

fn a_missing_rootfs_is_explained(host: &Host) -> Outcome {
    let output = host.command("02-namespaces", ["no/such", "/bin/true"])?.expect(125)?;
    assert_eq!(
        output.stderr,
        "error: no directory \"no/such\" to make the root file system: run `cargo kit setup`, or give another\n"
    );
    Ok(())
}
