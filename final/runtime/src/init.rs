//! The init process, from the clone to the exec: what it does, in which order, and why there.
//!
//! ```text
//!  keyring, cgroup, cgroup namespace        first of all, so that what follows is counted
//!  propagation, root file system, mounts    while the host's tree can still be seen
//!  devices
//!  hooks                                    of the runtime process, and of this one
//!  pivot_root                               from here on nothing of the host can be named
//!  host name, sysctl
//!  terminal                                 in the container's own devpts
//!  masked and read-only paths
//!  ------ "ready" ------
//!  network                                  when the runtime process has put a link there
//!  limits, user, capabilities, filter       see `program`
//!  ------ wait for "start" ------
//!  hooks
//!  exec
//! ```
//!
//! Each stage's errors carry its name back to the runtime process.

use std::convert::Infallible;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use ::cgroups::Entrance;
use ::namespaces::{InitEnd, Kind, StageError, cgroup_namespace, hostname, reaper};
use network::moved::Moved;
use step::{StepError, step};

use crate::create::Network;
use crate::devices::{Dev, Devices};
use crate::hooks::Planned;
use crate::program::Program;
use crate::root_fs::{Root, Spreads, Way};
use crate::stdio::{Here, Prepared};
use crate::sysctl::Setting;
use crate::{masked, mounts, process, root_fs};

/// Everything that the init process needs. Nothing is looked up later.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) entrance: Option<Entrance>,
    /// Its own namespaces.
    pub(crate) new: Vec<Kind>,
    /// Whether it is in a user namespace: of its own, another's, or the runtime process's.
    pub(crate) in_user_namespace: bool,
    pub(crate) root: Root,
    /// Whom mounts in the root spread to.
    pub(crate) spreads: Spreads,
    /// Whether the roots are swapped, which an initramfs does not allow.
    pub(crate) pivot: bool,
    pub(crate) mounts: mounts::Plan,
    pub(crate) devices: Devices,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) sysctl: Vec<Setting>,
    pub(crate) stdio: Prepared,
    pub(crate) readonly_root: bool,
    pub(crate) masked: Vec<String>,
    pub(crate) readonly: Vec<String>,
    pub(crate) network: Network,
    /// Links of the host's that the runtime process moves here, and the eventfd(2) that tells when.
    pub(crate) moved: Vec<Moved>,
    pub(crate) moved_gate: Option<OwnedFd>,
    pub(crate) program: Program,
    /// Whether pid 1 is an init process of ours.
    pub(crate) reaper: bool,
    pub(crate) hooks: Option<Arc<Planned>>,
    pub(crate) wait: Wait,
}

/// What the init process waits for before it becomes the program.
#[derive(Debug)]
pub(crate) enum Wait {
    /// The runtime process; and, for the network, a number in this eventfd(2) before that.
    Runtime(Option<OwnedFd>),
    /// Somebody who writes into this FIFO: the runtime process is gone by then.
    Fifo(OwnedFd),
}

impl Init {
    // ANCHOR: run
    /// The straight line.
    ///
    /// # Errors
    /// The stage that failed.
    pub(crate) fn run(mut self, end: &mut InitEnd) -> Result<Infallible, StageError> {
        let in_user_namespace = self.in_user_namespace;
        process::usual_umask();
        self.program.keyring().map_err(StageError::at("keyring"))?;
        process::oom_score_adj(self.program.oom_score_adj).map_err(StageError::at("oom_score_adj"))?;
        if let Some(entrance) = self.entrance.take() {
            entrance.enter().map_err(StageError::at("cgroup"))?;
        }
        if self.new.contains(&Kind::Cgroup) {
            cgroup_namespace().map_err(StageError::at("cgroup"))?;
        }
        if !in_user_namespace {
            // In a user namespace it would hide this process from the very user who must reach it, to attach a network.
            process::undumpable().map_err(StageError::at("dumpable"))?;
        }
        self.enter_root(end, in_user_namespace)?;
        self.names().map_err(StageError::at("names"))?;
        self.stdio.apply(end, self.standard())?;
        self.close_paths().map_err(StageError::at("paths"))?;
        self.join_network(end)?;
        self.program.restrict()?;
        match &self.wait {
            Wait::Runtime(_) => {
                end.ready()?;
                end.wait_to_proceed()?;
            }
            Wait::Fifo(fifo) => {
                self.program.look_up()?;
                end.ready()?;
                // As long as nobody knows of this process it ends with the runtime process.
                end.wait_to_proceed()?;
                wait_for_writer(fifo).map_err(StageError::at("start"))?;
                let back = fifo.try_clone().map_err(|error| StepError::new("dup", "exec.fifo", error))?;
                return self.become_program(end).inspect_err(|error| tell_starter(&back, error));
            }
        }
        self.become_program(end)
    }
    // ANCHOR_END: run

