//! Tests of the OCI runtime: what a `config.json` asks for, asked of the kernel.

mod attacks;
mod attributes;
mod commands;
mod exec;
mod fake_systemd;
mod features;
mod files;
mod filters;
mod fuzz;
mod hooks;
mod killed;
mod lifecycle;
mod mounts;
mod notify;
mod paths;
mod profile;
mod resources;
mod rootless;
mod roots;
mod spaces;
mod standard;
mod systemd;
mod turns;
mod words;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::process::Cmd;
use tests::{Host, Need, Output, Test, args};

const BIN: &str = "sampan-runtime";
const ROOT: &[Need] = &[Need::Root, Need::Rootfs];
const USER: &[Need] = &[Need::UserNamespaces, Need::Rootfs];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = attributes::tests();
    tests.extend(attacks::tests());
    tests.extend(fake_systemd::tests());
    tests.extend(files::tests());
    tests.extend(filters::tests());
    tests.extend(commands::tests());
    tests.extend(exec::tests());
    tests.extend(features::tests());
    tests.extend(hooks::tests());
    tests.extend(fuzz::tests());
    tests.extend(killed::tests());
    tests.extend(lifecycle::tests());
    tests.extend(mounts::tests());
    tests.extend(notify::tests());
    tests.extend(rootless::tests());
    tests.extend(roots::tests());
    tests.extend(paths::tests());
    tests.extend(spaces::tests());
    tests.extend(standard::tests());
    tests.extend(systemd::tests());
    tests.extend(turns::tests());
    tests.extend(words::tests());
    tests.extend(profile::tests());
    tests.extend(resources::tests());
    tests
}

/// A bundle, and where the runtime keeps its state.
struct Bundle<'a> {
    host: &'a Host,
    folder: PathBuf,
    state: PathBuf,
}

impl<'a> Bundle<'a> {
    /// The defaults with this command, without a terminal, and with what `edit` changes.
    fn new(host: &'a Host, command: &[&str], edit: impl FnOnce(&mut Value)) -> Result<Self> {
        let bundle = Self { host, folder: host.new_dir()?, state: host.new_dir()?.join("state") };
        bundle.rewrite(command, edit)?;
        Ok(bundle)
    }

    /// Writes the configuration anew.
    fn rewrite(&self, command: &[&str], edit: impl FnOnce(&mut Value)) -> Result<()> {
        let path = self.config();
        let _ = fs::remove_file(&path);
        self.host.command(BIN, args!["spec", "--bundle", &self.folder])?.success()?;
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(command);
        config["root"]["path"] = json!(self.host.rootfs()?);
        edit(&mut config);
        Ok(fs::write(&path, config.to_string())?)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    fn rootfs(&self) -> Result<PathBuf> {
        self.host.rootfs()
    }

    /// A command of the runtime's; the containers are called "c" and "d" (see [`id`]).
    fn cmd(&self, words: &[&str]) -> Cmd {
        let mut all = args!["--root", &self.state].to_vec();
        all.extend(
            words.iter().map(|word| if ["c", "d"].contains(word) { id(word).into() } else { (*word).into() }),
        );
        self.host.cmd(BIN, all).cwd(&self.folder)
    }

    /// The same, run to its end.
    fn call(&self, words: &[&str]) -> Result<Output> {
        self.cmd(words).run()
    }

    /// Runs the container in the foreground.
    fn run(&self) -> Result<Output> {
        self.call(&["run", "c"])
    }

    /// What `state` says.
    fn state(&self, id: &str) -> Result<Value> {
        self.call(&["state", id])?.success()?.json()
    }

    /// The container's first process.
    fn pid(&self, id: &str) -> Result<i32> {
        let pid = self.state(id)?["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        pid.ok_or_else(|| format!("no pid of {id}").into())
    }
}

/// A name that no other run of the tests has at the same time: cgroups are the machine's.
fn id(name: &str) -> String {
    format!("test-{}-{name}", std::process::id())
}

/// What the probe says in a container of the defaults with what `edit` changes.
fn probed(host: &Host, edit: impl FnOnce(&mut Value)) -> Result<Value> {
    Bundle::new(host, &["/kit/probe"], edit)?.run()?.success()?.json()
}

/// Runs a script in such a container.
fn script(host: &Host, text: &str, edit: impl FnOnce(&mut Value)) -> Result<Output> {
    Bundle::new(host, &["/bin/sh", "-c", text], edit)?.run()
}

/// A line of `/proc/PID/status`, without its name.
fn status(pid: i32, name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.ok_or_else(|| format!("no {name} of {pid}"))?.trim().to_owned())
}

/// Adds a bind mount of `source` at `target`.
fn bind(config: &mut Value, source: &Path, target: &str, options: &[&str]) {
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(json!({ "destination": target, "type": "bind", "source": source, "options": options }));
    }
}
