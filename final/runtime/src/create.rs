//! Make a container, and let its program run.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::Error;

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
}

/// Where the root file system comes from.
#[derive(Debug)]
pub enum Rootfs {
    /// The configuration's `root.path`.
    Bundle,
    /// An overlay, mounted inside the container's own mount namespace, on the configuration's `root.path`
    /// (a directory, made if it is not there): the host's mount table never shows it.
    Overlay(crate::pending::Overlay),
}

/// What the process reads from and writes to.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// Three descriptors: standard input, output and error.
    Fds(OwnedFd, OwnedFd, OwnedFd),
    /// A terminal of the container's own devpts; its other end is had from [`Container::terminal`] or [`Started::terminal`].
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
    /// `lo`, and `eth0` with this address and route. The link itself is made by the caller between [`create`] and
    /// [`Container::start`].
    Interface(crate::pending::Interface),
}

/// A container that has been created: its namespaces are there, its init process waits.
#[derive(Debug)]
pub struct Container {}

impl Container {
    /// The init process, as the host numbers it.
    pub fn pid(&self) -> i32 {
        unimplemented!()
    }
    /// A descriptor that stands for the init process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }
    /// The container's cgroup; none where the configuration needs none or the user may not make one.
    pub fn cgroup(&self) -> Option<&crate::pending::Cgroup> {
        unimplemented!()
    }
    /// Takes the terminal's master end; waits until the init process has made it. None without [`Stdio::Terminal`].
    ///
    /// # Errors
    /// What the init process met before it.
    pub fn terminal(&mut self) -> Result<Option<OwnedFd>, Error> {
        unimplemented!()
    }
    /// Lets the container's program run; comes back when it does (execve succeeded).
    ///
    /// # Errors
    /// What the init process met. The container and its cgroup are gone then.
    pub fn start(self) -> Result<Started, Error> {
        unimplemented!()
    }
    /// Undoes it: kills the init process and removes the cgroup.
    ///
    /// # Errors
    /// The step that failed.
    pub fn discard(self) -> Result<(), Error> {
        unimplemented!()
    }
}

/// A process that runs in a container.
#[derive(Debug)]
pub struct Started {}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exited(u8),
    /// A signal of this number killed it.
    Signaled(i32),
}

impl Ended {
    /// As a shell and Docker put it: the status, or 128 and the signal's number.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(255),
        }
    }
}

impl Started {
    /// The process, as the host numbers it.
    pub fn pid(&self) -> i32 {
        unimplemented!()
    }
    /// A descriptor that stands for it, and that is readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }
    /// The container's cgroup; none for a process started with [`exec()`](crate::exec()).
    pub fn cgroup(&self) -> Option<&crate::pending::Cgroup> {
        unimplemented!()
    }
    /// Takes the terminal's master end, for [`Stdio::Terminal`]; none once it was taken.
    pub fn terminal(&mut self) -> Option<OwnedFd> {
        unimplemented!()
    }
    /// Waits for its end.
    ///
    /// # Errors
    /// The step that failed.
    pub fn wait(&mut self) -> Result<Ended, Error> {
        unimplemented!()
    }
    /// Kills what is left in the container's cgroup and removes it. Does nothing for a process started with `exec`.
    ///
    /// # Errors
    /// The step that failed.
    pub fn remove(self) -> Result<(), Error> {
        unimplemented!()
    }
}

/// Makes a container out of `create`: namespaces, cgroup, and an init process that mounts at once and then waits for
/// [`Container::start`]. Nothing is left behind where it fails.
///
/// The calling process must have one thread. The container dies with it (`PR_SET_PDEATHSIG`).
///
/// # Errors
/// [`Error::Config`] before anything is changed; else the step that failed.
pub fn create(create: Create<'_>) -> Result<Container, Error> {
    let _ = (create.bundle, PathBuf::new());
    unimplemented!()
}
