//! Make a container, and let its program run.
//!
//! Order: read the configuration whole -> cgroup -> namespaces, and the init process in them, which begins to mount at once ->
//! back to the caller, who makes the network meanwhile -> start -> exec. What fails is undone in reverse.
//!
//! See `init` for the other side; runtime-spec: runtime.md, "Lifecycle".

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use ::cgroups::Cgroup;
use ::namespaces::{Created, Kind};
use network::moved::Moved;
use oci_spec::runtime::{ContainerState, Linux, Process, Spec};
use rustix::event::{EventfdFlags, eventfd};
use step::{StepError, step};

use crate::container::Container;
use crate::devices::Devices;
use crate::hooks::{Planned, State};
use crate::init::{Init, Wait};
use crate::namespaces::Namespaces;
use crate::program::{About, Around, Program};
use crate::root_fs::{Root, Spreads};
use crate::stdio::Prepared;
use crate::{Error, cgroups, labels, mounts, net_devices, sysctl};

/// What a container is made of.
#[derive(Debug)]
pub struct Create<'a> {
    /// The container's id: its cgroup is `sampan/<id>`, unless the configuration names another one.
    pub id: &'a str,
    /// The configuration.
    pub spec: &'a Spec,
    /// The bundle's directory: relative paths in the configuration begin there.
    pub bundle: &'a Path,
    /// The root file system.
    pub rootfs: Rootfs,
    /// What the process reads from and writes to.
    pub stdio: Stdio,
    /// What its network namespace is given.
    pub network: Network,
    /// Whether pid 1 is an init process of ours that reaps orphans and forwards signals (Docker's `--init`).
    pub init: bool,
    /// What runc's command line says, and no configuration.
    pub options: Options,
}

/// What is asked for beside the configuration, as runc's flags have it.
#[derive(Debug, Default)]
pub struct Options {
    /// Stay in the caller's session keyring (`--no-new-keyring`).
    pub keep_keyring: bool,
    /// Leave the old root mounted beneath the new one, where it cannot be swapped: the first root of a machine, a ramdisk (`--no-pivot`).
    pub no_pivot: bool,
    /// How many descriptors from 3 on are the program's too (`--preserve-fds`).
    pub preserve_fds: u16,
    /// That no cgroup can be made is an error also where no limit is asked for (`--rootless false`).
    pub needs_cgroup: bool,
    /// The container outlives this process. It is started by whoever writes a byte into this FIFO, which is open for reading and
    /// writing, once [`Container::detach`] has left it there.
    pub fifo: Option<OwnedFd>,
}

/// Where the root file system comes from.
#[derive(Debug)]
pub enum Rootfs {
    /// The configuration's `root.path`.
    Bundle,
    /// An overlay, mounted inside the container's own mount namespace, on the configuration's `root.path`
    /// (a directory, made if it is not there): the host's mount table never shows it.
    Overlay(unionfs::Overlay),
}

/// What the process reads from and writes to.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own; but not its session: who shares that could type into the caller's terminal (TIOCSTI).
    Inherit,
    /// Three descriptors: standard input, output and error.
    Fds(OwnedFd, OwnedFd, OwnedFd),
    /// A terminal of the container's own devpts; its other end is had from [`Container::terminal`] or [`Started::terminal`](crate::Started::terminal).
    Terminal(WindowSize),
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What the init process does in the container's network namespace.
#[derive(Debug)]
pub enum Network {
    /// Nothing: the namespace is the host's, another container's, or somebody else configures it.
    Inherit,
    /// `lo` is brought up.
    LoopbackOnly,
    /// `lo`, and `eth0` with this address and route. The link itself is made by the caller between [`create()`] and
    /// [`Container::start`].
    Interface(network::inside::Interface),
}

/// Makes a container out of `create`: namespaces, cgroup, and an init process that mounts at once and then waits for
/// [`Container::start`], or for [`Container::detach`] where [`Options::fifo`] is given. Nothing is left behind where it fails.
///
/// The calling process must have one thread. The container dies with that thread (`PR_SET_PDEATHSIG`), except where it becomes
/// a program that is set-user-id: the kernel forgets it then. A container with a FIFO dies with it as long as it was not detached.
///
/// # Errors
/// [`Error::Config`] before anything is changed; else the step that failed.
pub fn create(create: Create<'_>) -> Result<Container, Error> {
    let Create { id, spec, bundle, rootfs, stdio, network, init, options } = create;
    let (linux, process, root) = parts(spec)?;
    let namespaces = Namespaces::new(linux)?;
    namespaces.check(spec, linux)?;
    let sysctl = sysctl::plan(linux, &namespaces)?;
    let program =
        program(About { id, status: ContainerState::Creating, bundle, spec }, process, linux, &options)?;
    let (root_path, readonly_root) = (bundle.join(root.path()), root.readonly().unwrap_or(false));
    let hooks =
        Planned::new(spec.hooks().as_ref(), || State::new(id, spec, bundle), &root_path)?.map(Arc::new);
    let spreads = Spreads::read(linux.rootfs_propagation().as_deref())?;
    let root = new_root(rootfs, &root_path, &namespaces, spreads)?;
    let moved = net_devices::plan(linux, &namespaces)?;
    let moved_gate = gate(!moved.is_empty())?;
    let wants_terminal = matches!(stdio, Stdio::Terminal(_));
    let gate = gate(matches!(network, Network::Interface(_)))?;
    let (cgroup, holder) = cgroups::create(id, linux, spec.annotations().as_ref(), options.needs_cgroup)?;
    let made = |gate: Option<&OwnedFd>| {
        let init = Init {
            entrance: cgroup.as_ref().map(Cgroup::entrance).transpose()?,
            new: namespaces.new.clone(),
            root,
            spreads,
            pivot: !options.no_pivot,
            mounts: mounts::prepare(spec, bundle, &namespaces, cgroup.as_ref())?,
            devices: Devices::new(linux, cgroup.as_ref()),
            hostname: spec.hostname().clone(),
            domainname: spec.domainname().clone(),
            sysctl,
            stdio: Prepared::new(stdio),
            readonly_root,
            masked: linux.masked_paths().clone().unwrap_or_default(),
            readonly: linux.readonly_paths().clone().unwrap_or_default(),
            network,
            moved: moved.clone(),
            moved_gate: moved_gate.as_ref().map(copy).transpose()?,
            program,
            in_user_namespace: ::namespaces::in_user_namespace() || namespaces.has(Kind::User),
            reaper: init,
            hooks: hooks.clone(),
            wait: match options.fifo {
                Some(fifo) => Wait::Fifo(fifo),
                None => Wait::Runtime(gate.map(copy).transpose()?),
            },
        };
        let into_cgroup = cgroup.as_ref().map(Cgroup::directory).transpose()?.flatten();
        let config = namespaces.config(into_cgroup, Vec::new(), init.program.die_with_parent);
        Ok::<_, Error>(::namespaces::spawn(&config, |end| init.run(end))?)
    };
    let made = made(gate.as_ref()).and_then(|created| send(&moved, moved_gate.as_ref(), created));
    // The container is in its cgroup, or never will be.
    drop(holder);
    let hooks = hooks.filter(|hooks| hooks.before_pivot());
    match made {
        Ok(created) => Ok(Container { created, cgroup, gate, wants_terminal, hooks }),
        Err(error) => Err(undone(cgroup, error)),
    }
}

