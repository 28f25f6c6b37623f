//! An OCI runtime: it turns a configuration (runtime-spec's `config.json`) into a process, out of the chapters' crates.
//!
//! The chapters own the mechanisms; here is the policy: what the specification's fields mean, and in which order they are
//! applied. One file a mechanism, so that from a field to the kernel's call there are three hops:
//!
//! | file | field | mechanism |
//! |---|---|---|
//! | `namespaces` | `linux.namespaces`, `uidMappings` | chapter 2 |
//! | `mounts`, `masked` | `mounts`, `linux.maskedPaths`, `readonlyPaths`, `root.readonly` | chapters 2 and 4 |
//! | `cgroups` | `linux.resources`, `cgroupsPath` | chapter 3 |
//! | `capabilities`, `seccomp`, `process` | `process`, `linux.seccomp` | here |
//!
//! [`create`] makes the container and stops before the user's program; [`Container::start`] lets it run; [`exec()`] starts one
//! more process in it. [`defaults`] says what a container gets when nobody asks for anything else.
//! In reading order: [`defaults`], [`create`](mod@create), `init`, then the mechanisms, then [`exec`](mod@exec).
//!
//! See the runtime-spec: config.md, config-linux.md, runtime.md.

pub mod capabilities;
pub mod create;
pub mod defaults;
pub mod error;
pub mod exec;
mod masked;
pub mod pending;
mod process;
pub mod seccomp;

pub use create::{Container, Create, Ended, Network, Rootfs, Started, Stdio, WindowSize, create};
pub use defaults::Defaults;
pub use error::Error;
pub use exec::{Exec, exec};
