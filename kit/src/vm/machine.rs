//! The virtual machine: QEMU's command line, and what goes between the guest and us.
//!
//! ```text
//!   kit                          QEMU                     guest
//!    |--- starts virtiofsd, one a folder, and QEMU --->|
//!    |<== out, err ====== socket pairs ===== virtio-serial ports <== job
//!    |<-- "up", "exit N" -------------------- port `status` <------- sampan-init
//!    |<-- its end ------------------------------------|<---- power off
//! ```
//!
//! The disk is opened as a snapshot: what the guest writes goes to a temporary file that has no name. The guest has no
//! network but its own loopback. QEMU ends when we do (`setpriv --pdeathsig`), and virtiofsd when QEMU does.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::geteuid;

use super::disk::Disk;
use super::guest::GUEST;
use super::job::Job;

/// How long a guest may take to be up; emulated on a busy machine it needs 10 to 20 seconds.
const BOOT: Duration = Duration::from_secs(180);
/// How long it may take to switch itself off.
const OFF: Duration = Duration::from_secs(20);
/// Where distributions put virtiofsd, outside of every PATH.
const VIRTIOFSD: [&str; 3] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"];

/// A machine as it was asked for.
pub(super) struct Machine {
    pub(super) disk: Disk,
    pub(super) kvm: bool,
    pub(super) systemd: bool,
    /// In MiB.
    pub(super) memory: u32,
    pub(super) processors: usize,
}

/// virtiofsd, if it is installed.
pub(super) fn virtiofsd() -> Option<PathBuf> {
    VIRTIOFSD
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .or_else(|| crate::host::program("virtiofsd"))
}

/// What the guest says of its job.
enum Word {
    Up,
    Exit(i32),
}

impl Machine {
    /// Boots, does the job, and gives its exit status. What the job writes goes to `out` and `err`.
    pub(super) fn run(
        &self,
        job: &Job,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
    ) -> Result<i32> {
        let folder = RunFolder::make()?;
        fs::write(folder.path("job"), job.script()).context("write the job")?;
        let ports = [Port::new("out")?, Port::new("err")?, Port::new("status")?];
        let mut helpers = Vec::new();
        for (tag, path) in job.tags() {
            helpers.push(share(&folder.path(&tag), path, &folder.path("virtiofsd.log"))?);
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", GUEST.qemu.0]);
        command.args(self.arguments(job, &folder.0, &ports));
        if job.terminal.is_none() {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        let log = fs::File::create(folder.path("qemu.log"))?;
        let qemu = command.stderr(log).spawn().with_context(|| format!("run {}", GUEST.qemu.0))?;
        let [out_port, err_port, status_port] = ports.map(Port::ours);
        let copies = [copy(out_port, out), copy(err_port, err)];
        let ended = watch(qemu, &words(status_port));
        for helper in &mut helpers {
            // It ends with QEMU's connection; where there was none, it still waits for that.
            let _ = helper.kill();
            let _ = helper.wait();
        }
        for copy in copies {
            let _ = copy.join();
        }
        ended.with_context(|| folder.logs())
    }

    fn arguments(&self, job: &Job, folder: &Path, ports: &[Port]) -> Vec<String> {
        let folder = folder.display();
        let mut list: Vec<String> = Vec::new();
        let mut add = |name: &str, value: String| list.extend([format!("-{name}"), value]);
        if self.kvm {
            add("accel", "kvm".into());
            add("cpu", "host".into());
        } else {
            add("accel", "tcg,thread=multi,tb-size=512".into());
            add("cpu", GUEST.processor.into());
        }
        add("machine", format!("{},memory-backend=memory", GUEST.machine));
        add("smp", self.processors.to_string());
        add("m", format!("{}M", self.memory));
        // virtiofsd reads and writes the guest's memory, which must therefore be shared.
        add("object", format!("memory-backend-memfd,id=memory,size={}M,share=on", self.memory));
        add("kernel", self.disk.kernel.display().to_string());
        add("append", self.kernel_arguments());
        // Both parts of one disk: two disks would be found in any order. Its driver is built into Debian's kernel.
        add("device", "nvme,id=disk,serial=sampan".into());
        for (number, file, snapshot) in
            [(1, self.disk.image.display().to_string(), "on"), (2, format!("{folder}/job"), "off")]
        {
            let readonly = if snapshot == "on" { "off" } else { "on" };
            add(
                "drive",
                format!(
                    "file={},format=raw,if=none,id=part{number},snapshot={snapshot},readonly={readonly},cache=unsafe",
                    escaped(&file)
                ),
            );
            add("device", format!("nvme-ns,bus=disk,drive=part{number},nsid={number}"));
        }
        for (tag, _) in job.tags() {
            add("chardev", format!("socket,id={tag},path={folder}/{tag}"));
            add("device", format!("vhost-user-fs-pci,chardev={tag},tag={tag}"));
        }
        add("device", "virtio-serial-pci".into());
        for port in ports {
            add("chardev", format!("socket,id={},fd={}", port.name, port.theirs.as_raw_fd()));
            add("device", format!("virtserialport,chardev={0},name={0}", port.name));
        }
        if job.terminal.is_some() {
            add("chardev", "stdio,id=terminal,signal=off,mux=on".into());
            add("device", "virtconsole,chardev=terminal".into());
            add("mon", "chardev=terminal,mode=readline".into());
        }
        add("serial", format!("file:{folder}/console.log"));
        for (name, value) in [("display", "none"), ("monitor", "none"), ("nic", "none")] {
            add(name, value.into());
        }
        list.extend(["-no-reboot", "-no-user-config", "-nodefaults"].map(String::from));
        list
    }

    fn kernel_arguments(&self) -> String {
        let mut words = vec![
            "root=/dev/nvme0n1 rootfstype=ext4 rw quiet panic=-1",
            GUEST.console,
            // Pure version 2; and all that its memory controller counts.
            "cgroup_no_v1=all swapaccount=1",
            "hugepages=8",
        ];
        if self.systemd {
            words.push("init=/lib/systemd/systemd systemd.unit=sampan-job.service systemd.show_status=no");
        } else {
            words.push("init=/usr/sbin/sampan-init");
        }
        words.join(" ")
    }
}

/// A comma ends an option of QEMU's, two are one.
fn escaped(path: &str) -> String {
    path.replace(',', ",,")
}

/// One of the guest's virtio-serial ports: a socket pair.
struct Port {
    name: &'static str,
    ours: UnixStream,
    theirs: OwnedFd,
}

impl Port {
    fn new(name: &'static str) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("make a socket pair")?;
        let theirs = OwnedFd::from(theirs);
        // QEMU inherits its end by number.
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(Self { name, ours, theirs })
    }

    /// Closes QEMU's end, which it has now: so ours sees QEMU's end.
    fn ours(self) -> UnixStream {
        self.ours
    }
}

/// Copies to the end. A reader that is gone does not stop the guest.
fn copy(mut from: UnixStream, mut to: impl Write + Send + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let _ = to.write_all(&buffer[..length]).and_then(|()| to.flush());
        }
    })
}

