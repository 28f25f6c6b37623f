//! An engine of the test's own, and what may be left of it at the end: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{Child, Cmd, Host, Outcome, Output, Terminal, args, wait_until};

use super::{Result, archive, runtime};

/// The image that every engine is given.
pub(crate) const IMAGE: &str = "localhost/sampan/test:latest";
const LIMIT: Duration = Duration::from_secs(100);

/// Whose engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Podman,
    Docker,
}

/// Podman, or Docker with its daemon.
pub(crate) struct Engine<'a> {
    pub(crate) kind: Kind,
    pub(crate) host: &'a Host,
    /// The cgroup that all its containers are below.
    pub(crate) parent: String,
    folder: PathBuf,
    daemon: Option<Child>,
    mounts: BTreeSet<String>,
}

impl<'a> Engine<'a> {
    /// A fresh engine with our image, and no container.
    pub(crate) fn new(host: &'a Host, kind: Kind) -> Result<Self> {
        Self::with(host, kind, &json!({}))
    }

    /// The same with more settings of the Docker daemon.
    pub(crate) fn with(host: &'a Host, kind: Kind, settings: &Value) -> Result<Self> {
        Host::new(host.place().clone()).uplink()?;
        let parent = format!("/sampan-peers-{}", std::process::id());
        let folder = host.new_dir()?;
        let mut engine = Self { kind, host, parent, folder, daemon: None, mounts: BTreeSet::new() };
        engine.configure(settings)?;
        if kind == Kind::Docker {
            engine.start_daemon()?;
        }
        let archive = archive(host)?;
        engine.call(&["load", "-q", "-i", &archive.to_string_lossy()])?.success()?;
        engine.ok(&["ps", "-a"])?;
        engine.mounts = mounts()?;
        Ok(engine)
    }

