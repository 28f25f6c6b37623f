//! The machine as a test sees it: our binaries, a root file system of its own, and a user.

use std::cell::OnceCell;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::inside::{self, Place, USER, USER_NAME};
use crate::process::{Child, Cmd, Output};
use crate::terminal::Terminal;
use crate::tree;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What a test runs its commands on. A test gets one that runs them as whoever runs the tests; [`Host::as_user`] gives one for
/// an ordinary user.
#[derive(Debug)]
pub struct Host {
    place: Place,
    user: Option<(u32, u32)>,
    rootfs: OnceCell<PathBuf>,
}

static NUMBER: AtomicU32 = AtomicU32::new(1);

impl Host {
    /// A host whose commands run as the user of this process.
    pub fn new(place: Place) -> Self {
        Self { place, user: None, rootfs: OnceCell::new() }
    }

    /// The same host for an ordinary user without privilege: uid and gid 12345, with a home, an `XDG_RUNTIME_DIR` and, in
    /// `/etc/subuid` and `/etc/subgid`, 65536 subordinate ids. If the tests are run by an ordinary user, it is that user.
    pub fn as_user(&self) -> Self {
        let user = nix::unistd::geteuid().is_root().then_some(USER);
        Self { place: self.place.clone(), user, rootfs: OnceCell::new() }
    }

    /// User and group of the commands.
    pub fn ids(&self) -> (u32, u32) {
        self.user.unwrap_or_else(inside::ourselves)
    }

    /// The folders.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// One of our binaries or examples, by name: `01-chroot`, `01-escape`, `probe`, `sampan`. The path is reachable for every
    /// user.
    pub fn bin(&self, name: &str) -> PathBuf {
        let example = self.place.bin.join("examples").join(name);
        if example.is_file() { example } else { self.place.bin.join(name) }
    }

    /// The archive of the root file system that `cargo kit setup` made.
    pub fn tar(&self) -> PathBuf {
        self.place.kit.join("busybox.tar")
    }

    /// A root file system of this host's own, with the newly built probe and attacks in `/kit`; it belongs to the user. The
    /// same at each call.
    ///
    /// # Errors
    /// Where `cargo kit setup` was not run.
    pub fn rootfs(&self) -> Result<PathBuf> {
        if let Some(path) = self.rootfs.get() {
            return Ok(path.clone());
        }
        let path = self.new_rootfs()?;
        Ok(self.rootfs.get_or_init(|| path).clone())
    }

    /// Another root file system, as [`Host::rootfs`].
    ///
    /// # Errors
    /// As there.
    pub fn new_rootfs(&self) -> Result<PathBuf> {
        let to = self.new_dir()?.join("rootfs");
        self.fill_rootfs(&to)?;
        Ok(to)
    }

    pub(crate) fn fill_rootfs(&self, to: &Path) -> Result<()> {
        let from = self.place.kit.join("rootfs");
        if !from.is_dir() {
            return Err("no root file system: run `cargo kit setup`".into());
        }
        tree::copy(&from, to, self.user)?;
        fs::create_dir_all(to.join("kit"))?;
        // What was built after the last `cargo kit setup` is newer than what that put there.
        let modified = |path: &Path| fs::metadata(path).and_then(|about| about.modified());
        let setup = modified(&self.place.kit.join(".stamp")).ok();
        let attacks = (1..=5).map(|chapter| format!("{chapter:02}-escape"));
        for name in attacks.chain(["probe".to_owned()]) {
            let built = self.bin(&name);
            if modified(&built).is_ok_and(|built| setup.is_none_or(|setup| setup < built)) {
                let inside = to.join("kit").join(&name);
                if inside.exists() {
                    fs::remove_file(&inside)?;
                }
                tree::copy(&built, &inside, self.user)?;
            }
        }
        Ok(())
    }

