//! The runtime's own program, and its process while it is inside.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use serde_json::json;
use tests::{Host, Outcome, Test, wait_until};

use super::super::{BIN, Bundle, ROOT, USER, id, script};

const SOON: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::attacks::own_exe_is_not_writable", needs: ROOT, run: own_exe },
        Test {
            name: "runtime::attacks::user_own_exe_is_not_writable",
            needs: USER,
            run: |host| own_exe(&host.as_user()),
        },
        Test {
            name: "runtime::attacks::an_image_runs_the_runtime",
            needs: ROOT,
            run: an_image_runs_the_runtime,
        },
        Test { name: "runtime::attacks::cwd_by_a_descriptor", needs: ROOT, run: cwd_by_a_descriptor },
        Test {
            name: "runtime::attacks::exec_in_a_cwd_by_a_descriptor",
            needs: ROOT,
            run: exec_in_a_cwd_by_a_descriptor,
        },
        Test {
            name: "runtime::attacks::no_descriptor_is_left_open",
            needs: ROOT,
            run: no_descriptor_is_left_open,
        },
        Test {
            name: "runtime::attacks::the_hosts_null_is_not_handed_in",
            needs: ROOT,
            run: the_hosts_null_is_not_handed_in,
        },
        Test { name: "runtime::attacks::the_init_process_cannot_be_traced", needs: ROOT, run: not_traced },
        Test { name: "runtime::attacks::exec_is_hunted", needs: ROOT, run: exec_is_hunted },
    ]
}

/// While the container is created its process is the runtime: what is behind its /proc/PID/exe must be read-only or sealed.
fn own_exe(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/true"], |_| {})?;
    bundle.call(&["create", "c"])?.success()?;
    let pid = bundle.pid("c")?;
    let exe = File::open(format!("/proc/{pid}/exe"))?;
    let readonly = fstatvfs(&exe)?.flags().contains(FsFlags::ST_RDONLY);
    let sealed = nix::fcntl::fcntl(&exe, nix::fcntl::FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| seals & libc::F_SEAL_WRITE != 0);
    assert!(readonly || sealed, "{:?}", fs::read_link(format!("/proc/{pid}/exe")));
    bundle.call(&["delete", "c"])?.success()?;
    Ok(())
}

