//! An ordinary user with a delegated subtree of version 2, as `systemd-run --user --scope -p Delegate=yes` gives one.
//!
//! On a hybrid host version 2 has few controllers; `hugetlb` serves as well as any to show that they are handed down.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown};
use tests::{Child, Host, Need, Outcome, Output, Test, ask, wait_until};

use super::{Result, SOON, V2, mount_point, read};

const NEEDS: &[Need] =
    &[Need::Root, Need::UserNamespaces, Need::Rootfs, Need::CgroupV2("hugetlb"), Need::Program("setpriv")];

const LIMIT: &str = "--hugetlb 2MB=4m";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch03::user_with_delegation_has_limits", needs: NEEDS, run: limits },
        Test { name: "ch03::user_in_a_shared_cgroup_is_told", needs: NEEDS, run: occupied },
        Test {
            name: "ch03::user_with_delegation_is_refused_what_is_on_version_1",
            needs: &[
                Need::Root,
                Need::UserNamespaces,
                Need::Rootfs,
                Need::CgroupV2("hugetlb"),
                Need::CgroupV1("memory"),
                Need::Program("setpriv"),
            ],
            run: version_1,
        },
        Test { name: "ch03::hint_controller_is_not_delegated", needs: NEEDS, run: not_delegated },
    ]
}

/// A cgroup that belongs to the user; removed, and the top put back, when it is dropped.
struct Scope {
    dir: PathBuf,
    top: PathBuf,
    shared: bool,
}

impl Scope {
    fn new(host: &Host, shared: bool) -> Result<Self> {
        let top = mount_point(V2, "")?;
        let already = read(top.join("cgroup.subtree_control"))?.contains("hugetlb");
        if shared && !already {
            fs::write(top.join("cgroup.subtree_control"), "+hugetlb")?;
        }
        let dir = top.join(format!("sampan-user-{}", std::process::id()));
        fs::create_dir(&dir)?;
        let scope = Self { dir, top, shared: shared && !already };
        let (user, group) = host.as_user().ids();
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(&scope.dir.join(file), Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        Ok(scope)
    }

    /// Starts 03-cgroups as the user, in the scope, behind `before` in a shell of root's.
    fn start(&self, host: &Host, before: &str, limit: &str, command: &str) -> Result<Child> {
        let user = host.as_user();
        let rootfs = user.rootfs()?;
        let (uid, gid) = user.ids();
        let script = format!(
            "echo 0 > {}/cgroup.procs; {before} exec setpriv --reuid {uid} --regid {gid} --clear-groups \
             03-cgroups {limit} {} /bin/sh -c '{command}'",
            self.dir.display(),
            rootfs.display()
        );
        host.spawn("sh", ["-c", &script])
    }

    fn run(&self, host: &Host, before: &str, limit: &str) -> Result<Output> {
        self.start(host, before, limit, "echo it ran")?.wait()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("cgroup.kill"), "1");
        let _ = wait_until("the scope is empty", SOON, || remove(&self.dir));
        if self.shared {
            let _ = fs::write(self.top.join("cgroup.subtree_control"), "-hugetlb");
        }
    }
}

/// Removes a cgroup and those below it, as systemd does at the end of a scope.
fn remove(dir: &Path) -> bool {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove(&entry.path());
    }
    fs::remove_dir(dir).is_ok()
}

fn limits(host: &Host) -> Outcome {
    let scope = Scope::new(host, true)?;
    let mut child = scope.start(host, "", LIMIT, "echo ready; sleep 60")?;
    child.wait_for("ready\n")?;
    let folder = scope.dir.join("sampan");
    let container = folder.join(format!("03-cgroups-{}", child.pid()));
    assert_eq!(read(container.join("hugetlb.2MB.max"))?, (4 << 20).to_string());
    let inside = ask::descendants(child.pid());
    let procs = read(container.join("cgroup.procs"))?;
    assert!(
        !inside.is_empty() && inside.iter().all(|pid| procs.lines().any(|line| line == pid.to_string())),
        "{procs}"
    );
    // The rule of no internal processes: the runtime process stands aside.
    assert_eq!(read(folder.join(format!("runtime-{}/cgroup.procs", child.pid())))?, child.pid().to_string());
    assert_eq!(read(scope.dir.join("cgroup.procs"))?, "");
    child.signal(nix::sys::signal::Signal::SIGTERM)?;
    child.wait()?.expect(143)?;
    assert!(!Path::new(&folder).exists(), "nothing is left");
    assert_eq!(read(scope.dir.join("cgroup.subtree_control"))?, "");
    Ok(())
}

fn occupied(host: &Host) -> Outcome {
    let scope = Scope::new(host, true)?;
    let output = scope.run(host, "sleep 30 & ", LIMIT)?.expect(125)?;
    assert!(output.stderr.contains("holds other processes"), "{output}");
    assert!(output.stderr.contains("systemd-run --user --scope -p Delegate=yes"), "{output}");
    assert!(!scope.dir.join("sampan").exists(), "nothing is left");
    Ok(())
}

fn not_delegated(host: &Host) -> Outcome {
    let scope = Scope::new(host, false)?;
    if read(scope.dir.join("cgroup.controllers"))?.contains("hugetlb") {
        return Ok(());
    }
    let output = scope.run(host, "", LIMIT)?.expect(125)?;
    assert!(output.stderr.contains("error: write cgroup.subtree_control"), "{output}");
    assert!(output.stderr.contains("hint: the controller is not delegated this far down"), "{output}");
    Ok(())
}

fn version_1(host: &Host) -> Outcome {
    let scope = Scope::new(host, true)?;
    let output = scope.run(host, "", "--memory 48m")?.expect(125)?;
    assert!(output.stderr.contains("only cgroup v2 can be delegated"), "{output}");
    assert_eq!(output.stdout, "", "nothing was run: {output}");
    // Without a limit it does without them, and says nothing.
    let output = scope.run(host, "", "")?.success()?;
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("it ran\n", ""));
    Ok(())
}
