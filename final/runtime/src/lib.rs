//! An OCI runtime: it turns a configuration (runtime-spec's `config.json`) into a process, out of the chapters' crates.
//!
//! The chapters own the mechanisms; here is the policy: what the specification's fields mean, and in which order they are
//! applied. One file a mechanism, so that from a field to the kernel's call there are three hops:
//!
//! | file | field | mechanism |
//! |---|---|---|
//! | `namespaces` | `linux.namespaces`, `uidMappings` | chapter 2 |
//! | `mounts`, `mount_options`, `cgroup_mounts`, `masked`, `devices`, `root_fs` | `mounts`, `maskedPaths`, `readonlyPaths`, `devices`, `root`, `rootfsPropagation` | chapters 2 and 4 |
//! | [`cgroups`], `resources`, [`systemd`] | `linux.cgroupsPath`, `linux.resources` | chapter 3 |
//! | `net_devices` | `linux.netDevices` | chapter 5 |
//! | `stdio` | `process.terminal` | chapter 2 |
//! | [`hooks`] | `hooks` | here |
//! | `process`, `environment`, [`capabilities`], [`seccomp`] | `process`, `linux.seccomp`, `linux.personality` | here |
//! | `scheduler`, `memory_policy` | `scheduler`, `ioPriority`, `execCPUAffinity`, `linux.memoryPolicy` | here |
//! | `labels`, `sysctl` | `apparmorProfile`, `selinuxLabel`, `linux.mountLabel`, `linux.sysctl` | here |
//!
//! [`create()`] makes the container and stops before the user's program; [`Container::start`] lets it run; [`exec()`] starts one
//! more process in it. [`defaults`] says what a container gets when nobody asks for anything else.
//!
//! In reading order: [`config`], [`defaults`], [`create`](mod@create), `init`, `program`, then the mechanisms, then [`exec`](mod@exec).
//! Beside them: [`own_exe`], which keeps a container's hands off the program that started it.
//! And [`idle`], by which a process that only waits takes little memory.
//!
//! See the runtime-spec: config.md, config-linux.md, runtime.md.

pub mod config;
pub mod defaults;

pub mod container;
pub mod create;
mod init;
mod program;

mod cgroup_mounts;
pub mod cgroups;
mod devices;
mod masked;
pub mod mount_options;
mod mount_sources;
mod mounts;
mod namespaces;
mod net_devices;
mod proc;
mod resources;
mod root_fs;
mod stdio;
pub mod systemd;

pub mod capabilities;
mod environment;
mod labels;
mod memory_policy;
mod process;
mod scheduler;
pub mod seccomp;
mod sysctl;

pub mod exec;
pub mod hooks;
pub mod idle;

pub mod error;
pub mod hints;
pub mod own_exe;

mod syscalls;

pub use container::{Container, Ended, Started};
pub use create::{Create, Network, Options, Rootfs, Stdio, WindowSize, create};
pub use defaults::Defaults;
pub use error::Error;
pub use exec::{Exec, ExecOptions, exec};
pub use hints::HINTS;