/// The image's command is a script whose interpreter is the runtime itself. It runs inside, and waits for somebody to write to it.
fn an_image_runs_the_runtime(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/attack"], |_| {})?;
    let script = bundle.rootfs()?.join("attack");
    fs::write(&script, "#!/proc/self/exe\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let binary = host.bin(BIN);
    let before = fs::read(&binary)?;
    let text = "for i in 1 2 3 4 5 6 7 8 9 10; do /attack > /dev/null 2>&1; for e in /proc/[0-9]*/exe; do (echo x > $e) 2>/dev/null && echo wrote $e; done; done; echo end";
    bundle.run()?;
    let output = Bundle::new(host, &["/bin/sh", "-c", text], |_| {})?.run()?.success()?;
    assert_eq!(output.stdout, "end\n");
    assert_eq!(fs::read(&binary)?, before);
    Ok(())
}

fn cwd_by_a_descriptor(host: &Host) -> Outcome {
    for number in 3..12 {
        let path = format!("/proc/self/fd/{number}");
        let output = script(host, "ls; pwd", |config| config["process"]["cwd"] = json!(path))?;
        assert_ne!(output.code, 0, "{path}: {output:?}");
        assert!(output.stdout.is_empty(), "{path}: {output:?}");
    }
    // The same by a link in the image; and a folder that is to be made behind one.
    let rootfs = host.new_rootfs()?;
    symlink("/proc/self/fd/7", rootfs.join("job"))?;
    for cwd in ["/job", "/job/made", "/proc/self/fd/7/made", "/proc/self/cwd/made"] {
        let output = script(host, "pwd", |config| {
            config["root"]["path"] = json!(rootfs);
            config["process"]["cwd"] = json!(cwd);
        })?;
        assert_ne!(output.code, 0, "{cwd}: {output:?}");
    }
    Ok(())
}

fn exec_in_a_cwd_by_a_descriptor(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    for number in 3..12 {
        let path = format!("/proc/self/fd/{number}");
        let output = bundle.call(&["exec", "--cwd", &path, "c", "/bin/pwd"])?;
        assert_ne!(output.code, 0, "{path}: {output:?}");
        assert!(output.stdout.is_empty(), "{path}: {output:?}");
    }
    bundle.call(&["exec", "--cwd", "/tmp", "c", "/bin/pwd"])?.success()?;
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

/// Also those that the runtime's caller had open, and forgot.
fn no_descriptor_is_left_open(host: &Host) -> Outcome {
    let folder = File::open("/")?;
    // A copy that is not close-on-exec, as many programs' are.
    let leaked = nix::fcntl::fcntl(&folder, nix::fcntl::FcntlArg::F_DUPFD(50))?;
    let outcome = (|| {
        let bundle = Bundle::new(host, &["/kit/probe"], |_| {})?;
        let run = bundle.run()?.success()?.json()?;
        let sleeper = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
        sleeper.call(&["run", "--detach", "d"])?.success()?;
        let exec = sleeper.call(&["exec", "d", "/kit/probe"])?.success()?.json()?;
        sleeper.call(&["delete", "--force", "d"])?.success()?;
        let control = host.command("probe", [] as [&str; 0])?.success()?.json()?;
        Ok::<_, Box<dyn std::error::Error>>([run, exec, control])
    })();
    nix::unistd::close(leaked)?;
    let numbers = outcome?.map(|report| {
        let list = report["descriptors"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|one| one["number"].as_i64()).collect::<Vec<_>>()
    });
    assert_eq!(numbers[0], [0, 1, 2], "run");
    assert_eq!(numbers[1], [0, 1, 2], "exec");
    assert!(numbers[2].contains(&i64::from(leaked)), "the check finds nothing where one is open");
    Ok(())
}

/// A node of the test's own stands for the host's, whose mode the attack would change for everybody.
fn the_hosts_null_is_not_handed_in(host: &Host) -> Outcome {
    let null = host.new_dir()?.join("null");
    mknod(&null, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))?;
    fs::set_permissions(&null, fs::Permissions::from_mode(0o666))?;
    let mode = || fs::metadata(&null).map(|about| about.permissions().mode() & 0o777);
    let text = "chmod 0 /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; echo x; read line; true";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |_| {})?;
    let under = |command: &str| {
        let (binary, root, null) = (host.bin(BIN), bundle.state.display(), null.display());
        let text = format!("exec {} --root {root} {command} < {null} > {null} 2>&1", binary.display());
        host.cmd("sh", ["-c", &text]).cwd(&bundle.folder).run()
    };
    under(&format!("run {}", id("c")))?.success()?;
    assert_eq!(mode()?, 0o666, "run");
    bundle.rewrite(&["/bin/sleep", "100"], |_| {})?;
    under(&format!("run --detach {}", id("c")))?.success()?;
    under(&format!("exec {} /bin/sh -c '{text}'", id("c")))?.success()?;
    assert_eq!(mode()?, 0o666, "exec");
    // Where the container has put something else in the place of its own, nothing is handed in at all.
    let inside = std::path::PathBuf::from(format!("/proc/{}/root/dev/null", bundle.pid("c")?));
    for instead in ["nothing", "a FIFO", "a link"] {
        fs::remove_file(&inside).or_else(|error| if instead == "a FIFO" { Ok(()) } else { Err(error) })?;
        match instead {
            "a FIFO" => nix::unistd::mkfifo(&inside, Mode::from_bits_truncate(0o666))?,
            "a link" => symlink("/dev/zero", &inside)?,
            _ => {}
        }
        assert_ne!(under(&format!("exec {} /bin/sh -c '{text}'", id("c")))?.code, 0, "{instead}");
        assert_eq!(mode()?, 0o666, "{instead}");
    }
    bundle.call(&["delete", "--force", "c"])?.success()?;
    // Handed in by another number it is changed: the attack works where nothing is in its way.
    let text = format!(
        "exec {} --root {} run --preserve-fds 1 {} 3< {}",
        host.bin(BIN).display(),
        bundle.state.display(),
        id("c"),
        null.display()
    );
    bundle.rewrite(&["/bin/sh", "-c", "chmod 0 /proc/self/fd/3"], |_| {})?;
    host.cmd("sh", ["-c", &text]).cwd(&bundle.folder).run()?.success()?;
    assert_eq!(mode()?, 0);
    Ok(())
}

