//! Known escapes from containers, tried against the runtime. The public descriptions are those of the CVE records.

use std::fs;
use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, fstatvfs};
use serde_json::json;
use tests::{Host, Outcome, Test, wait_until};

use super::{Bundle, ROOT, USER, script};

const SOON: Duration = Duration::from_secs(10);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::cve_2019_5736_own_exe_is_not_writable", needs: ROOT, run: own_exe },
        Test {
            name: "runtime::user_cve_2019_5736_own_exe_is_not_writable",
            needs: USER,
            run: |host| own_exe(&host.as_user()),
        },
        Test {
            name: "runtime::cve_2019_5736_exec_of_proc_self_exe",
            needs: ROOT,
            run: exec_of_proc_self_exe,
        },
        Test { name: "runtime::cve_2024_21626_cwd_by_a_descriptor", needs: ROOT, run: cwd_by_a_descriptor },
        Test { name: "runtime::cve_2025_31133_dev_null_is_a_link", needs: ROOT, run: dev_null_is_a_link },
        Test { name: "runtime::the_init_process_cannot_be_traced", needs: ROOT, run: not_traced },
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
fn exec_of_proc_self_exe(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/attack"], |_| {})?;
    let script = bundle.rootfs()?.join("attack");
    fs::write(&script, "#!/proc/self/exe\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let binary = host.bin(super::BIN);
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
    // The same by a link in the image.
    let rootfs = host.new_rootfs()?;
    symlink("/proc/self/fd/7", rootfs.join("work"))?;
    let output = script(host, "pwd", |config| {
        config["root"]["path"] = json!(rootfs);
        config["process"]["cwd"] = json!("/work");
    })?;
    assert_ne!(output.code, 0, "{output:?}");
    Ok(())
}

/// Without a /dev of its own the image decides what /dev/null is: it must not be what files are masked with.
fn dev_null_is_a_link(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    let dev = rootfs.join("dev");
    let _ = fs::remove_dir_all(&dev);
    fs::create_dir(&dev)?;
    symlink("/proc/sys/kernel/core_pattern", dev.join("null"))?;
    let output = script(host, "cat /proc/keys", |config| {
        config["root"]["path"] = json!(rootfs);
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts
                .retain(|mount| !mount["destination"].as_str().is_some_and(|path| path.starts_with("/dev")));
        }
    })?;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("/dev/null is not the device 1:3"), "{output:?}");
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
