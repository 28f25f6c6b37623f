//! `linux.sysctl`: settings of the kernel that belong to a namespace of the container.
//!
//! A file of `/proc/sys` shows the setting of the namespace that its reader is in, where there is one for each namespace; any other
//! is the machine's. So a setting is allowed when the namespace that it belongs to is in the configuration, made or joined,
//! and is not the host's own. A name is written with dots or with slashes, `net.ipv4.ip_forward` or `net/ipv4/ip_forward`; the
//! first separator says which, and the other then stands for itself: `net.ipv4.conf.eth0/1.forwarding`.
//!
//! See sysctl(8), proc_sys(5); runtime-spec: config-linux.md, "Sysctl".

use std::path::{Component, Path, PathBuf};

use ::namespaces::Kind;
use oci_spec::runtime::Linux;
use step::StepError;

use crate::namespaces::Namespaces;
use crate::{Error, proc};

/// System V's and POSIX's means of communication, beside `fs.mqueue.*`.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// A file of `/proc`, and what is written into it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    path: PathBuf,
    value: String,
}

/// Reads `linux.sysctl`, in the order of the names.
///
/// # Errors
/// [`Error::Config`] for a setting that is not the container's alone.
pub(crate) fn plan(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        let path = path(name);
        if let Err(reason) = check(&path, |kind| namespaces.has(kind)) {
            return Err(Error::config(format!("linux.sysctl.{name}"), reason));
        }
        settings.push(Setting { path: Path::new("sys").join(path), value: value.clone() });
    }
    settings.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(settings)
}

/// With slashes.
fn path(name: &str) -> String {
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name.to_owned(),
        _ => name.chars().map(swapped).collect(),
    }
}

/// What is wrong with it.
fn check(path: &str, has: impl Fn(Kind) -> bool) -> Result<(), String> {
    if path.contains('\0') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it is no name of a setting".to_owned());
    }
    debug_assert!(Path::new(path).components().all(|part| matches!(part, Component::Normal(_))));
    let of = |kind: Kind| match has(kind) {
        true => Ok(()),
        false => Err(format!("it belongs to the {kind} namespace, and the container shares the host's")),
    };
    match path {
        _ if IPC.contains(&path) || path.starts_with("fs/mqueue/") => of(Kind::Ipc),
        _ if path.starts_with("net/") => of(Kind::Network),
        _ if path.starts_with("user/") => of(Kind::User),
        "kernel/domainname" => of(Kind::Uts),
        "kernel/hostname" => Err("`hostname` is the field for it".to_owned()),
        _ => Err("it is not a setting of the container's own namespaces".to_owned()),
    }
}

impl Setting {
    /// Writes it, in the container's root.
    pub(crate) fn apply(&self) -> Result<(), StepError> {
        proc::write(&self.path, &self.value, "a setting of the container's own namespaces")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_says_what_the_other_means() {
        for (name, file) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ] {
            assert_eq!(path(name), file);
        }
    }

    #[test]
    fn each_belongs_to_a_namespace() {
        for (name, kind) in [
            ("net.core.somaxconn", Kind::Network),
            ("net/core/somaxconn", Kind::Network),
            ("kernel.shmmax", Kind::Ipc),
            ("fs.mqueue.msg_max", Kind::Ipc),
            ("kernel.domainname", Kind::Uts),
            ("user.max_mnt_namespaces", Kind::User),
        ] {
            assert!(check(&path(name), |asked| asked == kind).is_ok(), "{name}");
            assert!(check(&path(name), |asked| asked != kind).is_err(), "{name}");
        }
    }

    #[test]
    fn the_machines_are_refused_and_so_is_a_way_out() {
        for name in [
            "kernel.core_pattern",
            "kernel.hostname",
            "vm.swappiness",
            "fs.file-max",
            "net/../kernel/core_pattern",
            "net.//.kernel.core_pattern",
            "net..x",
            "/net/x",
            "net.ipv4.",
            "",
            "net",
        ] {
            assert!(check(&path(name), |_| true).is_err(), "{name:?}");
        }
    }
}