/// The first error is the one to tell.
fn undone(cgroup: Option<Cgroup>, error: Error) -> Error {
    let _ = cgroup.map(Cgroup::remove);
    error
}

/// What every container needs of a configuration.
fn parts(spec: &Spec) -> Result<(&Linux, &Process, &oci_spec::runtime::Root), Error> {
    let missing = |field| Error::config(field, "it is missing");
    let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
    let process = spec.process().as_ref().ok_or_else(|| missing("process"))?;
    let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
    refuse_unsupported(linux)?;
    Ok((linux, process, root))
}

fn program(about: About<'_>, process: &Process, linux: &Linux, options: &Options) -> Result<Program, Error> {
    let around = Around {
        about,
        die_with_parent: options.fifo.is_none(),
        keep_keyring: options.keep_keyring,
        preserve_fds: options.preserve_fds,
    };
    Program::new(process, linux, &around)
}

/// What is in the specification, and not in this runtime: better an error than a container that is less confined than asked.
fn refuse_unsupported(linux: &Linux) -> Result<(), Error> {
    labels::check_mount_label(linux.mount_label().as_deref())?;
    if linux.intel_rdt().is_some() {
        return Err(Error::config(
            "linux.intelRdt",
            "this runtime does not divide caches and memory bandwidth (resctrl, /sys/fs/resctrl): leave it out",
        ));
    }
    Ok(())
}

/// Where root inside is somebody else outside, root makes the mount before the clone: later it could be too weak to walk there.
/// The owners of files stay as they are, as the specification has it: whoever wrote the mappings has prepared them.
fn new_root(rootfs: Rootfs, path: &Path, namespaces: &Namespaces, spreads: Spreads) -> Result<Root, Error> {
    match rootfs {
        Rootfs::Bundle if !path.is_dir() => {
            let source = std::io::ErrorKind::NotADirectory.into();
            Err(Error::File { path: path.to_owned(), source })
        }
        Rootfs::Bundle if !namespaces.owns(Kind::Mount) => Ok(Root::Host(path.to_owned())),
        Rootfs::Bundle if namespaces.shifted() && nix::unistd::geteuid().is_root() => {
            Ok(Root::Detached(spreads.detached(path)?))
        }
        Rootfs::Bundle => Ok(Root::Directory(path.to_owned())),
        Rootfs::Overlay(overlay) => {
            if !path.is_dir() {
                step(
                    "mkdir",
                    format_args!("{}", path.display()),
                    "the overlay is mounted here, in the container's mount namespace",
                )
                .run(|| fs::create_dir_all(path))?;
            }
            Ok(Root::Overlay(overlay, path.to_owned()))
        }
    }
}

/// The init process waits at it until the link is there that somebody outside makes or moves. Where this process dies, the other
/// does too.
fn gate(wanted: bool) -> Result<Option<OwnedFd>, Error> {
    if !wanted {
        return Ok(None);
    }
    let made = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| StepError::new("eventfd", "", errno))?;
    Ok(Some(made))
}

/// Moves links of the host's into the new container, whose init process waits for them.
fn send(moved: &[Moved], gate: Option<&OwnedFd>, created: Created) -> Result<Created, Error> {
    let Some(gate) = gate else { return Ok(created) };
    let pid = created.pid().as_raw().cast_unsigned();
    let sent = moved.iter().try_for_each(|link| link.send(pid)).and_then(|()| {
        step("write", format_args!("eventfd"), "the links are there: the init process may set them up")
            .run(|| rustix::io::write(gate, &1u64.to_ne_bytes()).map(drop))
    });
    match sent {
        Ok(()) => Ok(created),
        Err(error) => {
            // The first error is the one to tell.
            let _ = created.abort();
            Err(error.into())
        }
    }
}

fn copy(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    Ok(fd.try_clone().map_err(|error| StepError::new("dup", "", error))?)
}

#[cfg(test)]
mod tests;
