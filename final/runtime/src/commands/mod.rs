//! The commands, one a file. Beside them: `handover` and `notify`, what of a container goes to its caller, and [`foreground`].

pub(crate) mod checkpoint;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod pause;
pub(crate) mod ps;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod update;

mod foreground;
mod handover;
mod notify;

/// What is said before the command, and means something to several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Global {
    /// `--systemd-cgroup`
    pub(crate) systemd_cgroup: bool,
    /// `--rootless false`
    pub(crate) needs_cgroup: bool,
}

/// The container that a command is about.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Id {
    /// The container's id
    pub(crate) id: String,
}
