//! Chapter 3: how much a process may use.
//!
//! Namespaces decide what a process *sees*; a control group, *cgroup*, decides what it *gets*. A cgroup is a directory that the
//! kernel keeps. Processes are in it, limits are files in it, and what the processes use is counted in it. The child
//! of a process is in its parent's cgroup, so one directory holds a whole container, whatever it starts.
//!
//! Chapter 2's fork bomb and memory hog end here: [`pids`] refuses the fork, and above [`memory`] the kernel kills within the
//! cgroup and nowhere else. What stays open: root inside, with all its capabilities, can still mount the cgroup file system
//! and [raise its own limits](../../examples/escape.rs).
//!
//! In reading order: [`hierarchy`], [`mod@file`]; the controllers [`memory`], [`cpu`], [`cpuset`], [`pids`], [`io`] and the
//! [`freezer`], each with the names of version 2 and version 1 side by side; [`limits`], [`controller`], [`plan`]; then [`cgroup`],
//! [`entrance`], [`stats`], [`remove`].
//!
//! Beside the story: [`size`], [`error`], [`hints`]. Beyond this chapter: [`subtree`] for ordinary users,
//! [`Cgroup::create_at`] for OCI's paths, [`everyone`] for a signal to all, [`inner`] for one more process in it, and what container engines ask for besides: [`more`], with [`hugetlb`], [`cpu_more`],
//! [`io_weight`], [`mod@rdma`], [`network_class`], [`unified`]; [`devices`] and [`device_program`]; [`oom`] and [`usage`].

pub mod file;
pub mod hierarchy;

pub mod cpu;
pub mod cpuset;
pub mod freezer;
pub mod io;
pub mod memory;
pub mod pids;

pub mod cgroup;
pub mod controller;
pub mod entrance;
pub mod limits;
pub mod plan;
pub mod remove;
pub mod stats;

pub mod error;
pub mod everyone;
pub mod hints;
pub mod size;

pub mod cpu_more;
pub mod device_program;
pub mod devices;
pub mod hugetlb;
pub mod inner;
pub mod io_weight;
pub mod more;
pub mod network_class;
pub mod oom;
pub mod rdma;
pub mod subtree;
pub mod unified;
pub mod usage;

pub use cgroup::Cgroup;
pub use devices::{Access, DeviceKind, DeviceRule};
pub use entrance::Entrance;
pub use error::Error;
pub use freezer::FreezerState;
pub use hierarchy::{Hierarchies, Hierarchy, Version};
pub use hints::HINTS;
pub use limits::{CpuMax, IoMax, Limits};
pub use more::{IoWeight, More, RdmaMax};
pub use stats::Stats;