    /// Gives the test's network namespace what a machine has and a new namespace has not: an interface with an address and a
    /// default route (to nowhere), and `ip_forward`. An ordinary user's network helper looks for the first, and says so where
    /// there is none; the bridge looks for the second. Only for root's tests: an ordinary user's stand on the host.
    ///
    /// # Errors
    /// Where the kernel has no veth.
    pub fn uplink(&self) -> Result<()> {
        if !nix::unistd::geteuid().is_root() || Path::new("/sys/class/net/uplink").exists() {
            return Ok(());
        }
        let busybox = self.place.kit.join("rootfs/bin/busybox");
        for words in [
            "link add uplink type veth",
            "address add 192.0.2.2/24 dev uplink",
            "link set veth0 up",
            "link set uplink up",
            "route add default via 192.0.2.1",
        ] {
            let root = Self::new(self.place.clone());
            root.command(&busybox.to_string_lossy(), ["ip"].into_iter().chain(words.split(' ')))?
                .success()?;
        }
        Ok(fs::write("/proc/sys/net/ipv4/ip_forward", "1")?)
    }

    /// A new empty folder of the user's.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new_dir(&self) -> Result<PathBuf> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.place.scratch.join(format!("test-{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        if let Some((user, group)) = self.user {
            tree::give(&path, user, group)?;
        }
        Ok(path)
    }

    /// Runs one of our binaries, or a program of the host, to its end.
    ///
    /// # Errors
    /// Where it cannot be started or passes its time limit. A failure of the program is none: see [`Output::success`].
    pub fn command<A: AsRef<OsStr>>(&self, bin: &str, args: impl IntoIterator<Item = A>) -> Result<Output> {
        self.cmd(bin, args).run()
    }

    /// Starts one of our binaries, or a program of the host; it is killed when the result is dropped.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn<A: AsRef<OsStr>>(&self, bin: &str, args: impl IntoIterator<Item = A>) -> Result<Child> {
        self.cmd(bin, args).spawn()
    }

    /// Starts it on a terminal of its own, of 24 rows and 80 columns.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn terminal<A: AsRef<OsStr>>(
        &self,
        bin: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Terminal> {
        let mut command = self.prepare(bin, args);
        command.env("TERM", "xterm");
        Terminal::start(command, 24, 80)
    }

    /// Runs a command that ends in the probe (`host.probe("02-namespaces", args![host.rootfs()?, "/kit/probe"])`), and gives
    /// what the probe saw.
    ///
    /// # Errors
    /// Where the command fails, or says anything else.
    pub fn probe<A: AsRef<OsStr>>(
        &self,
        bin: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<serde_json::Value> {
        self.command(bin, args)?.success()?.json()
    }

    /// A command to put together further: variables, input, a time limit.
    pub fn cmd<A: AsRef<OsStr>>(&self, bin: &str, args: impl IntoIterator<Item = A>) -> Cmd {
        Cmd::new(self.prepare(bin, args))
    }

    fn prepare<A: AsRef<OsStr>>(&self, bin: &str, args: impl IntoIterator<Item = A>) -> Command {
        let ours = self.bin(bin);
        let mut command =
            if !bin.contains('/') && ours.is_file() { Command::new(ours) } else { Command::new(bin) };
        command.args(args).current_dir(&self.place.scratch);
        self.dress(&mut command);
        command
    }

    /// Gives a command the user and a clean environment.
    pub fn dress(&self, command: &mut Command) {
        let path = format!(
            "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            self.place.bin.display()
        );
        command.env_clear().env("PATH", path).env("TMPDIR", &self.place.scratch).env("LC_ALL", "C.UTF-8");
        let root = nix::unistd::geteuid().is_root();
        match self.user {
            Some((user, group)) => {
                command
                    .uid(user)
                    .gid(group)
                    .env("HOME", Path::new("/run/home").join(USER_NAME))
                    .env("USER", USER_NAME)
                    .env("XDG_RUNTIME_DIR", format!("/run/user/{user}"));
            }
            None if root => {
                command.env("HOME", "/run/home/root").env("USER", "root");
            }
            None => {
                for name in ["HOME", "USER", "XDG_RUNTIME_DIR"] {
                    command.envs(std::env::var_os(name).map(|value| (name, value)));
                }
            }
        }
    }
}