fn words(port: UnixStream) -> Receiver<Word> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(port).lines().map_while(Result::ok) {
            let word = match line.strip_prefix("exit ") {
                Some(number) => Word::Exit(number.parse().unwrap_or(125)),
                None => Word::Up,
            };
            if sender.send(word).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Waits for the guest's words, then for QEMU's end.
fn watch(mut qemu: Child, words: &Receiver<Word>) -> Result<i32> {
    let mut limit = BOOT;
    let status = loop {
        match words.recv_timeout(limit) {
            Ok(Word::Up) => limit = Duration::MAX,
            Ok(Word::Exit(status)) => break Ok(status),
            Err(RecvTimeoutError::Timeout) => break Err(format!("the guest was not up after {BOOT:?}")),
            Err(RecvTimeoutError::Disconnected) => break Err("the guest ended before its job".to_owned()),
        }
    };
    let start = Instant::now();
    while qemu.try_wait().context("wait for QEMU")?.is_none() {
        if status.is_err() || start.elapsed() > OFF {
            qemu.kill().context("kill QEMU")?;
        }
        sleep(Duration::from_millis(5));
    }
    match status {
        Ok(status) => Ok(status),
        Err(why) => bail!(why),
    }
}

/// Starts virtiofsd for a folder. It takes the listening socket as its standard input, so that QEMU can connect at once.
///
/// virtiofsd wants to be root, which an ordinary user is in a user namespace.
fn share(socket: &Path, folder: &Path, log: &Path) -> Result<Child> {
    let program = virtiofsd().context("virtiofsd is not installed")?;
    let listener = UnixListener::bind(socket).with_context(|| format!("bind {}", socket.display()))?;
    let mut command = if geteuid().is_root() {
        Command::new(program)
    } else {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount"]).arg(program);
        command
    };
    let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
    command.args(["--fd=0", "--rlimit-nofile=0", "-o", "cache=always", "-o", "sandbox=chroot", "-o"]);
    command.arg(format!("source={}", escaped(&folder.display().to_string())));
    command
        .stdin(OwnedFd::from(listener))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("run virtiofsd")
}

/// A folder for sockets and logs, whose name `cargo kit leaks` knows; removed with this.
struct RunFolder(PathBuf);

impl RunFolder {
    fn make() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("sampan-{}-vm", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The last lines of what was logged, for an error.
    fn logs(&self) -> String {
        let mut text = String::from("the virtual machine failed");
        for name in ["qemu.log", "virtiofsd.log", "console.log"] {
            let log = fs::read(self.path(name)).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(20)..] {
                text.push_str(&format!("\n  {name}: {line}"));
            }
        }
        text
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
