//! `create`: everything but the user's program.
//!
//! The init process stays when this command is gone: it waits at a FIFO in the container's state directory, as runc's does. It is a
//! child of this process, and so becomes that of the nearest subreaper: conmon, or containerd's shim.
//!
//! Order, so that a create that is killed leaves what `delete --force` finds: the id -> its lock -> configuration and record ->
//! the container -> the record with the process -> pid file, terminal -> only now the init process lives on without this one.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, Mode, OFlags};
use sampan_runtime::{Container, Create, Network, Options, Rootfs, Stdio, config};
use step::step;

use super::handover::{
    check_console, console_size, descriptors, send_pidfd, send_terminal, wants_terminal, window, write_pid,
};
use super::notify::{self, Relay};
use super::{Global, delete};
use crate::log::Log;
use crate::state::{FIFO, Record, Reserved, Store, start_time};

/// `create [--bundle DIR] [--pid-file FILE] [--console-socket SOCKET] ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "Example:\n  sampan-runtime create --bundle bundle --pid-file pid first\n  sampan-runtime start first"
)]
pub(crate) struct Args {
    /// The bundle's directory
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// Write the init process's id into this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send the terminal's master side to this UNIX socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Send a descriptor of the init process to this UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// So many descriptors from 3 on are the program's too, behind those of LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u16,
    /// For a root that cannot be swapped, a ramdisk: the new root is moved over it
    #[arg(long)]
    no_pivot: bool,
    /// Stay in the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// The container's id
    pub(crate) id: String,
}

pub(crate) fn create(store: &Store, log: &Log, global: Global, args: &Args) -> anyhow::Result<u8> {
    let prepared = Prepared::new(store, log, global, args, true)?;
    let made = (|| {
        let fifo = make_fifo(&store.folder(&args.id)?.join(FIFO))?;
        let (mut container, record) = prepared.make(store, args, Some(fifo))?;
        let told = (|| {
            container.ready()?;
            prepared.tell(args, &mut container)
        })();
        match told {
            Ok(()) => container.detach().map(|()| record).map_err(Into::into),
            Err(error) => {
                let _ = container.discard();
                Err(error)
            }
        }
    })();
    prepared.finish(store, log, args, made.map(drop))
}

/// A container that can be made: its configuration is read, its id is taken.
pub(super) struct Prepared {
    pub(super) spec: Spec,
    bundle: PathBuf,
    options: (u16, Global),
    pub(super) terminal: bool,
    detached: bool,
    /// Whether somebody wants to be told when the container is ready.
    notifies: bool,
    reserved: Reserved,
}

impl Prepared {
    pub(super) fn new(
        store: &Store,
        log: &Log,
        global: Global,
        args: &Args,
        detached: bool,
    ) -> anyhow::Result<Self> {
        let (bundle, mut spec) = read_bundle(log, &args.bundle)?;
        let terminal = wants_terminal(&spec);
        check_console(terminal, detached, args.console_socket.as_ref())?;
        let mut process = spec.process().clone().unwrap_or_default();
        let kept = descriptors(args.preserve_fds, &mut process)?;
        if spec.process().is_some() {
            spec.set_process(Some(process));
        }
        // Kept with the configuration, so that later commands need no flag to find the cgroup.
        if let Some(linux) = spec.linux_mut() {
            sampan_runtime::cgroups::choose_driver(&args.id, linux, global.systemd_cgroup)?;
        }
        let notifies = notify::show(&store.folder(&args.id)?, &mut spec)?;
        let reserved = store.reserve(&args.id)?;
        Ok(Self { spec, bundle, options: (kept, global), terminal, detached, notifies, reserved })
    }

    /// Makes the container, and keeps what later commands need: before, its configuration; after, its process.
    pub(super) fn make(
        &self,
        store: &Store,
        args: &Args,
        fifo: Option<OwnedFd>,
    ) -> anyhow::Result<(Container, Record)> {
        let spec = &self.spec;
        let root = spec.root().as_ref().map(|root| self.bundle.join(root.path())).unwrap_or_default();
        let mut record = Record {
            oci_version: spec.version().clone(),
            id: args.id.clone(),
            pid: 0,
            bundle: self.bundle.clone(),
            rootfs: fs::canonicalize(&root).unwrap_or(root),
            created: jiff::Timestamp::now(),
            annotations: spec.annotations().clone().unwrap_or_default(),
            start_time: 0,
        };
        store.write_spec(&args.id, spec)?;
        store.write(&record)?;
        if self.notifies {
            notify::make_folder(&store.folder(&args.id)?)?;
        }
        let container = sampan_runtime::create(Create {
            id: &args.id,
            spec,
            bundle: &self.bundle,
            rootfs: Rootfs::Bundle,
            stdio: self.stdio(),
            network: network(spec),
            init: false,
            options: Options {
                keep_keyring: args.no_new_keyring,
                no_pivot: args.no_pivot,
                preserve_fds: self.options.0,
                needs_cgroup: self.options.1.needs_cgroup,
                fifo,
            },
        })?;
        record.pid = container.pid();
        // One that has ended already has failed: what it met is told when it is waited for.
        record.start_time = start_time(record.pid).unwrap_or_default();
        match store.write(&record) {
            Ok(()) => Ok((container, record)),
            Err(error) => {
                let _ = container.discard();
                Err(error)
            }
        }
    }

