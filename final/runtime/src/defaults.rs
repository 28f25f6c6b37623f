//! What a container gets when nobody asks for anything else: Docker's defaults.
//!
//! The result is a complete `config.json`, written into the bundle as it is: what a container was made of can be read with `jq`.
//! The sets themselves are beside their mechanisms: [`crate::capabilities::docker_default`],
//! [`crate::seccomp::profile::docker_default`]; here are mounts, paths and namespaces.
//!
//! Facts: the documentation of `docker run`, and a running container's `/proc/self/mountinfo` and `/proc/self/status`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capabilities, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxIdMapping, LinuxNamespace,
    LinuxNamespaceType, LinuxResources, Mount, PosixRlimit, Process, Root, Spec, User,
};

use crate::{capabilities, seccomp};

/// Files and directories that tell of, or speak to, the machine as a whole: covered.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Settings of the machine: to be seen, not to be changed.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What of the defaults a container has of its own. At the least, fill in `args`.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// The container's id: its cgroup is `/sampan/<id>`. Empty: whoever makes the container decides.
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
    /// Whether set-user-id programs give nothing. Docker's default is false: `su` and `ping` are to work.
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
    /// User ids: not empty means a user namespace.
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
    /// The configuration. `root.path` is `rootfs`, below the bundle.
    pub fn spec(self) -> Spec {
        let mut root = Root::default();
        root.set_readonly(Some(self.readonly_root));
        let mut spec = Spec::default();
        spec.set_version("1.2.0".to_owned())
            .set_root(Some(root))
            .set_hostname(self.hostname.clone())
            .set_process(Some(self.process()))
            .set_mounts(Some(self.all_mounts()))
            .set_linux(Some(self.linux()));
        spec
    }

    fn capabilities(&self) -> Capabilities {
        match (&self.capabilities, self.privileged) {
            (Some(chosen), _) => chosen.clone(),
            (None, true) => capabilities::all(),
            (None, false) => capabilities::docker_default(),
        }
    }

    fn process(&self) -> Process {
        let set = self.capabilities();
        let mut capabilities = LinuxCapabilities::default();
        // Inheritable and ambient stay empty: see `crate::capabilities`.
        capabilities
            .set_bounding(Some(set.clone()))
            .set_effective(Some(set.clone()))
            .set_permitted(Some(set))
            .set_inheritable(None)
            .set_ambient(None);
        let cwd = if self.cwd.as_os_str().is_empty() { PathBuf::from("/") } else { self.cwd.clone() };
        let mut process = Process::default();
        process
            .set_terminal(Some(self.terminal))
            .set_user(self.user.clone())
            .set_args(Some(self.args.clone()))
            .set_env(Some(self.env.clone()))
            .set_cwd(cwd)
            .set_capabilities(Some(capabilities))
            .set_rlimits((!self.rlimits.is_empty()).then(|| self.rlimits.clone()))
            .set_no_new_privileges(Some(self.no_new_privileges))
            .set_oom_score_adj(self.oom_score_adj);
        process
    }

    fn all_mounts(&self) -> Vec<Mount> {
        let own = |mount: &Mount| self.mounts.iter().any(|other| other.destination() == mount.destination());
        let defaults = default_mounts(self.privileged).into_iter().filter(|mount| !own(mount));
        defaults.chain(self.mounts.iter().cloned()).collect()
    }

    fn linux(&self) -> Linux {
        let mut linux = Linux::default();
        let mut resources = self.resources.clone().unwrap_or_default();
        let mut devices = LinuxDeviceCgroup::default();
        devices.set_allow(self.privileged).set_access(Some("rwm".to_owned()));
        resources.set_devices(Some(vec![devices]));
        let paths =
            |list: &[&str]| (!self.privileged).then(|| list.iter().map(|path| (*path).to_owned()).collect());
        linux
            .set_namespaces(Some(self.namespaces()))
            .set_uid_mappings((!self.uid_mappings.is_empty()).then(|| self.uid_mappings.clone()))
            .set_gid_mappings((!self.gid_mappings.is_empty()).then(|| self.gid_mappings.clone()))
            .set_cgroups_path((!self.id.is_empty()).then(|| Path::new("/sampan").join(&self.id)))
            .set_resources(Some(resources))
            .set_devices(None)
            .set_seccomp((!self.privileged).then(|| seccomp::profile::docker_default(&self.capabilities())))
            .set_masked_paths(paths(&MASKED))
            .set_readonly_paths(paths(&READONLY));
        linux
    }

    fn namespaces(&self) -> Vec<LinuxNamespace> {
        let mut kinds = vec![
            (LinuxNamespaceType::Mount, None),
            (LinuxNamespaceType::Pid, None),
            (LinuxNamespaceType::Ipc, None),
            (LinuxNamespaceType::Cgroup, None),
        ];
        if self.hostname.is_some() {
            kinds.push((LinuxNamespaceType::Uts, None));
        }
        match &self.network {
            NetworkNamespace::New => kinds.push((LinuxNamespaceType::Network, None)),
            NetworkNamespace::Host => {}
            NetworkNamespace::Path(path) => kinds.push((LinuxNamespaceType::Network, Some(path.clone()))),
        }
        if !self.uid_mappings.is_empty() {
            kinds.push((LinuxNamespaceType::User, None));
        }
        kinds.into_iter().map(|(kind, path)| namespace(kind, path)).collect()
    }
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}

