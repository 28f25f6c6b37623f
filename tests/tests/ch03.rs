//! Tests of chapter 3, cgroups: what its page says, asked of the kernel.

mod attack;
mod delegated;
mod hints;
mod life;
mod limits;

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{Child, Host, Need, Output, Test, ask, wait_until};

use Version::{V1, V2};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROOT: &[Need] = &[Need::Root, Need::Rootfs];
const NOTHING: [PathBuf; 0] = [];
const SOON: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    [limits::tests(), life::tests(), hints::tests(), attack::tests(), delegated::tests()].concat()
}

/// Which interface a test asks: each host has a controller on one of them alone.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    V1,
    V2,
}

/// Where the kernel has the hierarchy with this controller; for version 2 the name may be empty.
fn mount_point(version: Version, controller: &str) -> Result<PathBuf> {
    let fstype = if version == V2 { "cgroup2" } else { "cgroup" };
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let found = text.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut words = filesystem.split(' ');
        let kind = words.next()? == fstype;
        let has = version == V2 || words.nth(1)?.split(',').any(|option| option == controller);
        (kind && has).then(|| PathBuf::from(mount.split(' ').nth(4).unwrap_or_default()))
    });
    found.ok_or_else(|| format!("no {fstype} with {controller:?}").into())
}

/// The cgroup of a running 03-cgroups in the hierarchy of a controller.
fn dir(child: &Child, version: Version, controller: &str) -> Result<PathBuf> {
    Ok(mount_point(version, controller)?.join(format!("sampan/03-cgroups-{}", child.pid())))
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// The number behind a key in a file of a cgroup; 0 where the file has no such key.
fn keyed(path: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// A running 03-cgroups. It is ended gently when this is dropped: one that is killed cannot remove its cgroup.
struct Container(Child);

impl Deref for Container {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Container {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.signal(Signal::SIGTERM);
        let _ = wait_until("its end", SOON, || self.0.ended());
    }
}

impl Container {
    /// Ends it, and looks whether its cgroup is gone.
    fn end(mut self) -> Result<()> {
        let pid = self.pid();
        self.signal(Signal::SIGTERM)?;
        wait_until("its end", SOON, || self.ended())?;
        assert_eq!(left(pid), NOTHING);
        Ok(())
    }
}

/// `03-cgroups OPTIONS ROOTFS /bin/sh -c SCRIPT`, running: it has said `ready`.
fn container(host: &Host, options: &[&str], script: &str) -> Result<Container> {
    let child = host.spawn("03-cgroups", command(host, options, &format!("echo ready; {script}"))?)?;
    let mut child = Container(child);
    child.wait_for("ready\n")?;
    Ok(child)
}

/// The same, to its end: nothing of it may be left.
fn run(host: &Host, options: &[&str], script: &str) -> Result<Output> {
    let child = host.spawn("03-cgroups", command(host, options, script)?)?;
    let pid = child.pid();
    let output = child.wait()?;
    assert_eq!(left(pid), NOTHING, "{output}");
    Ok(output)
}

fn command(host: &Host, options: &[&str], script: &str) -> Result<Vec<OsString>> {
    let mut args: Vec<OsString> = options.iter().map(OsString::from).collect();
    args.push(host.rootfs()?.into());
    args.extend(["/bin/sh", "-c", script].map(OsString::from));
    Ok(args)
}

/// The process inside whose command line holds this text, as the host sees it.
fn inside(child: &Child, text: &str) -> Result<i32> {
    let mut found = None;
    wait_until(text, SOON, || {
        let all = ask::descendants(child.pid());
        found = all.into_iter().rev().find(|&pid| ask::command_line(pid).contains(text));
        found.is_some()
    })?;
    found.ok_or_else(|| format!("no process {text:?} inside").into())
}

/// What there is of a container of 03-cgroups, in every hierarchy.
fn left(pid: i32) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts =
        text.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let dirs = mounts.map(|mount| Path::new(mount).join(format!("sampan/03-cgroups-{pid}")));
    dirs.filter(|dir| dir.exists()).collect()
}
