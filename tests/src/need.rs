//! What a test needs of the machine, asked by trying it.
//!
//! A need is tried in the place of the test itself, as the user who will need it; what changes the process that tries it is
//! tried in a process of its own (this program with `--try NAME`).

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::host::Host;
use crate::kernel;

/// The machine's message bus; a test's own `/run` covers it at its usual place.
const SYSTEM_BUS: &str = "/proc/1/root/run/dbus/system_bus_socket";

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// The tests are run by root.
    Root,
    /// An ordinary user can make a user namespace that has rights.
    UserNamespaces,
    /// The kernel has this namespace: its name in `/proc/self/ns`.
    Namespace(&'static str),
    /// Root can mount overlay.
    Overlay,
    /// An ordinary user can mount overlay with `userxattr` in a user namespace.
    OverlayUser,
    /// This controller is on a version 1 hierarchy that we can write.
    CgroupV1(&'static str),
    /// This controller is on the version 2 hierarchy, and we can write there.
    CgroupV2(&'static str),
    /// This controller is on either.
    Cgroup(&'static str),
    /// The first process is systemd, and answers on the system's message bus.
    Systemd,
    /// This security module is switched on: `apparmor`, `selinux`.
    Security(&'static str),
    /// The kernel has nf_tables.
    Nftables,
    /// The kernel has bridges.
    Bridge,
    /// `newuidmap` and `newgidmap` are installed, and the ordinary user has subordinate ids.
    SubordinateIds,
    /// This program is in the host's `PATH`.
    Program(&'static str),
    /// `/dev/net/tun` can be opened by everybody.
    Tun0666,
    /// This binary of ours was built.
    Binary(&'static str),
    /// `cargo kit setup` was run.
    Rootfs,
    /// Somebody who waits: `cargo kit test --quick` sets `KIT_QUICK`.
    Patience,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::UserNamespaces => f.write_str("user_namespaces"),
            Self::Namespace(kind) => write!(f, "namespace:{kind}"),
            Self::Overlay => f.write_str("overlay"),
            Self::OverlayUser => f.write_str("overlay_user"),
            Self::CgroupV1(controller) => write!(f, "cgroup_v1:{controller}"),
            Self::CgroupV2(controller) => write!(f, "cgroup_v2:{controller}"),
            Self::Cgroup(controller) => write!(f, "cgroup:{controller}"),
            Self::Systemd => f.write_str("systemd"),
            Self::Security(module) => write!(f, "security:{module}"),
            Self::Nftables => f.write_str("nftables"),
            Self::Bridge => f.write_str("bridge"),
            Self::SubordinateIds => f.write_str("subordinate_ids"),
            Self::Program(name) => write!(f, "program:{name}"),
            Self::Tun0666 => f.write_str("tun"),
            Self::Binary(name) => write!(f, "binary:{name}"),
            Self::Rootfs => f.write_str("rootfs"),
            Self::Patience => f.write_str("patience"),
        }
    }
}

impl Need {
    /// Reads a need as it is printed.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        // A need is made once a run, and lives as long.
        let rest = || -> &'static str { Box::leak(rest.to_owned().into_boxed_str()) };
        Some(match kind {
            "root" => Self::Root,
            "user_namespaces" => Self::UserNamespaces,
            "namespace" => Self::Namespace(rest()),
            "overlay" => Self::Overlay,
            "overlay_user" => Self::OverlayUser,
            "cgroup_v1" => Self::CgroupV1(rest()),
            "cgroup_v2" => Self::CgroupV2(rest()),
            "cgroup" => Self::Cgroup(rest()),
            "systemd" => Self::Systemd,
            "security" => Self::Security(rest()),
            "nftables" => Self::Nftables,
            "bridge" => Self::Bridge,
            "subordinate_ids" => Self::SubordinateIds,
            "program" => Self::Program(rest()),
            "tun" => Self::Tun0666,
            "binary" => Self::Binary(rest()),
            "rootfs" => Self::Rootfs,
            "patience" => Self::Patience,
            _ => return None,
        })
    }

    /// Why the machine does not have it; none where it has.
    pub fn missing(self, host: &Host) -> Option<String> {
        let root = geteuid().is_root();
        let because = |reason: &str| Some(reason.to_owned());
        let errno = |outcome: nix::Result<()>| outcome.err().map(|errno| errno.to_string());
        match self {
            Self::Root if !root => because("the tests are not run by root"),
            Self::Root => None,
            Self::UserNamespaces => attempt("user-namespace", &host.as_user()),
            Self::Namespace(kind) if Path::new("/proc/self/ns").join(kind).exists() => None,
            Self::Namespace(_) => because("the kernel has no such namespace"),
            Self::Overlay if !root => because("mounting it needs root"),
            Self::Overlay => attempt("overlay", host),
            Self::OverlayUser => attempt("overlay-user", &host.as_user()),
            Self::CgroupV1(controller) => cgroup(false, controller),
            Self::CgroupV2(controller) => cgroup(true, controller),
            Self::Cgroup(controller) => {
                cgroup(true, controller).and_then(|reason| cgroup(false, controller).map(|_| reason))
            }
            Self::Systemd
                if !fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "systemd") =>
            {
                because("the first process is not systemd")
            }
            Self::Systemd if !Path::new(SYSTEM_BUS).exists() => because("there is no message bus"),
            Self::Systemd => None,
            Self::Security(module) => {
                let files = ["/sys/module/apparmor/parameters/enabled", "/sys/fs/selinux/enforce"];
                let on = files.iter().any(|file| file.contains(module) && Path::new(file).exists());
                (!on).then(|| format!("{module} is not enabled"))
            }
            Self::Nftables if !root => because("a network namespace of its own needs root"),
            Self::Nftables => errno(kernel::nftables_works()),
            Self::Bridge if !root => because("a network namespace of its own needs root"),
            Self::Bridge => errno(kernel::bridge_works()),
            Self::SubordinateIds => Self::Program("newuidmap")
                .missing(host)
                .or_else(|| Self::Program("newgidmap").missing(host))
                .or_else(|| {
                    (!has_subordinate_ids(host)).then(|| "the user has none in /etc/subuid".to_owned())
                }),
            Self::Program(name) if in_path(name) => None,
            Self::Program(name) => Some(format!("{name} is not installed")),
            Self::Tun0666 => match fs::metadata("/dev/net/tun") {
                Ok(about) if about.permissions().mode() & 0o666 == 0o666 => None,
                Ok(_) => because("/dev/net/tun is not for everybody"),
                Err(error) => Some(format!("/dev/net/tun: {error}")),
            },
            Self::Binary(name) if host.bin(name).exists() => None,
            Self::Binary(name) => Some(format!("{name} is not built")),
            Self::Rootfs if host.place().kit.join("rootfs/bin/busybox").exists() => None,
            Self::Patience if std::env::var_os("KIT_QUICK").is_none() => None,
            Self::Patience => because("it takes long, and KIT_QUICK is set"),
            Self::Rootfs => because("no root file system: run `cargo kit setup`"),
        }
    }

    /// Whether a skip for this need counts as a failure: `KIT_REQUIRE` names it, and `KIT_ALLOW_SKIP` does not.
    pub fn required(self) -> bool {
        let list = |variable| std::env::var(variable).unwrap_or_default();
        self.listed(&list("KIT_REQUIRE")) && !self.listed(&list("KIT_ALLOW_SKIP"))
    }

    /// `all`, the whole name (`cgroup_v2:memory`), or the part before the colon.
    fn listed(self, list: &str) -> bool {
        let name = self.to_string();
        let short = name.split(':').next().unwrap_or_default();
        list.split(',').map(str::trim).any(|item| item == "all" || item == name || item == short)
    }
}

/// By name or by number: see subuid(5).
fn has_subordinate_ids(host: &Host) -> bool {
    let id = host.as_user().ids().0.to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(id.as_str())).then(|| name.to_owned())
    });
    let listed = fs::read_to_string("/etc/subuid").unwrap_or_default();
    listed
        .lines()
        .filter_map(|line| line.split(':').next())
        .any(|user| user == id || name.as_deref() == Some(user))
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
        || Path::new("/usr/sbin").join(program).exists()
}

