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
//! A capability that the caller lacks itself cannot be given: it is left out, as the specification says, with a warning from
//! [`crate::config`], which also passes over the names that nobody knows.
//!
//! Inheritable is empty by default: a file with inheritable capabilities would give them to any user inside (CVE-2022-24769).
//!
//! See capabilities(7); runtime-spec: config.md, "Linux Process".

use std::fmt;

use caps::Capability as Cap;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};
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

/// The five sets of a process: a bit each, by the kernel's numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sets {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Sets {
    /// A configuration without capabilities gives none.
    pub(crate) fn new(capabilities: Option<&LinuxCapabilities>) -> Self {
        let of = |list: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
            capabilities.map_or(CapabilitySet::empty(), |capabilities| set(list(capabilities)))
        };
        Self {
            bounding: of(LinuxCapabilities::bounding),
            effective: of(LinuxCapabilities::effective),
            permitted: of(LinuxCapabilities::permitted),
            inheritable: of(LinuxCapabilities::inheritable),
            ambient: of(LinuxCapabilities::ambient),
        }
    }

    /// Takes everything out of the bounding set that is not to be in it. While the process is still root.
    ///
    /// To ask first what it holds would cost as many calls as to drop what it does not hold.
    pub(crate) fn drop_bounding(&self) -> Result<(), StepError> {
        let kept = self.bounding.bits().count_ones();
        step(
            "prctl",
            format_args!("PR_CAPBSET_DROP all but {kept}"),
            "what is not in the bounding set cannot come back, not even by a set-user-id program",
        )
        .run(|| {
            for one in each(CapabilitySet::from_bits_retain(!self.bounding.bits())) {
                match remove_capability_from_bounding_set(one) {
                    // The first that this kernel does not know.
                    Err(Errno::INVAL) => break,
                    // Without CAP_SETPCAP, where the caller's set lacks it already.
                    Err(Errno::PERM) if !capability_is_in_bounding_set(one)? => {}
                    other => other?,
                }
            }
            Ok::<_, Errno>(())
        })
    }

    /// Sets the other four. When the user is changed; with `PR_SET_KEEPCAPS`, so that permitted is still full.
    pub(crate) fn apply(&self) -> Result<(), StepError> {
        let own = capabilities(None).map_err(|errno| StepError::new("capget", "", errno))?.permitted;
        let permitted = self.permitted & own;
        let sets = CapabilitySets {
            effective: self.effective & permitted,
            permitted,
            inheritable: self.inheritable & own,
        };
        step(
            "capset",
            format_args!(
                "effective {} permitted {} inheritable {}",
                Names(sets.effective),
                Names(permitted),
                Names(sets.inheritable)
            ),
            "root's powers, and no more of them than were asked for",
        )
        .run(|| set_capabilities(None, sets))?;
        // What was ambient before and is not inheritable now has gone with that.
        if sets.inheritable.is_empty() {
            return Ok(());
        }
        let ambient = self.ambient & permitted & sets.inheritable;
        step(
            "prctl",
            format_args!("PR_CAP_AMBIENT {}", Names(ambient)),
            "what a program gets that is neither root's nor set-user-id",
        )
        .run(|| {
            clear_ambient_capability_set()?;
            each(ambient).try_for_each(|one| configure_capability_in_ambient_set(one, true))
        })
    }
}

/// Those that are asked for, and that this process lacks itself: their names, or nothing.
pub(crate) fn not_held(asked: &LinuxCapabilities) -> String {
    let Ok(own) = capabilities(None) else { return String::new() };
    let lacking = set(asked.permitted()) & !own.permitted;
    if lacking.is_empty() { String::new() } else { Names(lacking).to_string() }
}

fn set(list: &Option<Capabilities>) -> CapabilitySet {
    let bits = list.iter().flatten().filter_map(|name| kernels(*name)).map(|cap| cap.bitmask());
    CapabilitySet::from_bits_retain(bits.fold(0, |all, bit| all | bit))
}

/// One after another, also those that have no name yet.
fn each(set: CapabilitySet) -> impl Iterator<Item = CapabilitySet> {
    let bits = set.bits();
    (0..64).map(|number| 1 << number).filter(move |bit| bits & bit != 0).map(CapabilitySet::from_bits_retain)
}

fn kernels(name: Capability) -> Option<Cap> {
    format!("CAP_{name}").parse().ok()
}

/// For whoever reads: `chown,kill`, or `none`.
struct Names(CapabilitySet);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = caps::all().into_iter().filter(|cap| self.0.bits() & cap.bitmask() != 0);
        let mut list: Vec<_> =
            named.map(|cap| cap.to_string().trim_start_matches("CAP_").to_lowercase()).collect();
        list.sort();
        f.write_str(if list.is_empty() { "none" } else { "" })?;
        f.write_str(&list.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_fourteen_are_the_mask_that_proc_shows() {
        assert_eq!(format!("{:016x}", set(&Some(docker_default())).bits()), "00000000a80425fb");
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

    #[test]
    fn a_set_is_told_by_its_names() {
        let two = [Capability::Kill, Capability::Chown].into_iter().collect();
        assert_eq!(Names(set(&Some(two))).to_string(), "chown,kill");
        assert_eq!(Names(CapabilitySet::empty()).to_string(), "none");
        assert_eq!(each(CapabilitySet::from_bits_retain(1 << 63 | 1)).count(), 2);
    }
}
