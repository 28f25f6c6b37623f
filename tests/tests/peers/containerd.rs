//! containerd, by its own command `ctr`: the shim that Kubernetes and Docker also use calls our runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{Child, Cmd, Host, Need, Outcome, Output, Terminal, Test, args, wait_until};

use super::engine::{IMAGE, remove_cgroups};
use super::{Result, archive, control, runtime, status};

const SOON: Duration = Duration::from_secs(60);
const CTR: &[Need] = &[Need::Root, Need::Rootfs, Need::Program("ctr"), Need::Program("containerd")];

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "peers::containerd_runs", needs: CTR, run: |host| with(host, runs) },
        Test { name: "peers::containerd_keeps_tasks", needs: CTR, run: |host| with(host, tasks) },
        Test { name: "peers::containerd_has_terminals", needs: CTR, run: |host| with(host, terminals) },
        Test { name: "peers::containerd_limits", needs: CTR, run: |host| with(host, limits) },
        Test {
            name: "peers::containerd_cleans_up_after_a_shim",
            needs: CTR,
            run: |host| with(host, shim_dies),
        },
    ]
}

/// A daemon of the test's own.
struct Containerd<'a> {
    host: &'a Host,
    folder: PathBuf,
    parent: String,
    daemon: Option<Child>,
}

fn with(host: &Host, test: fn(&Containerd<'_>) -> Outcome) -> Outcome {
    let mut containerd = Containerd::new(host)?;
    test(&containerd)?;
    containerd.end()
}

impl<'a> Containerd<'a> {
    fn new(host: &'a Host) -> Result<Self> {
        let folder = host.new_dir()?;
        let here = folder.display();
        let config = folder.join("config.toml");
        let text = format!(
            "version = 2\nroot = \"{here}/root\"\nstate = \"{here}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{here}/socket\"\n[ttrpc]\naddress = \"{here}/socket.ttrpc\"\n"
        );
        fs::write(&config, text)?;
        let mut daemon = host.cmd("containerd", args!["--config", config]).spawn()?;
        daemon.wait_for("containerd successfully booted")?;
        let parent = format!("/sampan-peers-{}", std::process::id());
        let containerd = Self { host, folder, parent, daemon: Some(daemon) };
        let archive = archive(host)?.display().to_string();
        containerd.ok(&["image", "import", "--snapshotter", "native", &archive])?;
        Ok(containerd)
    }

    fn words(&self, words: &[&str]) -> Vec<std::ffi::OsString> {
        let mut all = args!["--address", self.folder.join("socket")].to_vec();
        all.push(words[0].into());
        if words[0] == "run" {
            let runtime = runtime(self.host);
            all.extend(args!["--runtime", "io.containerd.runc.v2", "--runc-binary", runtime]);
            // The cgroup is named for the container, whose name is the last word before the command.
            all.extend(args!["--snapshotter", "native"]);
        }
        all.extend(words[1..].iter().map(Into::into));
        all
    }

    fn cmd(&self, words: &[&str]) -> Cmd {
        self.host.cmd("ctr", self.words(words)).limit(Duration::from_secs(100))
    }

    fn call(&self, words: &[&str]) -> Result<Output> {
        self.cmd(words).run()
    }

    fn ok(&self, words: &[&str]) -> Result<String> {
        Ok(self
            .call(words)?
            .success()
            .map_err(|error| format!("{words:?}: {error}"))?
            .stdout
            .trim()
            .to_owned())
    }

    fn cgroup(&self, name: &str) -> String {
        format!("{}/{name}", self.parent)
    }

    /// Runs a container to its end.
    fn run(&self, options: &[&str], name: &str, command: &[&str]) -> Result<Output> {
        let cgroup = self.cgroup(name);
        self.call(&[&["run", "--rm", "--cgroup", &cgroup], options, &[IMAGE, name], command].concat())
    }

    /// Runs one in the background.
    fn start(&self, options: &[&str], name: &str, command: &[&str]) -> Result<i32> {
        let cgroup = self.cgroup(name);
        self.ok(&[&["run", "-d", "--cgroup", &cgroup], options, &[IMAGE, name], command].concat())?;
        Ok(self.task(name)?.ok_or("no task")?.0)
    }

    fn terminal(&self, options: &[&str], name: &str, command: &[&str]) -> Result<Terminal> {
        let cgroup = self.cgroup(name);
        let words = [&["run", "--rm", "-t", "--cgroup", &cgroup], options, &[IMAGE, name], command].concat();
        self.host.terminal("ctr", self.words(&words))
    }

    /// The pid and the state that `ctr task ls` tells.
    fn task(&self, name: &str) -> Result<Option<(i32, String)>> {
        let list = self.ok(&["task", "ls"])?;
        let line = list.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let Some((pid, state)) = line.and_then(|line| line.trim().split_once(' ')) else { return Ok(None) };
        Ok(Some((pid.parse()?, state.trim().to_owned())))
    }

    fn remove(&self, name: &str) -> Outcome {
        // It may have ended by itself.
        let _ = self.call(&["task", "kill", "-s", "KILL", name])?;
        wait_until("it has stopped", SOON, || {
            self.task(name).is_ok_and(|task| task.is_none_or(|(_, state)| state == "STOPPED"))
        })?;
        let _ = self.call(&["task", "rm", name])?;
        self.ok(&["container", "rm", name]).map(drop)
    }

    fn end(&mut self) -> Outcome {
        for name in self.ok(&["container", "ls", "-q"])?.lines() {
            self.remove(name)?;
        }
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(Signal::SIGTERM)?;
            daemon.wait()?;
        }
        let folder = self.folder.display().to_string();
        wait_until("nothing is mounted any more", SOON, || {
            fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| !mounts.contains(&folder))
        })?;
        remove_cgroups(&self.parent)
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            // The test has failed already.
            let _ = self.end();
            let _ = remove_cgroups(&self.parent);
        }
    }
}

