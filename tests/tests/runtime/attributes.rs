//! What the container's process is: capabilities, filter, user, limits, directory; and that a second process is the same.

use std::fs;

use serde_json::json;
use tests::{Host, Need, Outcome, Test, ns_inode, wait_until};

use super::{Bundle, ROOT, USER, probed, script, status};

const SOON: std::time::Duration = std::time::Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::defaults_are_dockers", needs: ROOT, run: defaults_are_dockers },
        Test {
            name: "runtime::user_defaults_are_dockers",
            needs: USER,
            run: |host| defaults_are_dockers(&host.as_user()),
        },
        Test { name: "runtime::the_filter_refuses", needs: ROOT, run: the_filter_refuses },
        Test {
            name: "runtime::user_the_filter_refuses",
            needs: USER,
            run: |host| the_filter_refuses(&host.as_user()),
        },
        Test { name: "runtime::no_new_privileges", needs: ROOT, run: no_new_privileges },
        Test { name: "runtime::nothing_leaks_in", needs: ROOT, run: nothing_leaks_in },
        Test { name: "runtime::process_is_as_configured", needs: ROOT, run: process_is_as_configured },
        Test { name: "runtime::the_callers_umask_is_not_inherited", needs: ROOT, run: umask },
        Test { name: "runtime::an_ordinary_user_has_no_capabilities", needs: ROOT, run: ordinary_user },
        Test { name: "runtime::ambient_capabilities_reach_an_ordinary_user", needs: ROOT, run: ambient },
        Test {
            name: "runtime::capabilities_that_cannot_be_are_told",
            needs: ROOT,
            run: capabilities_that_cannot_be,
        },
        Test {
            name: "runtime::exec_is_confined_like_the_first",
            needs: ROOT,
            run: exec_is_confined_like_the_first,
        },
        Test {
            name: "runtime::user_exec_is_confined_like_the_first",
            needs: USER,
            run: |host| exec_is_confined_like_the_first(&host.as_user()),
        },
        Test {
            name: "runtime::limits_are_the_cgroups",
            needs: &[Need::Root, Need::Rootfs, Need::Cgroup("memory"), Need::Cgroup("pids")],
            run: limits_are_the_cgroups,
        },
        Test {
            name: "runtime::a_terminal_is_the_containers",
            needs: ROOT,
            run: a_terminal_is_the_containers,
        },
    ]
}

/// Docker's fourteen, as the kernel shows them.
const FOURTEEN: &str = "00000000a80425fb";

fn defaults_are_dockers(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/kit/probe", "session"], |_| {})?;
    let child = bundle.cmd(&["run", "c"]).input_pipe().spawn()?;
    wait_until("it runs", SOON, || {
        bundle.state("c").is_ok_and(|state| state["status"] == "running") && runs_probe(&bundle)
    })?;
    let pid = bundle.pid("c")?;
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        assert_eq!(status(pid, set)?, FOURTEEN, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(pid, set)?, "0000000000000000", "{set}");
    }
    assert_eq!(status(pid, "Seccomp")?, "2");
    assert_eq!(status(pid, "NoNewPrivs")?, "0");
    let own = i32::try_from(std::process::id())?;
    for kind in ["pid", "net", "mnt", "ipc", "uts", "cgroup"] {
        assert_ne!(ns_inode(pid, kind)?, ns_inode(own, kind)?, "{kind}");
    }
    drop(child);
    wait_until("the container goes with its runtime", SOON, || {
        fs::read(format!("/proc/{pid}/status")).is_err()
    })?;
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn runs_probe(bundle: &Bundle<'_>) -> bool {
    bundle.pid("c").is_ok_and(|pid| tests::ask::command_line(pid).starts_with("/kit/probe"))
}

/// unshare(CLONE_NEWUSER) is everybody's right, so that the kernel itself would allow it: EPERM is the filter's word.
fn the_filter_refuses(host: &Host) -> Outcome {
    let refused =
        Bundle::new(host, &["/kit/probe", "syscall", "unshare"], |_| {})?.run()?.expect(1)?.json()?;
    assert_eq!((&refused["refused"], &refused["error"]), (&json!(true), &json!("EPERM")));
    let allowed = Bundle::new(host, &["/kit/probe", "syscall", "unshare"], |config| {
        config["linux"]["seccomp"] = serde_json::Value::Null;
    })?;
    assert_eq!(allowed.run()?.success()?.json()?["refused"], json!(false));
    Ok(())
}

