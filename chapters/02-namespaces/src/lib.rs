//! Chapter 2: namespaces, a view of its own for each thing that a machine has one of.
//!
//! Processes, mounts, host name, network, users, IPC, cgroups, clocks: the kernel keeps several of each, and a process sees
//! the one that it is in. clone3(2) makes a process with eight of its own; pivot_root(2) takes the host's tree away from it; an
//! init process stands in for the command. The escape of chapter 1 fails here, and [two hogs](../../examples/escape.rs) do not:
//! chapter 3 stops those.
//!
//! In reading order, the clone: [`kind`], [`protocol`], [`mod@spawn`], [`created`], [`init_end`], [`id_maps`]. What the init process
//! does: [`inside`], [`new_root`], [`mounts`], [`mount_point`], [`devices`], [`pivot_root`], [`hostname`], [`reaper`]. What the runtime process
//! does meanwhile: [`plan`], [`terminal`], [`foreground`]. And a second process in it: [`mod@join`].
//!
//! Beyond this chapter, for the engine: [`Config::into_cgroup`] and [`Rootfs::Mounted`] (chapters 3 and 4), [`Join`] with a single
//! namespace's descriptor, [`TimeOffset`], [`mounts::Source::Detached`], [`Created::wait_ready`], [`Created::release`].
//!
//! Beyond this chapter: [`files_of_ids`], [`in_root`]; and what mounts can be asked for besides: [`attributes`], [`file_system`],
//! [`mapped_ids`], [`copy_up`], [`mount_more`]. Where a root cannot be
//! swapped: [`no_pivot`].
//!
//! Beside the story: [`stage`], [`table`], [`error`], [`hints`].

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
pub mod mount_point;
pub mod mounts;
pub mod new_root;
pub mod pivot_root;
pub mod reaper;

pub mod foreground;
pub mod terminal;

pub mod join;

pub mod plan;

pub mod files_of_ids;
pub mod in_root;

pub mod attributes;
pub mod copy_up;
pub mod file_system;
pub mod mapped_ids;
pub mod mount_more;
pub mod no_pivot;

pub mod error;
pub mod hints;
pub mod table;

mod syscalls;

pub use created::{Created, ExitStatus, Running};
pub use error::Error;
pub use files_of_ids::{as_all_ids, as_root_of_the_files};
pub use foreground::attend;
pub use hints::HINTS;
pub use id_maps::{IdMap, Maps, in_user_namespace};
pub use init_end::InitEnd;
pub use inside::{Inside, Rootfs, cgroup_namespace};
pub use join::join;
pub use kind::Kind;
pub use mounts::container_mounts;

pub use spawn::{Config, Join, TimeOffset, spawn};
pub use stage::StageError;
pub use table::Table;