/// The file systems that Docker mounts into each container, in their order.
fn default_mounts(privileged: bool) -> Vec<Mount> {
    let sys: &[&str] =
        if privileged { &["nosuid", "noexec", "nodev"] } else { &["nosuid", "noexec", "nodev", "ro"] };
    [
        ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"][..]),
        ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        ("/sys", "sysfs", "sysfs", sys),
        ("/sys/fs/cgroup", "cgroup", "cgroup", sys),
        ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ]
    .into_iter()
    .map(|(destination, typ, source, options)| {
        let mut mount = Mount::default();
        mount
            .set_destination(destination.into())
            .set_typ(Some(typ.to_owned()))
            .set_source(Some(source.into()))
            .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
        mount
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(spec: &Spec) -> Vec<LinuxNamespaceType> {
        let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone());
        namespaces.into_iter().flatten().map(|namespace| namespace.typ()).collect()
    }

    #[test]
    fn the_configuration_reads_back_as_it_was_written() {
        let defaults =
            Defaults { args: vec!["true".into()], hostname: Some("h".into()), ..Defaults::default() };
        let spec = defaults.spec();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec);
        assert!(kinds(&spec).contains(&LinuxNamespaceType::Network));
        assert!(!kinds(&spec).contains(&LinuxNamespaceType::User));
    }

    #[test]
    fn privileged_takes_every_fence_away() {
        let spec = Defaults { privileged: true, ..Defaults::default() }.spec();
        let linux = spec.linux().as_ref().unwrap();
        assert!(
            linux.seccomp().is_none() && linux.masked_paths().is_none() && linux.readonly_paths().is_none()
        );
        let bounding = spec.process().as_ref().unwrap().capabilities().as_ref().unwrap().bounding().clone();
        assert_eq!(bounding.unwrap().len(), capabilities::all().len());
    }

    #[test]
    fn a_mount_of_the_users_takes_the_place_of_a_default() {
        let mut shm = Mount::default();
        shm.set_destination("/dev/shm".into()).set_source(Some("/tmp".into()));
        let spec = Defaults { mounts: vec![shm], ..Defaults::default() }.spec();
        let at: Vec<_> =
            spec.mounts().iter().flatten().filter(|m| m.destination() == Path::new("/dev/shm")).collect();
        assert_eq!((at.len(), at[0].source().as_deref()), (1, Some(Path::new("/tmp"))));
    }

    #[test]
    fn the_hosts_network_and_name_are_no_namespaces() {
        let spec = Defaults { network: NetworkNamespace::Host, ..Defaults::default() }.spec();
        assert!(
            !kinds(&spec).contains(&LinuxNamespaceType::Network)
                && !kinds(&spec).contains(&LinuxNamespaceType::Uts)
        );
    }
}
