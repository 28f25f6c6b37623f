//! Tests of the engine and `sampan`: each container is looked at from outside, in `/proc`, and from inside, by the probe.

mod at_once;
mod confined;
mod limits;
mod networks;
mod streams;
mod volume_files;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::{Child, Host, Need, Outcome, Output, Test, ns_inode, wait_until};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROOT: &[Need] = &[Need::Root, Need::Overlay, Need::Rootfs, Need::Binary("sampan")];
const NET: &[Need] =
    &[Need::Root, Need::Overlay, Need::Rootfs, Need::Bridge, Need::Nftables, Need::Binary("sampan")];
const USER: &[Need] = &[Need::UserNamespaces, Need::OverlayUser, Need::Rootfs, Need::Binary("sampan")];

pub(crate) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    let own = vec![
        test("engine::import_lists_and_runs_an_image", ROOT, import_and_run),
        test("engine::every_namespace_is_its_own", ROOT, namespaces),
        test("engine::exit_statuses_are_dockers", ROOT, exit_statuses),
        test("engine::a_container_has_a_life", ROOT, life),
        test("engine::flags_reach_the_process", ROOT, flags),
        test("engine::volumes_outlive_containers_and_bind_mounts_may_be_read_only", ROOT, volumes),
        test("engine::stop_asks_and_then_kills", ROOT, stop),
        test("engine::a_killed_command_stops_no_container", ROOT, killed_command),
        test("engine::a_killed_shim_is_repaired", NET, killed_shim),
        test("engine::names_are_taken_once", ROOT, names),
        test("engine::bad_input_leaves_nothing", ROOT, bad_input),
        test("engine::a_container_does_not_change_its_image", ROOT, image_unchanged),
        test("engine::nothing_is_left_on_the_host", NET, nothing_left),
        test("engine::an_ordinary_user_runs_containers", USER, rootless),
    ];
    [
        own,
        at_once::tests(),
        confined::tests(),
        limits::tests(),
        networks::tests(),
        streams::tests(),
        volume_files::tests(),
    ]
    .concat()
}

/// A store with one image, `busybox`, and its containers, which are removed at the end.
struct Sampan<'a> {
    host: &'a Host,
    root: PathBuf,
    run: PathBuf,
}

impl<'a> Sampan<'a> {
    fn new(host: &'a Host) -> Result<Self> {
        let sampan = Self { host, root: host.new_dir()?.join("data"), run: host.new_dir()?.join("sampan") };
        sampan.ok(&["import", &host.tar().to_string_lossy(), "busybox"])?;
        Ok(sampan)
    }

    fn args(&self, args: &[&str]) -> Vec<String> {
        let roots = ["--root", &self.root.to_string_lossy(), "--run-root", &self.run.to_string_lossy()]
            .map(str::to_owned);
        roots.into_iter().chain(args.iter().map(ToString::to_string)).collect()
    }

    fn call(&self, args: &[&str]) -> Result<Output> {
        self.host.command("sampan", self.args(args))
    }

    fn ok(&self, args: &[&str]) -> Result<String> {
        Ok(self.call(args)?.success()?.stdout.trim_end().to_owned())
    }

    fn spawn(&self, args: &[&str]) -> Result<Child> {
        self.host.spawn("sampan", self.args(args))
    }

    /// The state that the store has of a container.
    fn state(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.root.join("containers").join(id).join("state.json"))?)?)
    }

    /// The container's first process, on the host.
    fn pid(&self, id: &str) -> Result<i32> {
        Ok(i32::try_from(self.state(id)?["process"]["pid"].as_i64().ok_or("no process")?)?)
    }

    fn probe(&self, args: &[&str]) -> Result<Value> {
        self.call(&[&["run", "--rm"], args, &["busybox", "/kit/probe"]].concat())?.success()?.json()
    }
}