fn no_new_privileges(host: &Host) -> Outcome {
    let seen = probed(host, |config| config["process"]["noNewPrivileges"] = json!(true))?;
    assert_eq!((&seen["no_new_privs"], &seen["seccomp"]["mode"]), (&json!(true), &json!(2)));
    Ok(())
}

fn nothing_leaks_in(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/kit/probe"], |_| {})?;
    let mut shell = host.cmd(
        "/bin/sh",
        ["-c", "exec 7</etc/passwd 8</ 9>/dev/null; export SECRET=x; exec \"$0\" --root \"$1\" run \"$2\""],
    );
    shell = shell.arg(host.bin(super::BIN)).arg(&bundle.state).arg(super::id("c")).cwd(&bundle.folder);
    let seen = shell.run()?.success()?.json()?;
    let numbers: Vec<_> =
        seen["descriptors"].as_array().into_iter().flatten().map(|fd| fd["number"].clone()).collect();
    assert_eq!(numbers, [0, 1, 2], "{}", seen["descriptors"]);
    assert_eq!(seen["environment"], json!(["PATH", "TERM", "container", "HOME"]));
    Ok(())
}

fn process_is_as_configured(host: &Host) -> Outcome {
    let text = "umask; pwd; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; id -u; id -g; id -G; echo $A; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward; hostname; ls -ld /new/work";
    let output = script(host, text, |config| {
        config["process"]["user"] =
            json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o27 });
        config["process"]["cwd"] = json!("/new/work");
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
        config["process"]["oomScoreAdj"] = json!(77);
        config["process"]["env"] = json!(["PATH=/bin", "A=b"]);
        config["domainname"] = json!("nis");
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    })?
    .success()?;
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(
        lines[..12],
        ["0027", "/new/work", "100", "200", "77", "1000", "1001", "1001 7 8", "b", "nis", "1", "sampan"]
    );
    assert!(lines[12].starts_with("drwxr-xr-x"), "{}", lines[12]);
    Ok(())
}

fn umask(host: &Host) -> Outcome {
    let text = "umask; stat -c %a /mnt/a /mnt/a/deep /dev/null";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
        config["root"]["path"] = json!(host.new_rootfs().unwrap_or_default());
        super::bind(config, std::path::Path::new("/etc/hostname"), "/mnt/a/deep/file", &["bind"]);
    })?;
    let shell = host.cmd("/bin/sh", ["-c", "umask 077; exec \"$0\" --root \"$1\" run \"$2\""]);
    let shell = shell.arg(host.bin(super::BIN)).arg(&bundle.state).arg(super::id("c")).cwd(&bundle.folder);
    assert_eq!(shell.run()?.success()?.stdout, "0022\n755\n755\n666\n");
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    let shell =
        host.cmd("/bin/sh", ["-c", "umask 077; exec \"$0\" --root \"$1\" exec \"$2\" /bin/sh -c umask"]);
    let shell = shell.arg(host.bin(super::BIN)).arg(&bundle.state).arg(super::id("c")).cwd(&bundle.folder);
    assert_eq!(shell.run()?.success()?.stdout, "0022\n");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn ordinary_user(host: &Host) -> Outcome {
    let seen = probed(host, |config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }))?;
    assert_eq!((&seen["uid"], &seen["gid"], &seen["groups"]), (&json!(1000), &json!(1000), &json!([])));
    assert_eq!(
        (&seen["capabilities"]["effective"], &seen["capabilities"]["permitted"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(seen["capabilities"]["bounding"].as_array().map(Vec::len), Some(14));
    Ok(())
}

fn ambient(host: &Host) -> Outcome {
    let seen = probed(host, |config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        let one = json!(["CAP_NET_BIND_SERVICE"]);
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            config["process"]["capabilities"][set] = one.clone();
        }
    })?;
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(seen["capabilities"][set], json!(["CAP_NET_BIND_SERVICE"]), "{set}");
    }
    Ok(())
}

