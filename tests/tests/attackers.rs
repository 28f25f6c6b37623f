//! Known ways out of a container, each tried in each chapter's and in the engine's.
//!
//! The table says where an attack succeeds (RISK) and from which chapter on it does not (SAFE): both are tested, for a page
//! that promises an escape which does not work is as wrong as a wall that does not hold. No attack does harm when it
//! succeeds: files are opened for writing and not written, and what dies or is renamed is the test's own.

use std::error::Error;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::time::Duration;

use tests::ask::command_line;
use tests::{Case, Child, Host, Need, Outcome, args, wait_until};

/// Whose container is attacked, in the order of the table's columns.
const TARGETS: [&str; 6] = ["01-chroot", "02-namespaces", "03-cgroups", "04-unionfs", "05-network", "sampan"];

/// A way out, as a shell script that is run inside and says RISK or SAFE.
struct Attack {
    name: &'static str,
    script: &'static str,
    /// For root, and for an ordinary user: one letter a target, `R`isk, `S`afe, or `-` where there is nothing to try.
    root: &'static str,
    user: &'static str,
}

/// Sets `P` to a mounted proc file system, if there is a way to one.
const PROC: &str = "P=/proc; [ -e $P/self ] || { mount -t proc proc /mnt && P=/mnt; } 2>/dev/null\n";

const ATTACKS: &[Attack] = &[
    Attack { name: "walk_out", script: "exec /kit/01-escape", root: "RSSSSS", user: "RSSSSS" },
    Attack { name: "use_up_the_machine", script: "exec /kit/02-escape", root: "RRSSSS", user: "RR----" },
    Attack { name: "lift_the_limits", script: "exec /kit/03-escape", root: "-SSSSS", user: "-S----" },
    Attack {
        name: "see_the_hosts_processes",
        script: "[ -e $P/$VICTIM/cmdline ] && grep -q sleep $P/$VICTIM/cmdline",
        root: "RSSSSS",
        user: "-SSSSS",
    },
    Attack { name: "signal_a_process", script: "kill -0 $VICTIM", root: "RSSSSS", user: "RSSSSS" },
    Attack {
        name: "have_the_host_run_a_program",
        script: ": >> $P/sys/kernel/core_pattern",
        root: "RSSSSS",
        user: "SSSSSS",
    },
    Attack {
        name: "read_the_hosts_disk",
        script: "mknod /tmp/disk $DISK && dd if=/tmp/disk of=/dev/null bs=8192 count=1",
        root: "RSSSSS",
        user: "SSSSSS",
    },
    Attack {
        name: "rename_the_host",
        script: "hostname renamed && [ -n \"$OUTSIDE\" ]",
        root: "RSSSSS",
        user: "SSSSSS",
    },
    Attack {
        name: "find_the_hosts_abstract_sockets",
        script: "grep -q @sampan-attacked $P/net/unix",
        root: "RSSSSS",
        user: "-SSSSS",
    },
    Attack {
        name: "connect_to_the_hosts_loopback",
        script: "nc -w 2 127.0.0.1 $PORT -e /bin/true",
        root: "RSSSSS",
        user: "RSSSSS",
    },
    // CVE-2019-5736: what runs the container is a file of the host's.
    Attack {
        name: "overwrite_the_runtime",
        script: "for exe in $P/1/exe $P/self/exe; do case $(readlink $exe) in */bin/busybox) ;; *) : >> $exe && exit 0 ;; esac; done; false",
        root: "-SSSSS",
        user: "-SSSSS",
    },
    // CVE-2024-21626: a folder of the host's, left open or as the working directory.
    Attack {
        name: "use_an_open_folder",
        script: "for fd in $P/self/fd/*; do [ -d $fd/. ] && exit 0; done; [ \"$(readlink $P/self/cwd)\" != / ]",
        root: "-SSSSS",
        user: "-SSSSS",
    },
    // A script cannot tell whether it wrote to a layer of its own: the host looks.
    Attack {
        name: "change_the_image",
        script: "echo evil > /etc/evil; false",
        root: "RRRSSS",
        user: "RRRSSS",
    },
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for attack in ATTACKS {
        for (who, verdicts) in [("root", attack.root), ("user", attack.user)] {
            for (target, verdict) in TARGETS.into_iter().zip(verdicts.chars()) {
                if verdict != '-' {
                    cases.push(case(attack, target, who == "user", verdict == 'R'));
                }
            }
        }
    }
    cases
}

fn case(attack: &'static Attack, target: &'static str, user: bool, risk: bool) -> Case {
    let mut needs = vec![Need::Rootfs, Need::Binary(target)];
    let by = if user { "user" } else { "root" };
    let number = TARGETS.iter().position(|name| *name == target).unwrap_or_default();
    needs.push(if user { Need::UserNamespaces } else { Need::Root });
    if number >= 3 {
        needs.push(if user { Need::OverlayUser } else { Need::Overlay });
    }
    if number >= 2 && !user {
        needs.extend([Need::Cgroup("memory"), Need::Cgroup("pids")]);
    }
    if number >= 4 && !user {
        needs.extend([Need::Nftables, Need::Bridge]);
    }
    let run = move |host: &Host| {
        let host = if user { host.as_user() } else { Host::new(host.place().clone()) };
        attack_it(&host, attack, target, user, risk)
    };
    Case { name: format!("attackers::{}::{target}::{by}", attack.name), needs, run: Box::new(run) }
}

