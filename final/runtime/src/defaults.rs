//! What a container gets when nobody asks for anything else: Docker's defaults.

use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, LinuxIdMapping, LinuxResources, Mount, PosixRlimit, Spec, User};

/// What of the defaults a container has of its own; `Defaults::default()` is a root shell's worth of nothing: fill in `args`.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// The container's id: its cgroup is `/sampan/<id>`.
    pub id: String,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The whole environment, as `NAME=value`.
    pub env: Vec<String>,
    /// The working directory; `/` where it is empty.
    pub cwd: PathBuf,
    /// Numbers, not names: the engine looks those up.
    pub user: User,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// The host name; none keeps the host's UTS namespace.
    pub hostname: Option<String>,
    /// Capabilities; none means [`crate::capabilities::docker_default`].
    pub capabilities: Option<Capabilities>,
    /// Whether set-user-id programs give nothing.
    pub no_new_privileges: bool,
    /// Docker's `--privileged`: all capabilities, no seccomp filter, nothing masked or read-only.
    pub privileged: bool,
    /// Which network namespace.
    pub network: NetworkNamespace,
    /// Mounts in addition to the defaults; one with a default's destination takes its place.
    pub mounts: Vec<Mount>,
    /// Whether the root file system is read-only.
    pub readonly_root: bool,
    /// Limits of the cgroup.
    pub resources: Option<LinuxResources>,
    /// Limits of the process (setrlimit(2)).
    pub rlimits: Vec<PosixRlimit>,
    /// The badness that the out-of-memory killer adds, -1000 to 1000; none leaves the caller's.
    pub oom_score_adj: Option<i32>,
    /// User and group ids: not empty means a user namespace.
    pub uid_mappings: Vec<LinuxIdMapping>,
    /// The same for groups.
    pub gid_mappings: Vec<LinuxIdMapping>,
}

/// Whose network a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// Its own.
    #[default]
    New,
    /// The host's.
    Host,
    /// The one that this file stands for: `/proc/<pid>/ns/net`.
    Path(PathBuf),
}

impl Defaults {
    /// The configuration: `root.path` is `rootfs`, all else as the fields say.
    pub fn spec(self) -> Spec {
        Spec::default()
    }
}