    /// Files of limits are lower than the engines' defaults, which a machine may refuse.
    fn configure(&self, more: &Value) -> Outcome {
        let runtime = runtime(self.host);
        if self.kind == Kind::Podman {
            let text = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                 [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
                 init_path = \"/usr/bin/tini-static\"\n";
            return Ok(fs::write(self.folder.join("containers.conf"), text)?);
        }
        let mut settings = json!({
            "data-root": self.folder.join("data"),
            "exec-root": self.folder.join("exec"),
            "pidfile": self.folder.join("pid"),
            "hosts": [self.socket()],
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": self.parent,
            "runtimes": { "peer": { "path": runtime } },
            "default-runtime": "peer",
            "default-ulimits": { "nofile": { "Name": "nofile", "Hard": 1024, "Soft": 1024 } },
            "bip": "172.30.7.1/24",
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            settings[name] = value.clone();
        }
        Ok(fs::write(self.folder.join("daemon.json"), settings.to_string())?)
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }

    /// Starts the Docker daemon, and waits until it answers.
    pub(crate) fn start_daemon(&mut self) -> Outcome {
        let config = self.folder.join("daemon.json");
        let daemon = self.host.cmd("dockerd", args!["--config-file", config]).limit(LIMIT).spawn()?;
        let daemon = self.daemon.insert(daemon);
        let said = |daemon: &Child| daemon.stderr();
        daemon.wait_for("API listen on").map_err(|_| said(daemon).into())
    }

    /// Ends the daemon as `signal` says, and waits for it. Its containers may go on.
    pub(crate) fn stop_daemon(&mut self, signal: Signal) -> Outcome {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(signal)?;
            daemon.wait()?;
        }
        Ok(())
    }

    /// What the daemon has complained of.
    fn log(&self) -> String {
        let said = self.daemon.as_ref().map(Child::stderr).unwrap_or_default();
        let worse: Vec<_> = said.lines().filter(|line| line.contains("level=error")).collect();
        worse.join("\n")
    }

    /// The whole command, with what makes this engine the test's own.
    fn words(&self, words: &[&str]) -> (&'static str, Vec<std::ffi::OsString>) {
        let mut all = Vec::new();
        let program = match self.kind {
            Kind::Docker => {
                all.extend(args!["--host", self.socket()]);
                "/usr/bin/docker"
            }
            Kind::Podman => {
                let folder = |name| self.folder.join(name);
                all.extend(args!["--root", folder("root"), "--runroot", folder("run")]);
                all.extend(args!["--tmpdir", folder("tmp"), "--runtime", runtime(self.host)]);
                all.extend(args!["--storage-driver", "vfs", "--network-config-dir", folder("networks")]);
                "/usr/bin/podman"
            }
        };
        let (verb, rest) = words.split_at(if words[0] == "pod" { 2 } else { 1 });
        all.extend(verb.iter().map(Into::into));
        let makes = matches!(words[0], "run" | "create") || words.starts_with(&["pod", "create"]);
        // By root: no version 1 cgroup is an ordinary user's.
        if makes && self.kind == Kind::Podman && self.host.ids().0 == 0 {
            all.extend(args!["--cgroup-parent", &self.parent]);
        }
        all.extend(rest.iter().map(Into::into));
        (program, all)
    }

    /// A command of the engine's.
    pub(crate) fn cmd(&self, words: &[&str]) -> Cmd {
        let (program, all) = self.words(words);
        let config = self.folder.join("containers.conf");
        self.host.cmd(program, all).env("CONTAINERS_CONF", config).limit(LIMIT)
    }

    /// The same on a terminal.
    pub(crate) fn terminal(&self, words: &[&str]) -> Result<Terminal> {
        let (program, all) = self.words(words);
        let config = format!("CONTAINERS_CONF={}", self.folder.join("containers.conf").display());
        self.host.terminal("env", args![config, program].into_iter().chain(all))
    }

    pub(crate) fn call(&self, words: &[&str]) -> Result<Output> {
        self.cmd(words).run()
    }

    /// What a command writes that must succeed.
    pub(crate) fn ok(&self, words: &[&str]) -> Result<String> {
        let output = self.call(words)?;
        if output.code == 0 {
            return Ok(output.stdout.trim().to_owned());
        }
        Err(format!("{words:?}: {output}\n{}", self.log()).into())
    }

    /// What a container with these options writes.
    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> Result<String> {
        self.ok(&[&["run", "--rm"], options, &[IMAGE], command].concat())
    }

    /// Starts a container of this name in the background.
    pub(crate) fn start(&self, name: &str, options: &[&str], command: &[&str]) -> Outcome {
        self.ok(&[&["run", "-d", "--name", name], options, &[IMAGE], command].concat()).map(drop)
    }

    /// What the probe sees in a container with these options.
    pub(crate) fn probe(&self, options: &[&str]) -> Result<Value> {
        let said = self.run(options, &["/kit/probe"])?;
        serde_json::from_str(&said).map_err(|error| format!("no JSON ({error}): {said}").into())
    }

    /// A field of what the engine knows of a container.
    pub(crate) fn inspect(&self, name: &str, field: &str) -> Result<String> {
        self.ok(&["inspect", "-f", &format!("{{{{.{field}}}}}"), name])
    }

    /// Whether `--privileged` can be had: Docker asks for all capabilities, also those that the machine has taken from us all.
    pub(crate) fn privileged(&self) -> Result<bool> {
        let last: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?.trim().parse()?;
        let bounding = super::status(i32::try_from(std::process::id())?, "CapBnd")?;
        Ok(self.kind == Kind::Podman || u64::from_str_radix(&bounding, 16)? == (2 << last) - 1)
    }

    /// The container's first process.
    pub(crate) fn pid(&self, name: &str) -> Result<i32> {
        Ok(self.inspect(name, "State.Pid")?.parse()?)
    }

    /// Removes all containers, ends the daemon, and looks at what is left.
    ///
    /// # Errors
    /// What is left.
    pub(crate) fn end(mut self) -> Outcome {
        let ids = self.ok(&["ps", "-aq"])?;
        for id in ids.lines() {
            self.ok(&["rm", "-f", id])?;
        }
        // A mount namespace ends a moment after its last process.
        let left = || Ok::<_, Box<dyn std::error::Error>>(&mounts()? - &self.mounts);
        let gone = wait_until("", Duration::from_secs(60), || left().is_ok_and(|left| left.is_empty()));
        gone.map_err(|_| format!("mounts are left: {:#?}", left()))?;
        // Docker's files there are empty, and removed some time later: a mount it would be.
        let names =
            || fs::read_dir("/run/netns").into_iter().flatten().flatten().map(|entry| entry.file_name());
        let gone = wait_until("", Duration::from_secs(60), || names().next().is_none());
        gone.map_err(|_| format!("network namespaces are left: {:?}", names().collect::<Vec<_>>()))?;
        self.stop_daemon(Signal::SIGTERM)?;
        if self.kind == Kind::Podman && self.host.ids().0 != 0 {
            // Ends the process that keeps the user's namespaces.
            self.ok(&["system", "migrate"])?;
        }
        remove_cgroups(&self.parent)
    }
}

impl Drop for Engine<'_> {
    /// Where the test has failed, nobody has called [`Engine::end`]. After it there is nothing to do here.
    fn drop(&mut self) {
        if Path::new("/sys/fs/cgroup/pids").join(self.parent.trim_start_matches('/')).is_dir()
            || self.daemon.is_some()
        {
            eprintln!("{}", self.log());
            if let Ok(ids) = self.ok(&["ps", "-aq"]) {
                for id in ids.lines() {
                    // The test has failed already.
                    let _ = self.ok(&["rm", "-f", id]);
                }
            }
            let _ = self.stop_daemon(Signal::SIGTERM);
            let _ = remove_cgroups(&self.parent);
        }
    }
}

/// What is mounted in the test's namespace.
fn mounts() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let targets = text.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned));
    // What is in it is looked at by itself.
    Ok(targets.filter(|target| target != "/run/netns" && !target.ends_with("/netns/default")).collect())
}

/// Removes the engine's parent cgroup in each hierarchy. That it is empty is the runtime's work; only what the engines make
/// themselves may still be below it.
///
/// # Errors
/// What is left of a container.
pub(crate) fn remove_cgroups(parent: &str) -> Outcome {
    let name = parent.trim_start_matches('/');
    let mut left = Vec::new();
    let hierarchies = fs::read_dir("/sys/fs/cgroup")?.flatten().map(|entry| entry.path());
    for root in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let top = root.join(name);
        if !top.is_dir() {
            continue;
        }
        let folders = |path: &Path| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        let containers = || {
            let all = folders(&top).into_iter();
            all.flat_map(|folder| if folder.ends_with("conmon") { folders(&folder) } else { vec![folder] })
                .collect::<Vec<_>>()
        };
        // Podman cleans up after a container that has ended by itself in a process of its own.
        let _ = wait_until("", Duration::from_secs(20), || containers().is_empty());
        for folder in containers() {
            left.push(folder.display().to_string());
            let _ = fs::remove_dir(folder);
        }
        // conmon ends a moment after its container.
        let gone = wait_until("", Duration::from_secs(60), || {
            let _ = fs::remove_dir(top.join("conmon"));
            fs::remove_dir(&top).is_ok() || !top.exists()
        });
        gone.map_err(|_| format!("{} cannot be removed", top.display()))?;
    }
    if left.is_empty() { Ok(()) } else { Err(format!("cgroups are left: {left:#?}").into()) }
}