fn attack_it(host: &Host, attack: &Attack, target: &str, user: bool, risk: bool) -> Outcome {
    let scene = Scene::new(host)?;
    let script = format!(
        "VICTIM={} PORT={} DISK='{}' OUTSIDE={}\n{PROC}({}) 2>/dev/null",
        scene.victim.pid(),
        scene.listener.local_addr()?.port(),
        scene.disk,
        if target == "01-chroot" { "yes" } else { "''" },
        attack.script,
    );
    // An attack program says it itself; of a script the exit status does.
    let script = if attack.script.starts_with("exec /kit/") {
        format!("{script}; true")
    } else {
        format!("{script} && echo RISK || echo SAFE")
    };
    let output = host.cmd(target, scene.arguments(host, target, user, &script)?).run()?;
    let said_risk = output.stdout.contains("RISK");
    let harmed = scene.harmed(host, target)?;
    if !said_risk && !output.stdout.contains("SAFE") {
        return Err(format!("the attack could not be tried: {output}").into());
    }
    match (risk, said_risk || harmed) {
        (true, true) | (false, false) => Ok(()),
        (true, false) => Err(format!("the book promises RISK here: {output}").into()),
        (false, true) => Err(format!("it got out: {output}").into()),
    }
}

/// What there is to attack.
struct Scene {
    victim: Child,
    listener: TcpListener,
    _socket: UnixListener,
    disk: String,
    rootfs: PathBuf,
    folder: PathBuf,
    host_name: String,
}

impl Scene {
    fn new(host: &Host) -> Result<Self, Box<dyn Error>> {
        host.uplink()?;
        let address = SocketAddr::from_abstract_name("sampan-attacked")?;
        let victim = host.spawn("sleep", ["60"])?;
        wait_until("the victim runs", Duration::from_secs(60), || command_line(victim.pid()) == "sleep 60")?;
        Ok(Self {
            victim,
            listener: TcpListener::bind("127.0.0.1:0")?,
            _socket: UnixListener::bind_addr(&address)?,
            disk: disk(),
            rootfs: host.rootfs()?,
            folder: host.new_dir()?,
            host_name: host_name()?,
        })
    }

    /// The options with which the target is as closed as its chapter can make it.
    fn arguments(
        &self,
        host: &Host,
        target: &str,
        user: bool,
        script: &str,
    ) -> Result<Vec<std::ffi::OsString>, Box<dyn Error>> {
        let layer = self.folder.join("layer");
        fs::create_dir_all(&layer)?;
        let limits: &[&str] = match target {
            "03-cgroups" | "04-unionfs" | "05-network" if !user => &["--memory", "64m", "--pids", "64"],
            "sampan" if !user => &["--memory", "64m", "--pids-limit", "64"],
            _ => &[],
        };
        let options = match target {
            "04-unionfs" => args!["--layer", &self.rootfs].to_vec(),
            "05-network" => args!["--layer", layer, &self.rootfs].to_vec(),
            "sampan" => {
                host.command("sampan", args!["import", host.tar(), "attacked"])?.success()?;
                args!["attacked"].to_vec()
            }
            _ => args![&self.rootfs].to_vec(),
        };
        let start: &[&str] = if target == "sampan" { &["run", "--rm"] } else { &[] };
        let inside = ["/bin/sh", "-c", script];
        let words = |words: &[&str]| words.iter().map(Into::into).collect::<Vec<std::ffi::OsString>>();
        Ok([words(start), words(limits), options, words(&inside)].concat())
    }

    /// Whether something of the host's has changed, or what the next container starts from.
    fn harmed(&self, host: &Host, target: &str) -> Result<bool, Box<dyn Error>> {
        let image = match target {
            "sampan" => host.command(target, ["run", "--rm", "attacked", "/bin/ls", "/etc/evil"])?.code == 0,
            _ => self.rootfs.join("etc/evil").exists(),
        };
        Ok(image || host_name()? != self.host_name)
    }
}

/// The first disk, as mknod(1) wants it, that root may read on this machine at all; without one, the kernel's log.
fn disk() -> String {
    let disks = fs::read_to_string("/proc/partitions").unwrap_or_default();
    let found = disks.lines().skip(2).find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [major, minor, _, name] = words[..] else { return None };
        File::open(format!("/dev/{name}")).ok().map(|_| format!("b {major} {minor}"))
    });
    found.unwrap_or_else(|| "c 1 11".to_owned())
}

fn host_name() -> Result<String, Box<dyn Error>> {
    Ok(fs::read_to_string("/proc/sys/kernel/hostname")?)
}