    fn stdio(&self) -> Stdio {
        let process = self.spec.process().as_ref();
        match (self.terminal, self.detached) {
            (false, _) => Stdio::Inherit,
            (true, true) => Stdio::Terminal(console_size(process)),
            (true, false) => Stdio::Terminal(window(process)),
        }
    }

    /// What the caller wants to have: the terminal, and the process.
    pub(super) fn tell(&self, args: &Args, container: &mut Container) -> anyhow::Result<()> {
        if let Some(socket) = &args.console_socket
            && let Some(terminal) = container.terminal()?
        {
            send_terminal(&terminal, socket)?;
        }
        if let Some(socket) = &args.pidfd_socket {
            send_pidfd(container.pidfd(), socket)?;
        }
        if let Some(path) = &args.pid_file {
            write_pid(path, container.pid())?;
        }
        Ok(())
    }

    /// Listens for the container's word that it is ready.
    pub(super) fn listen(&self, store: &Store, args: &Args) -> anyhow::Result<Option<Relay>> {
        if !self.notifies {
            return Ok(None);
        }
        let folder = store.folder(&args.id)?;
        notify::host(&folder)?.map(|host| Relay::listen(&folder, host)).transpose()
    }

    /// Gives the lock back, or the id where nothing came of it.
    pub(super) fn finish(
        self,
        store: &Store,
        log: &Log,
        args: &Args,
        outcome: anyhow::Result<()>,
    ) -> anyhow::Result<u8> {
        match outcome {
            Ok(()) => {
                self.reserved.unlock()?;
                Ok(0)
            }
            Err(error) => {
                // The first error is the one to tell.
                let record = store.read(&args.id).ok().filter(|record| record.pid > 0);
                let _ = delete::forget(store, log, record.as_ref(), &args.id);
                Err(error)
            }
        }
    }
}

/// The bundle's real directory and its configuration.
fn read_bundle(log: &Log, bundle: &Path) -> anyhow::Result<(PathBuf, Spec)> {
    let bundle = fs::canonicalize(bundle).with_context(|| format!("there is no bundle {bundle:?}"))?;
    let path = bundle.join("config.json");
    let text =
        fs::read(&path).with_context(|| format!("cannot read {path:?}: `sampan-runtime spec` writes one"))?;
    let (spec, warnings) = config::parse(&text).with_context(|| format!("{path:?} is no configuration"))?;
    check_version(spec.version())?;
    warnings.iter().for_each(|warning| log.warn(warning));
    Ok((bundle, spec))
}

/// Versions of one major number can be read by each other's programs.
fn check_version(version: &str) -> anyhow::Result<()> {
    if version.is_empty() {
        bail!("config: ociVersion: it is missing");
    }
    let major = version.split_once('.').and_then(|(major, _)| major.parse::<u32>().ok());
    match major {
        Some(1) => Ok(()),
        Some(_) => bail!("config: ociVersion: {version} is not 1.x, which this runtime reads"),
        None => bail!("config: ociVersion: {version} is no version: 1.2.0 is one"),
    }
}

/// A plain container: the network is whatever its namespace holds, with `lo` up in one of its own, as runc has it.
fn network(spec: &Spec) -> Network {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let own_network = namespaces.into_iter().flatten().any(|namespace| {
        namespace.typ() == oci_spec::runtime::LinuxNamespaceType::Network && namespace.path().is_none()
    });
    if own_network { Network::LoopbackOnly } else { Network::Inherit }
}

/// Opened for reading *and* writing, so that the init process's read waits for a byte and not for a first writer.
fn make_fifo(path: &Path) -> anyhow::Result<OwnedFd> {
    step("mkfifo", format_args!("{}", path.display()), "the init process waits here until `start` writes")
        .run(|| rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::from(0o600), 0))?;
    Ok(rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}