    /// Makes the new root, with all that is mounted in it, and swaps it for the host's.
    fn enter_root(&mut self, end: &mut InitEnd, in_user_namespace: bool) -> Result<(), StageError> {
        if let Root::Host(path) = &self.root {
            self.run_hooks(end)?;
            return chroot::enter(path).map_err(|error| StageError::new("rootfs", &error, 125));
        }
        let hooks = self.hooks.as_ref().filter(|hooks| hooks.before_pivot());
        let way = Way {
            spreads: self.spreads,
            pivot: self.pivot,
            in_user_namespace,
            seen_at: hooks.map(|hooks| hooks.rootfs.as_path()),
        };
        let root = root_fs::make(&self.root, &mut self.mounts, &self.devices, &way)?;
        self.run_hooks(end)?;
        root_fs::enter(&self.root, root.as_fd(), &way)
    }

    /// The runtime process's hooks, and then this process's, while the old root can still be seen.
    fn run_hooks(&self, end: &mut InitEnd) -> Result<(), StageError> {
        let Some(hooks) = self.hooks.as_ref().filter(|hooks| hooks.before_pivot()) else { return Ok(()) };
        end.ready()?;
        end.wait_to_proceed()?;
        hooks.in_container().map_err(|error| StageError::new("hooks", &error, 125))
    }

    /// Becomes the program.
    fn become_program(mut self, end: &mut InitEnd) -> Result<Infallible, StageError> {
        if let Some(hooks) = &self.hooks {
            hooks.before_program().map_err(|error| StageError::new("hooks", &error, 125))?;
        }
        if self.reaper { reaper::run(end, || self.program.exec()) } else { self.program.exec() }
    }

    fn standard(&self) -> Here {
        Here {
            user: self.program.uid(),
            own_dev: self.mounts.dev == Dev::Own,
            has_devices: self.mounts.dev != Dev::Bound && !matches!(self.root, Root::Host(_)),
        }
    }

    fn names(&self) -> Result<(), StepError> {
        if let Some(name) = &self.hostname {
            hostname::set(name)?;
        }
        if let Some(name) = &self.domainname {
            step("setdomainname", format_args!("{name}"), "the NIS domain of the UTS namespace")
                .run(|| rustix::system::setdomainname(name.as_bytes()))?;
        }
        self.sysctl.iter().try_for_each(Setting::apply)
    }

    fn close_paths(&self) -> Result<(), StepError> {
        masked::apply(&self.masked, &self.readonly, self.mounts.own_proc, self.mounts.label.as_deref())?;
        masked::close(&self.mounts.close)?;
        if self.readonly_root {
            masked::close(&["/".to_owned()])?;
        }
        self.spreads.apply()
    }

    fn join_network(&self, end: &mut InitEnd) -> Result<(), StageError> {
        let stage = StageError::at("network");
        if let Some(gate) = &self.moved_gate {
            wait_at(gate).map_err(&stage)?;
            self.moved.iter().try_for_each(Moved::settle).map_err(&stage)?;
        }
        match &self.network {
            Network::Inherit => Ok(()),
            Network::LoopbackOnly => network::inside::loopback_only().map_err(stage),
            Network::Interface(interface) => {
                // The terminal has gone out by now; whoever wants it before the start need not wait for the network.
                end.ready()?;
                if let Wait::Runtime(Some(gate)) = &self.wait {
                    wait_at(gate).map_err(&stage)?;
                }
                network::inside::configure(interface).map_err(stage)
            }
        }
    }
}

/// Waits until the runtime process has written to it.
fn wait_at(gate: &OwnedFd) -> Result<(), StepError> {
    rustix::io::read(gate, &mut [0; 8]).map(drop).map_err(|errno| StepError::new("read", "eventfd", errno))
}

/// The descriptor is open for reading and for writing, so that reading waits for a byte, and not for a first writer.
fn wait_for_writer(fifo: &OwnedFd) -> Result<(), StepError> {
    let read = fifo.try_clone().map(File::from).and_then(|mut fifo| fifo.read_exact(&mut [0]));
    read.map_err(|error| StepError::new("read", "exec.fifo", error))
}

/// Whoever wrote the byte waits until the FIFO is closed, and reads then what is in it: nothing, or this.
fn tell_starter(fifo: &OwnedFd, error: &StageError) {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    // Where nobody hears it the status must do.
    let _ = rustix::io::write(fifo, text.as_bytes());
}