/// Tries in a process of its own, as the host's user, and gives what it said when it failed.
fn attempt(what: &str, host: &Host) -> Option<String> {
    let this = std::env::current_exe().ok()?;
    // By an open file: the user may not be able to reach the path.
    let file = fs::File::open(this).ok()?;
    use std::os::fd::AsRawFd;
    let fd = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD(200)).ok()?;
    drop(file);
    let mut command = Command::new(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    command.args(["--try", what]).stdin(Stdio::null()).current_dir("/");
    host.dress(&mut command);
    match command.output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// What `--try NAME` does.
///
/// # Errors
/// Why the kernel refuses.
pub fn try_here(what: &str) -> Result<(), String> {
    let told = |call: &str, outcome: nix::Result<()>| outcome.map_err(|errno| format!("{call}: {errno}"));
    let (user, group) = (geteuid(), getegid());
    if what != "overlay" {
        told("unshare user namespace", unshare(CloneFlags::CLONE_NEWUSER))?;
        for (file, text) in [
            ("setgroups", "deny".into()),
            ("uid_map", format!("0 {user} 1")),
            ("gid_map", format!("0 {group} 1")),
        ] {
            fs::write(format!("/proc/self/{file}"), text).map_err(|error| format!("{file}: {error}"))?;
        }
    }
    told("unshare mount namespace", unshare(CloneFlags::CLONE_NEWNS))?;
    if what == "user-namespace" {
        return Ok(());
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    told("mount", mount(None::<&str>, "/", None::<&str>, private, None::<&str>))?;
    let folder = std::env::temp_dir();
    told("mount tmpfs", mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), None::<&str>))?;
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(folder.join(name)).map_err(|error| error.to_string())?;
    }
    let here = folder.display();
    let userxattr = if what == "overlay" { "" } else { ",userxattr" };
    let data = format!("lowerdir={here}/lower,upperdir={here}/upper,workdir={here}/work{userxattr}");
    told(
        "mount overlay",
        mount(
            Some("overlay"),
            &folder.join("merged"),
            Some("overlay"),
            MsFlags::empty(),
            Some(data.as_str()),
        ),
    )
}

