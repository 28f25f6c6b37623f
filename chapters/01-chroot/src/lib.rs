//! Chapter 1: a root directory of its own for a process.
//!
//! What looks like another machine from inside, its `/bin`, its `/etc`, its libraries, is a folder on the host. A root file
//! system is fetched as a tar archive, [unpacked](mod@unpack) into a folder, [entered](mod@enter) with chroot(2), and a [command]
//! runs in it. That is the first half of a container image and the oldest form of a container, from 1979.
//!
//! It changes one thing alone: how a path that begins with `/` is looked up. Processes, host name, network and users are still
//! the host's, and whoever is root inside [walks out](../../examples/escape.rs): chapter 2 mends both.
//!
//! In reading order: [`inside`], [`archive`] with [`sparse`] and the PAX records, [`mod@unpack`], [`mod@enter`], [`command`].
//!
//! Borrowed from chapter 2: [`user`], by which an ordinary user may call chroot(2) at all.
//!
//! Beside the story: [`error`], [`hints`].

pub mod archive;
pub mod inside;
mod pax;
pub mod sparse;
pub mod unpack;

pub mod enter;

pub mod command;

pub mod user;

pub mod error;
pub mod hints;

pub use command::Command;
pub use enter::enter;
pub use error::Error;
pub use hints::HINTS;
pub use unpack::{Unpack, unpack};
