//! What an option asks for, asked of the kernel.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Outcome, wait_until};

use crate::peers::engine::IMAGE;
use crate::peers::{Engine, Kind, control, numbers, status};

const SOON: Duration = Duration::from_secs(60);

pub(super) fn limits(engine: &Engine<'_>) -> Outcome {
    let options = [
        "--memory",
        "64m",
        "--memory-swap",
        "64m",
        "--memory-reservation",
        "32m",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "50",
    ];
    engine.start("c1", &options, &["sleep", "100"])?;
    let read = |controller, v1, v2| control(&engine.parent, controller, v1, v2);
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max")?, ["67108864"]);
    assert_eq!(read("memory", "memory.soft_limit_in_bytes", "memory.low")?, ["33554432"]);
    assert_eq!(read("pids", "pids.max", "pids.max")?, ["50"]);
    assert_eq!(read("cpuset", "cpuset.cpus", "cpuset.cpus")?, ["0"]);
    let quota = read("cpu", "cpu.cfs_quota_us", "cpu.max")?;
    assert!(["50000", "50000 100000"].contains(&quota[0].as_str()), "{quota:?}");
    let shares = read("cpu", "cpu.shares", "cpu.weight")?;
    assert!(["512", "20"].contains(&shares[0].as_str()), "{shares:?}");
    let refused =
        engine.ok(&["exec", "c1", "/kit/probe", "spawn", "100"]).err().map(|error| error.to_string());
    assert!(
        refused.is_some_and(|said| said.contains("EAGAIN") || said.contains("\"")),
        "more than 50 processes"
    );
    let update = ["update", "--memory", "128m", "--memory-swap", "128m", "--cpus", "0.25"];
    // Podman's update has it from version 5 on.
    let more: &[&str] = if engine.kind == Kind::Docker { &["--pids-limit", "60"] } else { &[] };
    engine.ok(&[&update, more, &["c1"]].concat())?;
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max")?, ["134217728"]);
    let pids = if engine.kind == Kind::Docker { "60" } else { "50" };
    assert_eq!(read("pids", "pids.max", "pids.max")?, [pids]);
    let quota = read("cpu", "cpu.cfs_quota_us", "cpu.max")?;
    assert!(["25000", "25000 100000"].contains(&quota[0].as_str()), "{quota:?}");
    let stats = engine.ok(&["stats", "--no-stream", "c1"])?;
    // Podman tells its own limit there, which it has not updated.
    assert!(stats.contains("67.11MB") || stats.contains("128MiB"), "{stats}");
    Ok(())
}

pub(super) fn memory_ends(engine: &Engine<'_>) -> Outcome {
    let options = ["run", "--name", "c1", "--memory", "32m", "--memory-swap", "32m", IMAGE];
    let output = engine.call(&[&options[..], &["sh", "-c", "x=$(tail /dev/zero)"]].concat())?;
    assert_ne!(output.code, 0, "{output}");
    let output =
        engine.call(&[&options[..1], &["--name", "c2"], &options[3..], &["tail", "/dev/zero"]].concat())?;
    assert_eq!(output.code, 137, "{output}");
    if engine.kind == Kind::Docker {
        // Heard from the shim, which watches the cgroup. (conmon is not told of it on version 1, whichever the runtime.)
        let told = || engine.inspect("c2", "State.OOMKilled").is_ok_and(|told| told == "true");
        wait_until("it is told", SOON, told)?;
    }
    Ok(())
}