/// A warning, and the container runs with the others.
fn capabilities_that_cannot_be(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/kit/probe"], |config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] =
                json!(["CAP_KILL", "CAP_TIME_TRAVEL", "CAP_SYS_RESOURCE"]);
        }
    })?;
    let own = status(std::process::id().cast_signed(), "CapPrm")?;
    let output = bundle.run()?.success()?;
    assert!(
        output.stderr.contains("warning: process.capabilities: CAP_TIME_TRAVEL is not known"),
        "{output:?}"
    );
    let lacks = u64::from_str_radix(&own, 16)? & 1 << 24 == 0;
    assert_eq!(output.stderr.contains("sys_resource cannot be given"), lacks, "{output:?}");
    let seen: serde_json::Value = output.json()?;
    let expected = if lacks { json!(["CAP_KILL"]) } else { json!(["CAP_KILL", "CAP_SYS_RESOURCE"]) };
    assert_eq!(seen["capabilities"]["permitted"], expected);
    assert_eq!(seen["capabilities"]["effective"], expected);
    Ok(())
}

/// Both processes are looked at from outside, line by line.
fn exec_is_confined_like_the_first(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |config| {
        config["process"]["noNewPrivileges"] = json!(true);
        config["process"]["oomScoreAdj"] = json!(55);
    })?;
    let first = bundle.cmd(&["run", "c"]).spawn()?;
    wait_until("it runs", SOON, || {
        bundle.pid("c").is_ok_and(|pid| tests::ask::command_line(pid).starts_with("/bin/sleep"))
    })?;
    let pid = bundle.pid("c")?;
    let second = bundle.cmd(&["exec", "c", "/bin/sleep", "4711"]).spawn()?;
    let find = || {
        tests::ask::descendants(second.pid())
            .into_iter()
            .find(|pid| tests::ask::command_line(*pid).starts_with("/bin/sleep"))
    };
    wait_until("exec runs", SOON, || find().is_some())?;
    let other = find().ok_or("it is gone")?;
    for line in [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "Seccomp",
        "Seccomp_filters",
        "NoNewPrivs",
        "Uid",
        "Gid",
        "Groups",
    ] {
        assert_eq!(status(other, line)?, status(pid, line)?, "{line}");
    }
    for kind in ["pid", "net", "mnt", "ipc", "uts", "cgroup", "user"] {
        assert_eq!(ns_inode(other, kind)?, ns_inode(pid, kind)?, "{kind}");
    }
    for file in ["cgroup", "oom_score_adj"] {
        let read = |pid: i32| fs::read_to_string(format!("/proc/{pid}/{file}"));
        assert_eq!(read(other)?, read(pid)?, "{file}");
    }
    drop(second);
    wait_until("what exec started goes with it", SOON, || {
        !std::path::Path::new(&format!("/proc/{other}")).exists()
    })?;
    drop(first);
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn limits_are_the_cgroups(host: &Host) -> Outcome {
    let seen = probed(host, |config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 17 });
    })?;
    let limits = &seen["limits"];
    let memory = limits.get("memory.max").or(limits.get("memory.limit_in_bytes"));
    assert_eq!((memory, &limits["pids.max"]), (Some(&json!("67108864")), &json!("17")), "{limits}");
    Ok(())
}

fn a_terminal_is_the_containers(host: &Host) -> Outcome {
    let bundle = Bundle::new(
        host,
        &["/bin/sh", "-c", "tty; stty size; ls -l /dev/console; test -c /dev/console && echo console; cat"],
        |config| {
            config["process"]["terminal"] = json!(true);
        },
    )?;
    let arguments = tests::args!["--root", &bundle.state, "run", "--bundle", &bundle.folder, super::id("c")];
    let mut terminal = host.terminal(super::BIN, arguments)?;
    terminal.expect("/dev/pts/0")?;
    terminal.expect("24 80")?;
    terminal.expect("console")?;
    terminal.send("\x04")?;
    assert_eq!(terminal.wait()?, 0);
    Ok(())
}