fn runs(containerd: &Containerd<'_>) -> Outcome {
    let run = |options: &[&str], name: &str, command: &[&str]| containerd.run(options, name, command);
    assert_eq!(run(&[], "c1", &["echo", "hello"])?.success()?.stdout, "hello\n");
    run(&[], "c1", &["sh", "-c", "exit 7"])?.expect(7)?;
    let nope = run(&[], "c1", &["nope"])?.expect(1)?;
    assert!(nope.stderr.contains("OCI runtime create failed"), "{nope}");
    assert!(nope.stderr.contains("executable file not found in $PATH"), "{nope}");
    containerd.ok(&["container", "rm", "c1"]).unwrap_or_default();
    let seen: Value =
        run(&["--read-only", "--cap-drop", "CAP_CHOWN", "--cwd", "/tmp"], "c2", &["/kit/probe"])?
            .success()?
            .json()?;
    let effective = seen["capabilities"]["effective"].to_string();
    assert!(effective.contains("CAP_KILL") && !effective.contains("CAP_CHOWN"), "{effective}");
    assert_eq!((seen["pid"].as_u64(), seen["working_directory"].as_str()), (Some(1), Some("/tmp")));
    let seen: Value = run(&["--net-host", "--seccomp"], "c3", &["/kit/probe"])?.success()?.json()?;
    let own = tests::ns_inode(i32::try_from(std::process::id())?, "net")?;
    assert_eq!(
        (seen["namespaces"]["network"].as_u64(), &seen["seccomp"]["mode"]),
        (Some(own), &Value::from(2))
    );
    // Others' namespaces by path.
    let pid = containerd.start(&[], "c4", &["sleep", "100"])?;
    let path = format!("network:/proc/{pid}/ns/net");
    let seen: Value = run(&["--with-ns", &path], "c5", &["/kit/probe"])?.success()?.json()?;
    assert_eq!(seen["namespaces"]["network"].as_u64(), Some(tests::ns_inode(pid, "net")?));
    let folder = containerd.host.new_dir()?;
    fs::write(folder.join("file"), "from the host")?;
    let mount = format!("type=bind,src={},dst=/data,options=rbind:ro", folder.display());
    let output =
        run(&["--mount", &mount], "c6", &["sh", "-c", "cat /data/file; touch /data/x"])?.expect(1)?;
    assert!(output.stdout == "from the host" && output.stderr.contains("Read-only"), "{output}");
    Ok(())
}

