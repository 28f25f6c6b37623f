//! Chapter 2: namespaces, a private view of each thing that a machine has one of.
//!
//! In reading order: [`kind`], [`mod@spawn`], [`protocol`], [`id_maps`]; then what the init process does: [`inside`],
//! [`new_root`], [`mounts`], [`devices`], [`pivot_root`], [`hostname`], [`reaper`]; then [`terminal`] and [`foreground`];
//! and [`mod@join`], which enters a running container.
//!
//! Beside the story: [`table`], [`error`], [`hints`].

pub mod kind;

pub mod id_maps;
pub mod protocol;
pub mod spawn;

pub mod created;
pub mod init_end;
pub mod stage;

pub mod devices;
pub mod hostname;
pub mod inside;
pub mod mounts;
pub mod new_root;
pub mod pivot_root;
pub mod reaper;

pub mod foreground;
pub mod terminal;

pub mod join;

pub mod plan;

pub mod error;
pub mod hints;
pub mod table;

mod syscalls;

pub use created::{Created, ExitStatus, Running};
pub use error::Error;
pub use foreground::attend;
pub use hints::HINTS;
pub use id_maps::{IdMap, Maps};
pub use init_end::InitEnd;
pub use inside::{Inside, Rootfs, cgroup_namespace};
pub use join::join;
pub use kind::Kind;
pub use mounts::container_mounts;

pub use spawn::{Config, Join, TimeOffset, spawn};
pub use stage::StageError;
pub use table::Table;