fn import_and_run(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let layout: Value = serde_json::from_slice(&fs::read(sampan.root.join("images/oci-layout"))?)?;
    assert_eq!(layout["imageLayoutVersion"], "1.0.0");
    let images = sampan.ok(&["images"])?;
    assert!(
        images.starts_with("REPOSITORY   TAG       IMAGE ID") && images.contains("busybox      latest"),
        "{images}"
    );
    assert_eq!(sampan.ok(&["run", "--rm", "busybox:latest", "/bin/echo", "hello world"])?, "hello world");
    assert_eq!(sampan.ok(&["ps", "-aq"])?, "");
    Ok(())
}

fn namespaces(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let id = sampan.ok(&["run", "-d", "busybox", "sleep", "60"])?;
    let pid = sampan.pid(&id)?;
    let own = i32::try_from(std::process::id())?;
    for kind in ["pid", "net", "mnt", "ipc", "uts", "cgroup"] {
        assert_ne!(ns_inode(pid, kind)?, ns_inode(own, kind)?, "{kind}");
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let nspid = status.lines().find(|line| line.starts_with("NSpid:")).ok_or("no NSpid")?;
    assert!(nspid.ends_with("\t1"), "the command is pid 1 inside: {nspid}");
    let root = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let line = root.lines().find(|line| line.split(' ').nth(4) == Some("/")).ok_or("no root mount")?;
    assert!(line.contains(" - overlay "), "{line}");
    assert!(
        !fs::read_to_string("/proc/self/mountinfo")?.contains(" - overlay sampan"),
        "nothing is mounted on the host"
    );
    sampan.ok(&["rm", "-f", &id])?;
    Ok(())
}

fn exit_statuses(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let code = |command: &[&str]| -> Result<i32> {
        Ok(sampan.call(&[&["run", "--rm", "busybox"], command].concat())?.code)
    };
    assert_eq!(code(&["true"])?, 0);
    assert_eq!(code(&["sh", "-c", "exit 42"])?, 42);
    assert_eq!(code(&["no-such-command"])?, 127);
    assert_eq!(code(&["/etc"])?, 126);
    assert_eq!(code(&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"])?, 137);
    assert_eq!(sampan.call(&["run", "--rm", "no-such-image", "true"])?.code, 125);
    assert_eq!(sampan.ok(&["ps", "-aq"])?, "");
    Ok(())
}

fn life(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let id = sampan.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; trap 'exit 3' TERM; while :; do sleep 0.1; done",
    ])?;
    assert_eq!(id.len(), 64);
    wait_until("the output is logged", Duration::from_secs(60), || {
        sampan.call(&["logs", "web"]).is_ok_and(|logs| logs.stdout == "out\n" && logs.stderr == "err\n")
    })?;
    let listed = sampan.ok(&["ps"])?;
    assert!(listed.contains(&id[..12]) && listed.contains("Up ") && listed.contains("web"), "{listed}");
    assert_eq!(sampan.ok(&["exec", "web", "hostname"])?, id[..12]);
    sampan.ok(&["stop", "web"])?;
    assert!(!sampan.ok(&["ps"])?.contains("web"));
    assert!(sampan.ok(&["ps", "-a"])?.contains("Exited (3)"));
    assert_eq!(sampan.state(&id)?["exit_code"], 3);
    sampan.ok(&["start", "web"])?;
    assert!(sampan.ok(&["ps"])?.contains("web"));
    assert_eq!(sampan.call(&["rm", "web"])?.code, 1, "a running container is not removed");
    sampan.ok(&["rm", "-f", &id[..6]])?;
    assert_eq!(sampan.ok(&["ps", "-aq"])?, "");
    assert!(!sampan.root.join("containers").join(&id).exists());
    Ok(())
}

fn flags(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let run = |args: &[&str]| sampan.ok(&[&["run", "--rm"], args].concat());
    assert_eq!(run(&["-e", "A=1", "-e", "B=x y", "busybox", "sh", "-c", "echo $A $B"])?, "1 x y");
    assert_eq!(run(&["-w", "/made/here", "busybox", "pwd"])?, "/made/here");
    assert_eq!(run(&["-h", "sunxu.com", "busybox", "hostname"])?, "sunxu.com");
    assert_eq!(run(&["-u", "1000:1001", "busybox", "sh", "-c", "id -u; id -g"])?, "1000\n1001");
    assert_eq!(run(&["-u", "nobody", "busybox", "whoami"])?, "nobody");
    assert_eq!(run(&["--entrypoint", "echo", "busybox", "a"])?, "a");
    let explained = sampan.call(&["run", "--rm", "--explain", "busybox", "true"])?.success()?.stderr;
    for call in ["clone3", "overlay", "pivot_root", "seccomp", "execve"] {
        assert!(explained.contains(call), "{call} is told: {explained}");
    }
    Ok(())
}

fn volumes(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    sampan.ok(&["volume", "create", "data"])?;
    sampan.ok(&["run", "--rm", "-v", "data:/srv", "busybox", "sh", "-c", "echo kept > /srv/file"])?;
    assert_eq!(sampan.ok(&["run", "--rm", "-v", "data:/srv:ro", "busybox", "cat", "/srv/file"])?, "kept");
    assert_ne!(sampan.call(&["run", "--rm", "-v", "data:/srv:ro", "busybox", "touch", "/srv/x"])?.code, 0);
    let folder = host.new_dir()?;
    let bind = format!("{}:/mnt", folder.display());
    sampan.ok(&["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "echo host > /mnt/file"])?;
    assert_eq!(fs::read_to_string(folder.join("file"))?, "host\n");
    let id = sampan.ok(&["run", "-d", "-v", "data:/srv", "busybox", "sleep", "60"])?;
    assert_eq!(sampan.call(&["volume", "rm", "data"])?.code, 1, "it is in use");
    sampan.ok(&["rm", "-f", &id])?;
    assert!(sampan.ok(&["volume", "ls"])?.contains("data"));
    sampan.ok(&["volume", "rm", "data"])?;
    assert_eq!(sampan.ok(&["volume", "ls", "-q"])?, "");
    Ok(())
}

fn stop(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    // Pid 1 without a handler does not get SIGTERM: it must be killed.
    let id = sampan.ok(&["run", "-d", "busybox", "sleep", "60"])?;
    sampan.ok(&["stop", "-t", "1", &id])?;
    assert_eq!(sampan.state(&id)?["exit_code"], 137);
    // With an init process it gets it.
    let with_init = sampan.ok(&["run", "-d", "--init", "busybox", "sleep", "60"])?;
    sampan.ok(&["stop", "-t", "10", &with_init])?;
    assert_eq!(sampan.state(&with_init)?["exit_code"], 143);
    sampan.ok(&["rm", &id, &with_init])?;
    Ok(())
}

fn killed_command(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let command = sampan.spawn(&["run", "--name", "c1", "busybox", "sleep", "60"])?;
    wait_until("it runs", Duration::from_secs(60), || {
        sampan.ok(&["ps"]).is_ok_and(|list| list.contains("Up "))
    })?;
    command.signal(Signal::SIGKILL)?;
    std::thread::sleep(Duration::from_millis(300));
    assert!(sampan.ok(&["ps"])?.contains("Up "), "the container goes on");
    sampan.ok(&["rm", "-f", "c1"])?;
    Ok(())
}

fn killed_shim(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let id = sampan.ok(&["run", "-d", "--name", "c1", "-p", "8080:80", "busybox", "sleep", "60"])?;
    let pid = sampan.pid(&id)?;
    let shim = i32::try_from(sampan.state(&id)?["shim"]["pid"].as_i64().ok_or("no shim")?)?;
    kill(Pid::from_raw(shim), Signal::SIGKILL)?;
    wait_until("the kernel kills the container with it", Duration::from_secs(60), || {
        !PathBuf::from(format!("/proc/{pid}/root/bin")).exists()
    })?;
    assert!(sampan.ok(&["ps", "-a"])?.contains("Exited (137)"));
    sampan.ok(&["start", "c1"])?;
    sampan.ok(&["rm", "-f", "c1"])?;
    Ok(())
}

fn names(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    sampan.ok(&["run", "-d", "--name", "one", "busybox", "sleep", "60"])?;
    let second = sampan.call(&["run", "-d", "--name", "one", "busybox", "sleep", "60"])?;
    assert!(second.code == 125 && second.stderr.contains("in use"), "{second}");
    assert_eq!(sampan.ok(&["ps", "-aq"])?.lines().count(), 1);
    sampan.ok(&["rm", "-f", "one"])?;
    sampan.ok(&["run", "--rm", "--name", "one", "busybox", "true"])?;
    Ok(())
}

fn bad_input(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let cases: [&[&str]; 8] = [
        &["-e", "=x"],
        &["-h", "a b"],
        &["-v", "nowhere"],
        &["-v", "/no/such/folder:/mnt"],
        &["-p", "99999:80"],
        &["-w", "relative"],
        &["-u", "no-such-user"],
        &["--name", "../escape"],
    ];
    for case in cases {
        let output = sampan.call(&[&["run", "--rm"], case, &["busybox", "true"]].concat())?;
        assert!(output.code == 125 && output.stderr.starts_with("error: "), "{case:?}: {output}");
        assert_eq!(sampan.ok(&["ps", "-aq"])?, "", "{case:?}");
    }
    Ok(())
}

fn image_unchanged(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    sampan.ok(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "echo changed > /etc/os-release; rm /bin/ls; touch /new",
    ])?;
    assert_eq!(
        sampan
            .ok(&[
                "run",
                "--rm",
                "busybox",
                "sh",
                "-c",
                "ls /new /bin/ls 2>&1; grep -c changed /etc/os-release"
            ])
            .ok(),
        None
    );
    let shown = sampan.call(&["run", "--rm", "busybox", "ls", "/bin/ls", "/new"])?;
    assert!(shown.stdout.contains("/bin/ls") && !shown.stdout.contains("/new"), "{shown}");
    Ok(())
}

fn nothing_left(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let id = sampan.ok(&["run", "-d", "-m", "64m", "-p", "8080:80", "busybox", "sleep", "60"])?;
    sampan.ok(&["rm", "-f", &id])?;
    for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        assert!(!hierarchy.path().join("sampan").join(&id).exists(), "{}", hierarchy.path().display());
    }
    assert_eq!(fs::read_dir(sampan.root.join("containers"))?.count(), 0);
    // The bridge is kept for a moment, for a container that may follow.
    wait_until("the bridge is gone", Duration::from_secs(60), || {
        fs::read_to_string("/proc/self/net/dev").is_ok_and(|links| !links.contains("sampan"))
    })?;
    wait_until("the run folder is gone", Duration::from_secs(60), || !sampan.run.exists())?;
    assert_eq!(fs::metadata(&sampan.root)?.permissions().mode() & 0o777, 0o700);
    Ok(())
}

fn rootless(host: &Host) -> Outcome {
    let user = host.as_user();
    let sampan = Sampan::new(&user)?;
    let (uid, _) = user.ids();
    assert_eq!(sampan.ok(&["run", "--rm", "--network", "none", "busybox", "id", "-u"])?, "0");
    let id = sampan.ok(&["run", "-d", "--network", "none", "busybox", "sleep", "60"])?;
    let status = fs::read_to_string(format!("/proc/{}/status", sampan.pid(&id)?))?;
    assert!(
        status.lines().any(|line| line.starts_with(&format!("Uid:\t{uid}\t"))),
        "root inside is the user outside: {status}"
    );
    assert!(status.contains("Seccomp:\t2"));
    assert_eq!(sampan.ok(&["exec", &id, "sh", "-c", "echo x > /new; cat /new"])?, "x");
    sampan.ok(&["rm", "-f", &id])?;
    Ok(())
}