fn tasks(containerd: &Containerd<'_>) -> Outcome {
    let script = "trap 'exit 5' TERM; sleep 77 & while :; do sleep 0.05; done";
    let pid = containerd.start(&[], "c1", &["sh", "-c", script])?;
    let task = || containerd.task("c1").ok().flatten().map(|(_, state)| state).unwrap_or_default();
    assert_eq!(task(), "RUNNING");
    wait_until("both are listed", SOON, || {
        containerd
            .ok(&["task", "ps", "c1"])
            .is_ok_and(|list| list.contains(&pid.to_string()) && list.lines().count() > 2)
    })?;
    let exec = |words: &[&str]| containerd.call(&[&["task", "exec", "--exec-id", "e1"], words].concat());
    assert_eq!(
        exec(&["--user", "7:8", "--cwd", "/etc", "c1", "sh", "-c", "id -u; pwd"])?.success()?.stdout,
        "7\n/etc\n"
    );
    exec(&["c1", "sh", "-c", "exit 9"])?.expect(9)?;
    let nope = exec(&["c1", "nope"])?.expect(1)?;
    assert!(nope.stderr.contains("executable file not found in $PATH"), "{nope}");
    containerd.ok(&["task", "pause", "c1"])?;
    assert_eq!(task(), "PAUSED");
    // It is in both versions' freezers where there are both, and either holds it.
    let cgroup = containerd.cgroup("c1");
    let frozen = ["freezer{}/freezer.state", "unified{}/cgroup.freeze", ".{}/cgroup.freeze"]
        .map(|file| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file.replace("{}", &cgroup))))
        .map(|state| state.unwrap_or_default().trim().to_owned());
    assert!(frozen.iter().any(|state| state == "FROZEN" || state == "1"), "{frozen:?}");
    containerd.ok(&["task", "resume", "c1"])?;
    assert_eq!(task(), "RUNNING");
    let metrics: Value =
        serde_json::from_str(&containerd.ok(&["task", "metrics", "--format", "json", "c1"])?)?;
    assert!(metrics["pids"]["current"].as_u64() > Some(1), "{metrics}");
    containerd.ok(&["task", "kill", "-s", "TERM", "c1"])?;
    wait_until("it has stopped", SOON, || task() == "STOPPED")?;
    containerd.call(&["task", "rm", "c1"])?;
    containerd.ok(&["container", "rm", "c1"])?;
    // All processes at once, where the first one is not pid 1 of a namespace.
    let pid = containerd.start(&[], "c3", &["sleep", "100"])?;
    let namespace = format!("pid:/proc/{pid}/ns/pid");
    let pid =
        containerd.start(&["--with-ns", &namespace], "c2", &["sh", "-c", "sleep 77 & exec sleep 78"])?;
    wait_until("both are there", SOON, || {
        containerd.ok(&["task", "ps", "c2"]).is_ok_and(|list| list.lines().count() == 3)
    })?;
    let list = containerd.ok(&["task", "ps", "c2"])?;
    let mut pids =
        list.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.parse::<i32>().ok());
    let other = pids.find(|it| *it != pid).ok_or("one process only")?;
    containerd.ok(&["task", "kill", "--all", "-s", "KILL", "c2"])?;
    wait_until("all have ended", SOON, || {
        [pid, other].iter().all(|pid| tests::ask::state(*pid).is_none_or(|state| state == 'Z'))
    })?;
    Ok(())
}