pub(super) fn confines(engine: &Engine<'_>) -> Outcome {
    let set = |seen: &Value, name: &str| seen["capabilities"][name].as_array().map_or(0, Vec::len);
    let seen = engine.probe(&[])?;
    assert!(set(&seen, "effective") > 5 && set(&seen, "ambient") == 0, "{}", seen["capabilities"]);
    assert_eq!(seen["seccomp"]["mode"], 2);
    let stdio_only = |seen: &Value| seen["descriptors"].as_array().map_or(0, Vec::len) == 3;
    assert!(stdio_only(&seen), "{}", seen["descriptors"]);
    let seen = engine.probe(&["--cap-drop", "all", "--security-opt", "no-new-privileges"])?;
    assert_eq!((set(&seen, "effective"), set(&seen, "bounding")), (0, 0));
    assert_eq!(seen["no_new_privs"], true);
    let seen = engine.probe(&["--cap-drop", "all", "--cap-add", "NET_ADMIN"])?;
    assert_eq!(seen["capabilities"]["effective"], json!(["CAP_NET_ADMIN"]));
    assert_eq!(engine.probe(&["--security-opt", "seccomp=unconfined"])?["seccomp"]["mode"], 0);
    let profile = engine.host.new_dir()?.join("seccomp.json");
    let calls = json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }]);
    let text = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": calls });
    fs::write(&profile, text.to_string())?;
    let option = format!("seccomp={}", profile.display());
    let said = engine.run(&["--security-opt", &option], &["sh", "-c", "mkdir /x 2>&1 || true"])?;
    assert!(said.contains("No space left"), "{said}");
    let write = engine.run(&["--read-only"], &["sh", "-c", "exec 2>&1; echo x >/x || true"])?;
    assert!(write.contains("Read-only"), "{write}");
    // Masked, and read-only; and neither with --privileged.
    let script = "cat /proc/kcore | wc -c; echo x 2>/dev/null >/proc/sys/kernel/hostname || echo ro; ls /proc/scsi | wc -l";
    assert_eq!(engine.run(&[], &["sh", "-c", script])?, "0\nro\n0");
    if engine.privileged()? {
        let seen = engine.probe(&["--privileged"])?;
        assert!(set(&seen, "effective") > 35 && seen["seccomp"]["mode"] == 0, "{}", seen["capabilities"]);
        engine.run(&["--privileged"], &["mount", "-t", "tmpfs", "x", "/mnt"])?;
    }
    Ok(())
}

pub(super) fn attributes(engine: &Engine<'_>) -> Outcome {
    let options = [
        "--user",
        "1000:1001",
        "--group-add",
        "55",
        "--hostname",
        "boat",
        "--workdir",
        "/tmp",
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "nproc=1000:1000",
        "--oom-score-adj",
        "500",
        "--sysctl",
        "net.ipv4.ip_default_ttl=33",
        "--sysctl",
        "kernel.shmmax=65536",
        "--env",
        "ONE=1",
    ];
    let seen = engine.probe(&options)?;
    assert_eq!((seen["uid"].as_u64(), seen["gid"].as_u64()), (Some(1000), Some(1001)));
    assert!(numbers(&seen["groups"]).contains(&55), "{}", seen["groups"]);
    assert_eq!((seen["hostname"].as_str(), seen["working_directory"].as_str()), (Some("boat"), Some("/tmp")));
    assert_eq!(seen["capabilities"]["effective"], json!([]));
    engine.start("c1", &options, &["sleep", "100"])?;
    let pid = engine.pid("c1")?;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let files = limits.lines().find(|line| line.starts_with("Max open files")).ok_or("no such limit")?;
    assert_eq!(files.split_whitespace().collect::<Vec<_>>()[3..5], ["100", "200"]);
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?.trim(), "500");
    assert_eq!(engine.ok(&["exec", "c1", "cat", "/proc/sys/net/ipv4/ip_default_ttl"])?, "33");
    assert_eq!(engine.ok(&["exec", "c1", "cat", "/proc/sys/kernel/shmmax"])?, "65536");
    assert_eq!(status(pid, "Uid")?.split('\t').next(), Some("1000"));
    let environment = tests::ask::environment(pid);
    assert!(environment.contains("ONE=1\0"), "{environment}");
    // What the runtime owes any program: a home, and descriptors that its user may open again.
    let own = ["sh", "-c", "echo $HOME >/dev/stdout"];
    assert_eq!(engine.run(&["--user", "1000"], &own)?, "/");
    // A device, and the right to use it; without it there is neither.
    let device =
        ["sh", "-c", "test -c /dev/fuse && dd if=/dev/fuse of=/dev/null count=0 2>/dev/null && echo opened"];
    if std::path::Path::new("/dev/fuse").exists() {
        assert_eq!(engine.run(&["--device", "/dev/fuse"], &device)?, "opened");
        // Forbidden by the cgroup, or by the mount: the kernel has a word for each.
        let said =
            engine.run(&["--cap-add", "MKNOD"], &["sh", "-c", "mknod /f c 10 229 && cat /f 2>&1 || true"])?;
        assert!(said.contains("not permitted") || said.contains("Permission denied"), "{said}");
    }
    if engine.kind == Kind::Podman {
        assert_eq!(engine.run(&["--umask", "0077"], &["sh", "-c", "umask"])?, "0077");
        assert_eq!(engine.run(&["--personality", "LINUX32"], &["uname", "-m"])?, "i686");
    }
    Ok(())
}

