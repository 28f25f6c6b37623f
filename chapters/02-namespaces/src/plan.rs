//! Plan a container: what it shares with the host, and what follows from that.
//!
//! Root has its ids shifted: root inside is an id without rights outside. Its files, though, belong to the host's root, and
//! would be nobody's inside; so the rootfs is made a mount of its own whose owners are shown through the same map. Some file
//! systems cannot do that ([`cannot_map`]): then [`crate::Maps::identity`] is what is left.
//!
//! An ordinary user owns the rootfs and is root inside: nothing is to be shifted.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use step::StepError;

use crate::{Config, Error, Inside, Kind, Maps, Rootfs, container_mounts, new_root};

/// The host name of a container that was given none.
pub const HOSTNAME: &str = "sampan";

/// A container with the tree under `rootfs` as its root and all namespaces its own, except those in `share`: what the runtime
/// process is to do and what the init process is to do.
///
/// # Errors
/// [`Error::NoRootfs`]; [`Error::Shared`] for what cannot be done in a namespace of the host's; else the step that failed.
pub fn container(
    rootfs: &Path,
    share: &[Kind],
    hostname: Option<&str>,
    maps: &Maps,
) -> Result<(Config, Inside), Error> {
    let new: Vec<_> = Kind::ALL.into_iter().filter(|kind| !share.contains(kind)).collect();
    if !new.contains(&Kind::Mount) {
        return Err(Error::Shared(Kind::Mount, "pivot_root would take away the host's root"));
    }
    if !new.contains(&Kind::Uts) && hostname.is_some() {
        return Err(Error::Shared(Kind::Uts, "--hostname would rename the host"));
    }
    if !rootfs.is_dir() {
        return Err(Error::NoRootfs(rootfs.to_owned()));
    }
    let mut config = Config { new: new.clone(), die_with_parent: true, ..Config::default() };
    let mut root = Rootfs::Directory(rootfs.to_owned());
    let mut tty_group = true;
    if new.contains(&Kind::User) {
        (config.uid_map, config.gid_map) = (maps.uid.clone(), maps.gid.clone());
        tty_group = maps.has_tty_group();
        if maps.shifted() {
            let mount = new_root::detached(rootfs)?;
            let same = mount.as_fd().try_clone_to_owned();
            config.mapped_mounts.push(same.map_err(|error| StepError::new("dup", "", error))?);
            root = Rootfs::Detached(mount);
        }
    }
    let name = new.contains(&Kind::Uts).then(|| hostname.unwrap_or(HOSTNAME).to_owned());
    let mounts = container_mounts(&new, tty_group);
    Ok((config, Inside { rootfs: root, new, mounts, hostname: name }))
}

/// What a user is told then.
pub const CANNOT_MAP: &str = "the file system of the rootfs cannot show its files under other ids: root inside has the host's root's id, without its capabilities";

/// Whether `error` says that the file system of the rootfs cannot be shown under other ids (an overlay, a network file system,
/// a kernel before 5.12).
pub fn cannot_map(error: &Error) -> bool {
    let Error::Step(step) = error else { return false };
    step.call() == "mount_setattr"
        && step.operands().starts_with("MOUNT_ATTR_IDMAP")
        && matches!(step.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shared_is_refused_before_anything_is_made() {
        let plan = |share: &[Kind], name| container(Path::new("/"), share, name, &Maps::default());
        assert!(matches!(plan(&[Kind::Mount], None), Err(Error::Shared(Kind::Mount, _))));
        assert!(matches!(plan(&[Kind::Uts], Some("x")), Err(Error::Shared(Kind::Uts, _))));
        assert!(matches!(
            container(Path::new("/nowhere"), &[], None, &Maps::default()),
            Err(Error::NoRootfs(_))
        ));
    }

    #[test]
    fn a_shared_host_name_is_left_alone() {
        let (config, inside) = container(Path::new("/"), &[Kind::Uts], None, &Maps::identity()).unwrap();
        assert!(!config.new.contains(&Kind::Uts) && inside.hostname.is_none());
    }
}