/// Where mountinfo says that the controller is, and whether we can make a cgroup there.
fn cgroup(unified: bool, controller: &str) -> Option<String> {
    let version = if unified { "cgroup2" } else { "cgroup" };
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mount_point = left.split(' ').nth(4)?;
        let mut right = right.split(' ');
        let kind = right.next()?;
        let options = right.nth(1)?;
        let has = if unified {
            let list = fs::read_to_string(Path::new(mount_point).join("cgroup.controllers")).ok()?;
            controller.is_empty() || list.split_whitespace().any(|name| name == controller)
        } else {
            options.split(',').any(|option| option == controller)
        };
        (kind == version && has).then(|| mount_point.to_owned())
    });
    let writable = |path: &String| nix::unistd::access(path.as_str(), nix::unistd::AccessFlags::W_OK).is_ok();
    match found {
        Some(path) if writable(&path) => None,
        Some(path) => Some(format!("{path} is not ours to write")),
        None => Some(format!("this machine has no {version} with the controller {controller}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_a_need_whole_or_by_its_kind() {
        let need = Need::CgroupV2("memory");
        assert!(need.listed("all"));
        assert!(need.listed("root, cgroup_v2"));
        assert!(need.listed("cgroup_v2:memory"));
        assert!(!need.listed("cgroup_v2:cpu"));
        assert!(!need.listed(""));
    }

    #[test]
    fn a_need_is_read_as_it_is_printed() {
        for need in
            [Need::Root, Need::Cgroup("pids"), Need::Program("pasta"), Need::Namespace("time"), Need::Tun0666]
        {
            assert_eq!(Need::parse(&need.to_string()), Some(need));
        }
        assert_eq!(Need::parse("moon"), None);
    }
}
