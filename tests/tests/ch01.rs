//! Tests of chapter 1, chroot: what its page says, asked of the kernel.

mod archives;
mod hints;

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use tests::{Child, Host, Need, Outcome, Test, args, ns_inode, wait_until};

const ROOT: &[Need] = &[Need::Root, Need::Rootfs];
const USER: &[Need] = &[Need::UserNamespaces, Need::Rootfs];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test { name: "ch01::root_is_the_folder", needs: ROOT, run: root_is_the_folder },
        Test {
            name: "ch01::user_root_is_the_folder",
            needs: USER,
            run: |host| root_is_the_folder(&host.as_user()),
        },
        Test { name: "ch01::everything_else_is_the_hosts", needs: ROOT, run: everything_else_is_the_hosts },
        Test {
            name: "ch01::user_is_root_in_a_user_namespace_alone",
            needs: USER,
            run: user_is_root_in_a_namespace,
        },
        Test { name: "ch01::environment_is_clean", needs: ROOT, run: environment_is_clean },
        Test { name: "ch01::no_descriptor_leaks", needs: ROOT, run: no_descriptor_leaks },
        Test {
            name: "ch01::user_no_descriptor_leaks",
            needs: USER,
            run: |host| no_descriptor_leaks(&host.as_user()),
        },
        Test { name: "ch01::exit_codes_are_dockers", needs: ROOT, run: exit_codes_are_dockers },
        Test {
            name: "ch01::user_exit_codes_are_dockers",
            needs: USER,
            run: |host| exit_codes_are_dockers(&host.as_user()),
        },
        Test { name: "ch01::a_signal_reaches_the_command", needs: ROOT, run: a_signal_reaches_the_command },
        Test { name: "ch01::a_missing_rootfs_is_explained", needs: ROOT, run: a_missing_rootfs_is_explained },
        Test { name: "ch01::explain_tells_each_call", needs: ROOT, run: explain_tells_each_call },
        Test { name: "ch01::escape_succeeds", needs: ROOT, run: escape_succeeds },
        Test {
            name: "ch01::user_escape_succeeds",
            needs: USER,
            run: |host| escape_succeeds(&host.as_user()),
        },
        Test {
            name: "ch01::escape_needs_cap_sys_chroot",
            needs: &[Need::Root, Need::Rootfs, Need::Program("setpriv")],
            run: escape_needs_the_capability,
        },
    ];
    tests.extend(archives::tests());
    tests.extend(hints::tests());
    tests
}

/// A command that stays, under the new root, as soon as it runs there.
fn sleeper(host: &Host) -> Result<Child, Box<dyn Error>> {
    let child = host.spawn("01-chroot", args![host.rootfs()?, "/bin/sleep", "60"])?;
    wait_until("the command runs", Duration::from_secs(60), || {
        fs::read_to_string(format!("/proc/{}/comm", child.pid())).is_ok_and(|name| name.trim() == "sleep")
    })?;
    Ok(child)
}

fn root_is_the_folder(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let child = sleeper(host)?;
    let link = |name: &str| fs::read_link(format!("/proc/{}/{name}", child.pid()));
    assert_eq!(link("root")?, rootfs);
    assert_eq!(link("cwd")?, rootfs, "chroot alone leaves the working directory outside");
    let output = host.command("01-chroot", args![&rootfs, "/bin/ls", "/"])?.success()?;
    assert_eq!(output.stdout.lines().map(str::to_owned).collect::<BTreeSet<_>>(), names(&rootfs)?);
    Ok(())
}

fn names(folder: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn everything_else_is_the_hosts(host: &Host) -> Outcome {
    let child = sleeper(host)?;
    let me = std::process::id().cast_signed();
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        assert_eq!(ns_inode(child.pid(), kind)?, ns_inode(me, kind)?, "{kind}");
    }
    // What the notes show: routes and host name are those outside.
    let busybox = host.rootfs()?.join("bin/busybox");
    let busybox = busybox.to_string_lossy();
    host.command(&busybox, ["ip", "route", "add", "198.51.100.0/24", "dev", "lo"])?.success()?;
    host.command(&busybox, ["hostname", "outside-of-it"])?.success()?;
    let routes = host.command("01-chroot", args![host.rootfs()?, "/bin/ip", "route"])?.success()?;
    assert!(routes.stdout.contains("198.51.100.0/24"), "{routes}");
    let name = host.command("01-chroot", args![host.rootfs()?, "/bin/hostname"])?.success()?;
    assert_eq!(name.stdout, "outside-of-it\n");
    Ok(())
}

fn user_is_root_in_a_namespace(host: &Host) -> Outcome {
    let host = host.as_user();
    let child = sleeper(&host)?;
    let me = std::process::id().cast_signed();
    let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", child.pid()));
    let (user, group) = host.ids();
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(read("uid_map")?), ["0", &user.to_string(), "1"]);
    assert_eq!(words(read("gid_map")?), ["0", &group.to_string(), "1"]);
    assert_eq!(read("setgroups")?.trim(), "deny");
    assert_ne!(ns_inode(child.pid(), "user")?, ns_inode(me, "user")?);
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        assert_eq!(ns_inode(child.pid(), kind)?, ns_inode(me, kind)?, "{kind}");
    }
    let owner = read("status")?.lines().any(|line| {
        line.strip_prefix("Uid:").is_some_and(|ids| ids.split_whitespace().all(|id| id == user.to_string()))
    });
    assert!(owner, "on the host it is the user's process: {}", read("status")?);
    assert!(child.stderr().starts_with("not root: "), "it says so: {}", child.stderr());
    Ok(())
}

