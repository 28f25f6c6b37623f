//! The harness of the black-box tests: built binaries against the real kernel.
//!
//! A [`Test`] is a name, what it [needs](Need) of the machine, and a function. Each runs in a process of its own, one after
//! another, in private mount, network, uts and ipc namespaces, with a time limit; whatever it leaves running is killed, and
//! is a failure. At its end `kit leaks` must list nothing that it did not list at the start.
//!
//! What is missing on a machine makes a test *skipped, with the reason*, never passed. `KIT_REQUIRE` turns skips into failures:
//!
//! | variable | meaning |
//! |---|---|
//! | `KIT_REQUIRE` | `all`, or a list with commas of the needs (as [`Need`] prints them) that may not be missing |
//! | `KIT_ALLOW_SKIP` | needs that may be missing all the same: `cgroup_v2` stands for each of its controllers |
//! | `KIT_QUICK` | set: leave out what takes long |
//! | `KIT_TIME_LIMIT` | seconds that one test may take, and a command in it a sixth of them if that is more; 300 |
//! | `KIT_RUN` | a folder on a disk in which the tests have their scratch space, instead of a tmpfs |
//! | `KIT_BIN` | the folder with the built binaries; default: where the test itself was built |
//! | `KIT_DIR` | the folder that `cargo kit setup` filled (`rootfs/`, `busybox.tar`, `bin/`); default: `target/kit` |
//!
//! One test: `cargo test -p tests --test kernel -- ch01::escape`. What a test observes is to be the kernel's own word (`/proc`,
//! a cgroup's files, a packet that arrives), from outside or by the probe inside; a program's own output proves nothing.
//!
//! In reading order: [`runner`] (outside the test), [`inside`] (what a test stands in), [`need`], [`host`] (what a test does),
//! [`process`], [`terminal`], [`ask`] (the kernel), [`transcript`] (console blocks of the book).

pub mod ask;
pub mod attacks;
mod cgroups;
pub mod host;
pub mod inside;
mod keeper;
mod kernel;
pub mod need;
pub mod process;
pub mod runner;
pub mod terminal;
pub mod transcript;
pub mod tree;

use std::error::Error;
use std::fmt;

pub use ask::{ns_inode, wait_until};
pub use host::Host;
pub use need::Need;
pub use process::{Child, Cmd, Output};
pub use runner::main;
pub use terminal::Terminal;

/// What a test comes to. A panic (a failed `assert!`) is a failure too.
pub type Outcome = Result<(), Box<dyn Error>>;

/// A black-box test.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// What it shows, prefixed by the file: `ch01::a_hostile_archive_stays_inside`.
    pub name: &'static str,
    /// What the machine must have for it.
    pub needs: &'static [Need],
    /// The test itself.
    pub run: fn(&Host) -> Outcome,
}

/// A test as the runner takes it: a [`Test`], or one that is made at run time.
pub struct Case {
    /// As in [`Test`].
    pub name: String,
    /// As in [`Test`].
    pub needs: Vec<Need>,
    /// The test itself.
    pub run: Box<dyn Fn(&Host) -> Outcome>,
}

impl From<Test> for Case {
    fn from(test: Test) -> Self {
        Self { name: test.name.to_owned(), needs: test.needs.to_vec(), run: Box::new(test.run) }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// Arguments of unlike kinds for [`Host::command`]: `args![host.rootfs()?, "/bin/ls", "/"]`.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { [$(::std::ffi::OsString::from($arg)),*] };
}