pub(super) fn mounts(engine: &Engine<'_>) -> Outcome {
    let folder = engine.host.new_dir()?;
    fs::write(folder.join("file"), "from the host")?;
    let source = folder.display();
    let (writable, readonly) = (format!("{source}:/data"), format!("{source}:/data:ro"));
    assert_eq!(
        engine.run(&["-v", &writable], &["sh", "-c", "cat /data/file; echo back >/data/new"])?,
        "from the host"
    );
    assert_eq!(fs::read_to_string(folder.join("new"))?, "back\n");
    let said = engine.run(&["-v", &readonly], &["sh", "-c", "exec 2>&1; echo x >/data/new || true"])?;
    assert!(said.contains("Read-only"), "{said}");
    let one = format!("{source}/file:/etc/one:ro");
    assert_eq!(engine.run(&["-v", &one], &["cat", "/etc/one"])?, "from the host");
    let seen = engine.probe(&["--tmpfs", "/scratch:size=1m,mode=1770", "--shm-size", "2m"])?;
    let mount = |target: &str| {
        let all = seen["mounts"].as_array().into_iter().flatten();
        all.filter(|mount| mount.to_string().contains(&format!("\"{target}\"")))
            .map(Value::to_string)
            .collect::<String>()
    };
    assert!(mount("/scratch").contains("tmpfs") && mount("/scratch").contains("size=1024k"), "{seen}");
    assert!(mount("/dev/shm").contains("size=2048k"), "{seen}");
    // A volume keeps what the image had there, and what was written.
    engine.ok(&["volume", "create", "v1"])?;
    engine.run(&["-v", "v1:/home"], &["sh", "-c", "echo kept >/home/file"])?;
    assert_eq!(engine.run(&["-v", "v1:/home"], &["cat", "/home/file"])?, "kept");
    engine.ok(&["volume", "rm", "v1"])?;
    // Propagation: what the container mounts, the host sees, where it asked for that.
    let shared = folder.join("shared");
    fs::create_dir_all(shared.join("below"))?;
    let flags = nix::mount::MsFlags::MS_BIND;
    tests::inside::mount_at(shared.to_str(), &shared, None, flags, "")?;
    tests::inside::mount_at(None, &shared, None, nix::mount::MsFlags::MS_SHARED, "")?;
    let volume = format!("{}:/shared:rshared", shared.display());
    let options = [
        "--cap-add",
        "SYS_ADMIN",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "apparmor=unconfined",
    ];
    engine.run(
        &[&options[..], &["-v", &volume]].concat(),
        &["mount", "-t", "tmpfs", "seen", "/shared/below"],
    )?;
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    assert!(text.contains("/shared/below "), "{text}");
    nix::mount::umount(&shared.join("below"))?;
    nix::mount::umount(&shared)?;
    Ok(())
}