fn environment_is_clean(host: &Host) -> Outcome {
    let child = host.cmd("01-chroot", args![host.rootfs()?, "/bin/sleep", "60"]);
    let child =
        child.env("SECRET", "of the host").env("TERM", "xterm").env("HOME", "/run/home/root").spawn()?;
    // Each look is one read: between two, the kernel shows an empty environment while it loads the program.
    let mut environment = String::new();
    wait_until("the environment is a new one", Duration::from_secs(60), || {
        let read = fs::read(format!("/proc/{}/environ", child.pid())).unwrap_or_default();
        environment = String::from_utf8_lossy(&read).into_owned();
        !environment.is_empty() && !environment.contains("SECRET")
    })?;
    let expected =
        ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm"];
    assert_eq!(environment.trim_end_matches('\0').split('\0').collect::<Vec<_>>(), expected);
    Ok(())
}

fn no_descriptor_leaks(host: &Host) -> Outcome {
    // An open folder of the host, of which the harness makes the worst: one that exec does not close.
    let folder = File::open("/")?;
    fcntl(&folder, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let number = folder.as_raw_fd().to_string();
    let control = host.spawn("sleep", ["60"])?;
    let open = |child: &Child| names(Path::new(&format!("/proc/{}/fd", child.pid())));
    wait_until("the control has it", Duration::from_secs(60), || {
        open(&control).is_ok_and(|open| open.contains(&number))
    })?;
    let child = host.spawn("01-chroot", args!["--explain", host.rootfs()?, "/bin/sleep", "60"])?;
    wait_until("the command has three descriptors", Duration::from_secs(60), || {
        open(&child).is_ok_and(|open| open.into_iter().eq(["0", "1", "2"].map(str::to_owned)))
    })
}

fn exit_codes_are_dockers(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let code = |args: &[&str]| -> Result<i32, Box<dyn Error>> {
        let args = [&[rootfs.as_os_str()], &*args.iter().map(AsRef::as_ref).collect::<Vec<_>>()].concat();
        Ok(host.command("01-chroot", args)?.code)
    };
    fs::write(rootfs.join("text"), "no program\n")?;
    fs::set_permissions(rootfs.join("text"), fs::Permissions::from_mode(0o644))?;
    assert_eq!(code(&["/bin/true"])?, 0);
    assert_eq!(code(&["/bin/sh", "-c", "exit 3"])?, 3, "the command's own");
    assert_eq!(code(&["sh", "-c", "exit 4"])?, 4, "found in the PATH");
    assert_eq!(code(&["/bin/sh", "-c", "kill -TERM $$"])?, 128 + Signal::SIGTERM as i32);
    assert_eq!(code(&["/text"])?, 126, "cannot be run");
    assert_eq!(code(&["/bin"])?, 126, "is a folder");
    assert_eq!(code(&["/no/such"])?, 127, "not there");
    assert_eq!(code(&["nosuch"])?, 127, "not in the PATH");
    let missing = host.command("01-chroot", ["/no/such/rootfs", "/bin/true"])?;
    assert_eq!(missing.code, 125, "{missing}");
    Ok(())
}

fn a_signal_reaches_the_command(host: &Host) -> Outcome {
    // The program has become the command: there is nobody in between to pass signals on.
    let child = sleeper(host)?;
    child.signal(Signal::SIGTERM)?;
    child.wait()?.expect(128 + Signal::SIGTERM as i32)?;
    Ok(())
}

fn a_missing_rootfs_is_explained(host: &Host) -> Outcome {
    let output = host.command("01-chroot", ["no/such", "/bin/true"])?.expect(125)?;
    assert_eq!(
        output.stderr,
        "error: no directory \"no/such\" to make the root: give --tar ARCHIVE to unpack one there, or run `cargo kit setup`\n"
    );
    let file = host.new_dir()?.join("file");
    fs::write(&file, "")?;
    host.command("01-chroot", args![file, "/bin/true"])?.expect(125)?;
    Ok(())
}

fn explain_tells_each_call(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let output = host.command("01-chroot", args!["--explain", &rootfs, "/bin/true"])?.success()?;
    // A step's line begins with its number; the reason is indented.
    let steps: Vec<_> = output.stderr.lines().filter(|line| !line.starts_with("     ")).collect();
    let expected = [
        format!("chroot {}", rootfs.display()),
        "chdir /".to_owned(),
        "close_range 3 ~0 CLOSE_RANGE_CLOEXEC".to_owned(),
        "execve /bin/true".to_owned(),
    ];
    assert_eq!(steps.len(), expected.len(), "{output}");
    for (number, (step, expected)) in steps.iter().zip(&expected).enumerate() {
        assert!(step.trim_start().starts_with(&(number + 1).to_string()), "{step}");
        assert!(step.ends_with(expected), "{step}");
    }
    Ok(())
}

fn escape_succeeds(host: &Host) -> Outcome {
    let output = host.command("01-chroot", args![host.rootfs()?, "/kit/01-escape"])?.expect(1)?;
    let told = output.stdout.strip_prefix("RISK: outside; the host's / holds ").ok_or(output.to_string())?;
    assert_eq!(told.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>(), names(Path::new("/"))?);
    Ok(())
}

fn escape_needs_the_capability(host: &Host) -> Outcome {
    // The attack is stopped by the capability alone: chroot itself keeps nobody in.
    let rootfs = host.rootfs()?;
    fs::create_dir_all(rootfs.join("usr/bin"))?;
    let limited =
        host.command("setpriv", args!["--bounding-set", "-sys_chroot", rootfs.join("kit/01-escape")])?;
    assert_eq!(limited.stdout, "SAFE: the kernel refuses chroot here\n", "{limited}");
    Ok(())
}
