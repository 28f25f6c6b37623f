//! `process.capabilities`: which of root's powers the container's program has.
//!
//! Root's power is divided into some forty capabilities, and a process has five sets of them: what counts now (*effective*),
//! what it may make count (*permitted*), what survives an exec (*inheritable*, and *ambient* for programs that know nothing of
//! it), and what it can ever get back, also through a set-user-id program (*bounding*). A container's root is root with a small
//! bounding set.
//!
//! What the kernel requires, and so the order: 1. leaving the bounding set needs `CAP_SETPCAP`, so it is done first;
//! 2. a change from uid 0 to another clears permitted and effective, unless `PR_SET_KEEPCAPS` is set before it; 3. no set may hold
//! more than permitted, so permitted is lowered last; 4. ambient needs permitted *and* inheritable, so it comes after both.
//! `Sets::drop_bounding`, then `process` changes the user, then `Sets::apply`.
//!
//! A capability that the caller lacks itself cannot be given: it is left out, as the specification says.
//!
//! Inheritable is empty by default: a file with inheritable capabilities would give them to any user inside (CVE-2022-24769).
//!
//! See capabilities(7); runtime-spec: config.md, "Linux Process".

use std::io;

use caps::{CapSet, Capability as Cap, CapsHashSet};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use step::{StepError, step};

/// What Docker gives: enough to install packages, to serve on port 80 and to change users; nothing over the machine.
const DOCKER: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Docker's default set of fourteen.
pub fn docker_default() -> Capabilities {
    DOCKER.into_iter().collect()
}

/// All that there are, for Docker's `--privileged` and `--cap-add ALL`.
pub fn all() -> Capabilities {
    caps::all().into_iter().filter_map(|cap| cap.to_string().strip_prefix("CAP_")?.parse().ok()).collect()
}

/// The five sets of a process, as the kernel's numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sets {
    bounding: CapsHashSet,
    effective: CapsHashSet,
    permitted: CapsHashSet,
    inheritable: CapsHashSet,
    ambient: CapsHashSet,
}

impl Sets {
    /// A configuration without capabilities gives none.
    pub(crate) fn new(capabilities: Option<&LinuxCapabilities>) -> Self {
        let Some(capabilities) = capabilities else { return Self::default() };
        let set =
            |list: &Option<Capabilities>| list.iter().flatten().filter_map(|name| kernels(*name)).collect();
        Self {
            bounding: set(capabilities.bounding()),
            effective: set(capabilities.effective()),
            permitted: set(capabilities.permitted()),
            inheritable: set(capabilities.inheritable()),
            ambient: set(capabilities.ambient()),
        }
    }

    /// Takes everything out of the bounding set that is not to be in it. While the process is still root.
    pub(crate) fn drop_bounding(&self) -> Result<(), StepError> {
        let mut dropped: Vec<_> =
            caps::runtime::thread_all_supported().difference(&self.bounding).copied().collect();
        dropped.sort_by_key(Cap::index);
        step(
            "prctl",
            format_args!("PR_CAPBSET_DROP {} of {}", dropped.len(), dropped.len() + self.bounding.len()),
            "what is not in the bounding set cannot come back, not even by a set-user-id program",
        )
        .run(|| dropped.iter().try_for_each(|cap| errno(caps::drop(None, CapSet::Bounding, *cap))))
    }

    /// Sets the other four. When the user is changed; with `PR_SET_KEEPCAPS`, so that permitted is still full.
    pub(crate) fn apply(&self) -> Result<(), StepError> {
        let own = step("capget", format_args!(""), "a capability that this process lacks cannot be given")
            .run(|| errno(caps::read(None, CapSet::Permitted)))?;
        let have = |set: &CapsHashSet| set.intersection(&own).copied().collect::<CapsHashSet>();
        let sets = [
            (CapSet::Inheritable, have(&self.inheritable)),
            (CapSet::Effective, have(&self.effective.intersection(&self.permitted).copied().collect())),
            (CapSet::Permitted, have(&self.permitted)),
        ];
        for (kind, set) in &sets {
            step(
                "capset",
                format_args!("{kind:?} {}", names(set)),
                "root's powers, and no more of them than were asked for",
            )
            .run(|| errno(caps::set(None, *kind, set)))?;
        }
        let ambient: CapsHashSet = have(&self.ambient).intersection(&sets[0].1).copied().collect();
        step(
            "prctl",
            format_args!("PR_CAP_AMBIENT {}", names(&ambient)),
            "what a program gets that is neither root's nor set-user-id",
        )
        .run(|| errno(caps::set(None, CapSet::Ambient, &ambient)))?;
        Ok(())
    }
}

/// The caps crate tells what went wrong as text; the number is still where the kernel's answer was left.
fn errno<T>(result: Result<T, caps::errors::CapsError>) -> io::Result<T> {
    result.map_err(|_| io::Error::last_os_error())
}

fn kernels(name: Capability) -> Option<Cap> {
    format!("CAP_{name}").parse().ok()
}

fn names(set: &CapsHashSet) -> String {
    let mut list: Vec<_> =
        set.iter().map(|cap| cap.to_string().trim_start_matches("CAP_").to_lowercase()).collect();
    list.sort();
    if list.is_empty() { "none".to_owned() } else { list.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_fourteen_are_the_mask_that_proc_shows() {
        let sets =
            Sets { bounding: docker_default().into_iter().filter_map(kernels).collect(), ..Sets::default() };
        let mask = sets.bounding.iter().fold(0, |mask, cap| mask | cap.bitmask());
        assert_eq!(format!("{mask:016x}"), "00000000a80425fb");
    }

    #[test]
    fn the_specifications_names_and_the_kernels_are_the_same_set() {
        assert_eq!(all().len(), caps::all().len());
        assert!(all().into_iter().all(|name| kernels(name).is_some()));
    }

    #[test]
    fn no_capabilities_in_the_configuration_are_no_capabilities() {
        assert!(Sets::new(None).bounding.is_empty());
    }
}
