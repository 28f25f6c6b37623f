//! `cargo kit vm`: a virtual machine with nothing but cgroup version 2, for a machine that has version 1.
//!
//! A small Debian with its cloud kernel, in QEMU; this repository is there at the same path, and what was built here runs
//! there, for every program of ours is static. Nothing is installed on this machine, and no root is needed.
//!
//! In reading order: [`guest`], [`packages`], [`disk`], [`mod@job`], [`mod@machine`], [`suite`]; and guest/init.sh, the guest's first process.

mod disk;
mod guest;
mod job;
mod machine;
mod packages;
pub(crate) mod suite;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{host, place, setup};
use guest::GUEST;
use job::Job;
use machine::Machine;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Run a command, or a shell, in a virtual machine that has cgroup version 2 alone
///
/// The repository lies there at the same path, and the programs that `cargo kit setup` built are on its PATH. What is written
/// there is gone when it ends. The exit status is the command's. On a terminal, Ctrl-A X ends the machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo kit vm -- cat /sys/fs/cgroup/cgroup.controllers")]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
    /// Do not run Cargo: take the programs as they lie beside this one
    #[arg(long)]
    built: bool,
    /// The command; a shell if there is none
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What the machine is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Let the processor run the guest (KVM) instead of emulating one: faster, where the machine allows it
    #[arg(long)]
    kvm: bool,
    /// Boot with systemd as the first process
    #[arg(long)]
    systemd: bool,
    /// Debian's package with the kernel
    #[arg(long, value_name = "PACKAGE", default_value = GUEST.kernel)]
    kernel: String,
    /// Make the disk anew, of the packages that Debian has now
    #[arg(long)]
    anew: bool,
    /// The guest's memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
}

impl Options {
    pub(crate) fn with_systemd(&self) -> Self {
        Self { systemd: true, ..self.clone() }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let machine = machine(&args.options)?;
    setup::make(&setup::Args { built: args.built, ..setup::Args::default() })?;
    let terminal = (io::stdin().is_terminal() && io::stdout().is_terminal()).then(terminal_size);
    let mut command = args.command.clone();
    if command.is_empty() {
        if terminal.is_none() {
            bail!("a shell needs a terminal: give a command, as in `cargo kit vm -- CMD`");
        }
        command.push("bash".into());
    }
    let here = std::env::current_dir()?;
    let folder = if here.starts_with(place::repository()) { here } else { place::repository() };
    let mut job = job(folder, command);
    job.terminal = terminal;
    let status = machine.run(&job, io::stdout(), io::stderr())?;
    Ok(u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// A machine, with its disk made.
fn machine(options: &Options) -> Result<Machine> {
    let missing: Vec<String> = missing()
        .into_iter()
        .map(|(fact, mend)| mend.map_or(fact.clone(), |mend| format!("{fact}\nhint: {mend}")))
        .collect();
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    let disk = disk::make(&place::kit().join("vm"), &options.kernel, options.anew)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    Ok(Machine { disk, kvm: options.kvm, systemd: options.systemd, memory: options.memory, processors })
}

/// A job in the guest, with what every job has: the repository, our programs on the PATH, and the caller's terminal.
fn job(folder: PathBuf, command: Vec<OsString>) -> Job {
    let kit = place::kit();
    let mut shares = vec![place::repository()];
    // Both may lie elsewhere: what `bin` leads to does where Cargo is told to build there.
    let built = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    for folder in [Some(kit.clone()), built].into_iter().flatten() {
        share(&mut shares, folder);
    }
    let mut environment = vec![
        ("PATH".to_owned(), OsString::from(format!("{}:{PATH}", kit.join("bin").display()))),
        ("KIT_DIR".to_owned(), kit.into_os_string()),
    ];
    for name in ["TERM", "NO_COLOR", "RUST_BACKTRACE"] {
        environment.extend(std::env::var_os(name).map(|value| (name.to_owned(), value)));
    }
    Job { shares, folder, environment, command, terminal: None }
}

fn share(shares: &mut Vec<PathBuf>, folder: PathBuf) {
    if !shares.iter().any(|share| folder.starts_with(share)) {
        shares.push(folder);
    }
}

/// What this machine lacks for a virtual one, and the command that mends it.
pub(crate) fn missing() -> Vec<(String, Option<String>)> {
    let install = |package: &str| {
        host::program("apt-get")
            .map(|_| host::as_root(&format!("apt-get install -y --no-install-recommends {package}")))
    };
    let mut missing = Vec::new();
    for (program, package) in [GUEST.qemu, ("mke2fs", "e2fsprogs"), ("setpriv", "util-linux"), ("tar", "tar")]
    {
        if host::program(program).is_none() {
            missing.push((format!("{program} is not installed"), install(package)));
        }
    }
    if machine::virtiofsd().is_none() {
        // Debian 12 has it beside QEMU; later it is a package of its own.
        missing.push((
            "virtiofsd is not installed".to_owned(),
            install("qemu-system-common   # from Debian 13 on: virtiofsd"),
        ));
    }
    if host::program("apt-get").is_none() || host::program("dpkg-deb").is_none() {
        missing.push(("the guest is made of Debian's packages, and here is no apt-get".to_owned(), None));
    }
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        missing.push(("the guest is made for x86_64 and aarch64 alone".to_owned(), None));
    }
    missing
}

/// Rows and columns of the terminal; 24 and 80 where it does not say.
fn terminal_size() -> (u16, u16) {
    let output =
        std::process::Command::new("stty").arg("size").stdin(std::process::Stdio::inherit()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(rows), Some(columns)) if rows > 0 && columns > 0 => (rows, columns),
        _ => (24, 80),
    }
}