/// A container that shares another's pid namespace sees the other's init process before its exec.
fn not_traced(host: &Host) -> Outcome {
    let first = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    let child = first.cmd(&["run", "c"]).spawn()?;
    wait_until("it runs", SOON, || {
        first.pid("c").is_ok_and(|pid| tests::ask::command_line(pid).starts_with("/bin/sleep"))
    })?;
    let namespace = format!("/proc/{}/ns/pid", first.pid("c")?);
    let second = Bundle::new(host, &["/bin/true"], |config| {
        for entry in config["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
            if entry["type"] == "pid" {
                entry["path"] = json!(namespace);
            }
        }
    })?;
    second.call(&["create", "d"])?.success()?;
    let text = "for p in /proc/[0-9]*; do test $p != /proc/$$ || continue
        case $(tr '\\0' ' ' < $p/cmdline) in *create*) echo found;; *) continue;; esac
        ls -l $p/fd 2> /dev/null | grep -q -e '->' && echo fd; ls $p/root/ > /dev/null 2>&1 && echo root; cat $p/exe > /dev/null 2>&1 && echo exe
        cat $p/environ > /dev/null 2>&1 && echo environ; done; echo end";
    let output = first.call(&["exec", "c", "/bin/sh", "-c", text])?.success()?;
    assert_eq!(output.stdout, "found\nend\n", "{output:?}");
    second.call(&["delete", "d"])?.success()?;
    drop(child);
    first.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

/// Root inside, with no filter in its way, watches for the process that `exec` brings in, and takes what it can.
fn exec_is_hunted(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/kit/probe", "hunt", "2500", BIN], |config| {
        config["linux"]["seccomp"] = json!(null);
    })?;
    let (mut rounds, mut seen) = (0, 0);
    // On a busy machine one hunt may see nobody at all.
    for _ in 0..10 {
        let mut hunter = bundle.cmd(&["run", "c"]).spawn()?;
        wait_until("it runs, or has run", SOON, || {
            let runs = |pid| tests::ask::command_line(pid).starts_with("/kit/probe");
            bundle.pid("c").is_ok_and(runs) || hunter.ended()
        })?;
        while bundle.call(&["exec", "c", "/bin/true"])?.code == 0 {
            rounds += 1;
        }
        let found = hunter.wait()?.expect(1)?.json()?;
        assert_eq!(found["taken"], json!([]), "{rounds} rounds");
        seen = found["seen"].as_u64().unwrap_or_default();
        if seen > 0 {
            break;
        }
    }
    assert!(seen > 0, "nobody was seen in {rounds} rounds");
    // Somebody of the same name who is not marked is taken.
    let text = format!(
        "cp /kit/probe /tmp/{BIN}; /tmp/{BIN} hunt 4000 nobody > /dev/null & exec /kit/probe hunt 2000 {BIN}"
    );
    let control = script(host, &text, |config| config["linux"]["seccomp"] = json!(null))?;
    assert!(control.stdout.contains("\"trace\""), "{control:?}");
    Ok(())
}
