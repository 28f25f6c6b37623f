//! `create`: everything but the user's program.
//!
//! The init process stays when this command is gone: it waits at a FIFO in the container's state directory, as runc's does.

use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sampan_runtime::{Container, Create, Network, Rootfs, Stdio, WindowSize};
use step::step;

use crate::state::{FIFO, Record, Store, start_time};

/// `create [--bundle DIR] [--pid-file FILE] [--console-socket SOCKET] ID`
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// The bundle's directory
    #[arg(short, long, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Write the init process's id into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Send the terminal's master side to this UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// The container's id
    pub(crate) id: String,
}

pub(crate) fn create(store: &Store, args: &Args) -> anyhow::Result<u8> {
    let (bundle, spec) = read_bundle(&args.bundle)?;
    let wants_terminal = wants_terminal(&spec);
    if wants_terminal != args.console_socket.is_some() {
        bail!("process.terminal and --console-socket go together: somebody must take the terminal");
    }
    let stdio = if wants_terminal { Stdio::Terminal(size(&spec)) } else { Stdio::Inherit };
    let folder = store.reserve(&args.id)?;
    let made = (|| {
        let fifo = make_fifo(&folder.join(FIFO))?;
        let create = what(&args.id, &spec, &bundle, stdio);
        let (container, terminal) = sampan_runtime::create_detached(create, fifo)?;
        let told = tell(store, args, &spec, &bundle, &container).and_then(|()| {
            match (terminal, &args.console_socket) {
                (Some(terminal), Some(socket)) => send(&terminal, socket),
                _ => Ok(()),
            }
        });
        match told {
            Ok(()) => Ok(()),
            Err(error) => {
                container.discard()?;
                Err(error)
            }
        }
    })();
    if made.is_err() {
        // The first error is the one to tell.
        let _ = store.remove(&args.id);
    }
    made.map(|()| 0)
}

/// The bundle's real directory and its configuration.
pub(crate) fn read_bundle(bundle: &Path) -> anyhow::Result<(PathBuf, Spec)> {
    let bundle = fs::canonicalize(bundle).with_context(|| format!("there is no bundle {bundle:?}"))?;
    let path = bundle.join("config.json");
    let text =
        fs::read(&path).with_context(|| format!("cannot read {path:?}: `sampan-runtime spec` writes one"))?;
    let spec = serde_json::from_slice(&text).with_context(|| format!("{path:?} is no configuration"))?;
    Ok((bundle, spec))
}

/// A plain container: the network is whatever its namespace holds, with `lo` up in one of its own, as runc has it.
pub(crate) fn what<'a>(id: &'a str, spec: &'a Spec, bundle: &'a Path, stdio: Stdio) -> Create<'a> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let own_network = namespaces.into_iter().flatten().any(|namespace| {
        namespace.typ() == oci_spec::runtime::LinuxNamespaceType::Network && namespace.path().is_none()
    });
    let network = if own_network { Network::LoopbackOnly } else { Network::Inherit };
    Create { id, spec, bundle, rootfs: Rootfs::Bundle, stdio, network, init: false }
}

pub(crate) fn wants_terminal(spec: &Spec) -> bool {
    spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false)
}

/// `process.consoleSize`.
pub(crate) fn size(spec: &Spec) -> WindowSize {
    let size = spec.process().as_ref().and_then(|process| process.console_size());
    let number = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    size.map_or_else(WindowSize::default, |size| WindowSize {
        rows: number(size.height()),
        columns: number(size.width()),
    })
}

/// Keeps what the later commands need, and writes the pid file.
pub(crate) fn tell(
    store: &Store,
    args: &Args,
    spec: &Spec,
    bundle: &Path,
    container: &Container,
) -> anyhow::Result<()> {
    let pid = container.pid();
    let record = Record {
        oci_version: spec.version().clone(),
        id: args.id.clone(),
        pid,
        bundle: bundle.to_owned(),
        annotations: spec.annotations().clone().unwrap_or_default(),
        // One that has ended already has failed: what it met is told when it is waited for.
        start_time: start_time(pid).unwrap_or_default(),
    };
    store.write(&record, spec)?;
    if let Some(path) = &args.pid_file {
        fs::write(path, pid.to_string()).with_context(|| format!("cannot write {path:?}"))?;
    }
    Ok(())
}

/// Opened for reading *and* writing, so that the init process's read waits for a byte and not for a first writer.
fn make_fifo(path: &Path) -> anyhow::Result<OwnedFd> {
    step("mkfifo", format_args!("{}", path.display()), "the init process waits here until `start` writes")
        .run(|| rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::from(0o600), 0))?;
    Ok(rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// One message with the descriptor, as runc sends it.
fn send(terminal: &OwnedFd, socket: &Path) -> anyhow::Result<()> {
    let stream = UnixStream::connect(socket).with_context(|| format!("cannot reach {socket:?}"))?;
    let fds = [terminal.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        bail!("no room for a descriptor in the message");
    }
    step(
        "sendmsg",
        format_args!("{} SCM_RIGHTS", socket.display()),
        "the terminal's other side, for whoever asked for it",
    )
    .run(|| sendmsg(&stream, &[IoSlice::new(b"terminal")], &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}