fn terminals(containerd: &Containerd<'_>) -> Outcome {
    let mut terminal = containerd.terminal(&[], "c1", &["sh"])?;
    terminal.send("tty; echo in${x}side\n")?;
    let shown = terminal.expect("inside")?;
    assert!(shown.contains("/dev/pts/0"), "{shown}");
    // `ctr` tells the size after the start: the shell may be faster.
    let sized = |terminal: &mut Terminal, size: &str| {
        terminal.send("stty size\n").is_ok()
            && terminal.expect("\n").is_ok()
            && terminal.shown().contains(size)
    };
    wait_until("the first size has come", SOON, || sized(&mut terminal, "24 80"))?;
    terminal.resize(40, 100)?;
    let pid = containerd.task("c1")?.ok_or("no task")?.0;
    wait_until("the new size has come", SOON, || sized(&mut terminal, "40 100"))?;
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/0"))?, Path::new("/dev/pts/0"));
    let words = containerd.words(&["task", "exec", "-t", "--exec-id", "e1", "c1", "sh"]);
    let mut second = containerd.host.terminal("ctr", words)?;
    second.send("tty; exit 4\n")?;
    second.expect("/dev/pts/1")?;
    assert_eq!(second.wait()?, 4);
    terminal.send("exit 3\n")?;
    assert_eq!(terminal.wait()?, 3);
    Ok(())
}

fn limits(containerd: &Containerd<'_>) -> Outcome {
    let options = ["--memory-limit", "33554432", "--cpus", "0.5", "--cpu-shares", "512"];
    let pid = containerd.start(&options, "c1", &["sleep", "100"])?;
    let read = |controller, v1, v2| control(&containerd.parent, controller, v1, v2);
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max")?, ["33554432"]);
    let quota = read("cpu", "cpu.cfs_quota_us", "cpu.max")?;
    assert!(["50000", "50000 100000"].contains(&quota[0].as_str()), "{quota:?}");
    let metrics: Value =
        serde_json::from_str(&containerd.ok(&["task", "metrics", "--format", "json", "c1"])?)?;
    assert!(
        metrics["memory"]["usage"]["limit"] == 33_554_432 || metrics["memory"]["usage_limit"] == 33_554_432,
        "{metrics}"
    );
    assert_eq!(status(pid, "NoNewPrivs")?, "1");
    let events = containerd.cmd(&["events"]).spawn()?;
    // Nobody says when it has begun to listen.
    wait_until("it hears of another", SOON, || {
        let heard = || events.stdout().contains("/tasks/");
        containerd.run(&[], "c3", &["true"]).is_ok_and(|output| output.code == 0) && heard()
    })?;
    let killed = containerd.run(&options, "c2", &["tail", "/dev/zero"])?;
    assert_eq!(killed.code, 137, "{killed}");
    wait_until("the shim tells it", SOON, || events.stdout().contains("/tasks/oom"))?;
    for topic in ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"] {
        wait_until(topic, SOON, || {
            events.stdout().lines().any(|line| line.contains(topic) && line.contains("c2"))
        })
        .map_err(|error| format!("{error}: {}", events.stdout()))?;
    }
    Ok(())
}

/// Killed, the shim leaves a container that containerd removes by `delete --force`.
fn shim_dies(containerd: &Containerd<'_>) -> Outcome {
    let pid = containerd.start(&[], "c1", &["sleep", "100"])?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let shim: i32 =
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok()).ok_or("stat")?;
    assert!(tests::ask::command_line(shim).contains("containerd-shim-runc-v2"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), Signal::SIGKILL)?;
    wait_until("the container is gone", SOON, || tests::ask::state(pid).is_none_or(|state| state == 'Z'))?;
    let left =
        || Path::new("/sys/fs/cgroup/pids").join(containerd.cgroup("c1").trim_start_matches('/')).exists();
    wait_until("its cgroup, too", SOON, || !left())?;
    wait_until("so is the task", SOON, || containerd.task("c1").is_ok_and(|task| task.is_none()))
}
