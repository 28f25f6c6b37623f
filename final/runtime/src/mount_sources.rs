//! Sources of mounts that the runtime process opens before the clone, while it is the host's root.
//!
//! Two kinds of bind mounts cannot be left to the init process: 1. where root inside is somebody else outside, it may not be able
//! to walk to the source; 2. to show the owners of files under other ids takes a right over the file system itself. A mount
//! that is opened here is part of no mount table, and the descriptor goes along into the clone.
//!
//! What the kernel makes of it: attributes that the host has set on such a mount are not locked inside.
//!
//! See open_tree(2), mount_setattr(2), user_namespaces(7); runtime-spec: config.md, "POSIX-platform Mounts".

use std::os::fd::{AsFd as _, OwnedFd};

use ::namespaces::mounts::{Change, Propagation, Source, cloned};
use ::namespaces::{Maps, mapped_ids};
use oci_spec::runtime::Mount as Entry;
use step::step;

use crate::Error;
use crate::mount_options::Options;
use crate::mounts::{BOUND, Plan};
use crate::namespaces::{Namespaces, maps};

/// A mount that shows owners through other ids.
#[derive(Debug)]
pub(crate) struct IdMapped {
    mount: usize,
    maps: Maps,
    recursive: bool,
}

/// The maps of a mount, if it has any: its own, or the container's.
pub(crate) fn id_mapped(
    entry: &Entry,
    options: &Options,
    namespaces: &Namespaces,
    mount: usize,
) -> Option<Result<IdMapped, &'static str>> {
    let own = Maps { uid: maps(entry.uid_mappings().as_deref()), gid: maps(entry.gid_mappings().as_deref()) };
    let asked = options.id_map.is_some() || !own.uid.is_empty() || !own.gid.is_empty();
    let maps = if own == Maps::default() { namespaces.id_maps() } else { own };
    let recursive = options.id_map.unwrap_or(false);
    asked.then(|| {
        if maps.uid.is_empty() || maps.gid.is_empty() {
            return Err(
                "idmap needs uidMappings and gidMappings, of the mount or of a user namespace of the container's own",
            );
        }
        Ok(IdMapped { mount, maps, recursive })
    })
}

/// Opens before the clone what the init process could not: sources that are reachable for the host's root alone, where root
/// inside is somebody else; and mounts with mapped ids, which take a right over the file system itself.
///
/// # Errors
/// The step that failed.
pub(crate) fn open(plan: &mut Plan, namespaces: &Namespaces) -> Result<(), Error> {
    let shifted = namespaces.shifted() && nix::unistd::geteuid().is_root();
    if !shifted && plan.id_maps.is_empty() {
        return Ok(());
    }
    for (at, mount) in plan.mounts.iter_mut().enumerate() {
        let mapped = plan.id_maps.iter().any(|map| map.mount == at);
        let Source::Bind { path, recursive } = &mount.source else { continue };
        if !(shifted && path.is_absolute() && mount.why == BOUND || mapped) {
            continue;
        }
        let tree = step(
            "open_tree",
            format_args!("{} OPEN_TREE_CLONE", path.display()),
            "while this process is the host's root: inside it would be nobody here",
        )
        .run(|| cloned(path, *recursive))?;
        let hears =
            mount.more.changes.iter().any(|change| change.propagation.is_some_and(Propagation::hears));
        if !hears {
            // It is a copy of the host's own mount, and no longer of the one in the container's mount namespace.
            let propagation = Some(Propagation::Private);
            mount.more.changes.insert(0, Change { propagation, recursive: true, ..Change::default() });
        }
        mount.source = Source::Detached(tree);
    }
    show_ids(plan)
}

fn show_ids(plan: &Plan) -> Result<(), Error> {
    let mut made: Vec<(&Maps, OwnedFd)> = Vec::new();
    for IdMapped { mount, maps, recursive } in &plan.id_maps {
        let at = match made.iter().position(|(other, _)| *other == maps) {
            Some(at) => at,
            None => {
                made.push((maps, mapped_ids::user_namespace(maps)?));
                made.len() - 1
            }
        };
        let mount = &plan.mounts[*mount];
        if let Source::Detached(tree) = &mount.source {
            let target = mount.target.display().to_string();
            mapped_ids::show(tree.as_fd(), made[at].1.as_fd(), *recursive, &target)?;
        }
    }
    Ok(())
}
