//! The systemd driver: a container's cgroup as a *scope*, a unit of systemd's for processes that somebody else starts.
//!
//! On a host whose cgroups systemd keeps, nobody else is to make any outside of a part that was *delegated*. So systemd is
//! asked for a scope with `Delegate=yes`: below it the tree is ours, and the limits are told to systemd as well, as properties of the
//! unit, for it writes them anew whenever it is reloaded.
//!
//! What systemd requires: a scope is made around a process that is there, and ends with the last one in it. The container's first
//! process is cloned *into* its cgroup, which must be there before; so a process that only waits holds the scope open for
//! that moment. Order: fork the holder -> `StartTransientUnit` -> wait for the job's end -> ask where the cgroup is -> limits -> the
//! container is cloned into it -> the holder goes. An ordinary user's manager does the same with the user's own part of the tree,
//! and there the runtime first moves into that part itself.
//!
//! More of the scope's properties can be given in annotations (`org.systemd.property.NAME`).
//!
//! With version 2, alone or beside version 1: systemd knows the processes of a scope by it.
//! Not covered: names that end in `.slice`, for which other runtimes make no scope.
//!
//! See systemd.scope(5), systemd.resource-control(5), org.freedesktop.systemd1(5); systemd.io/CGROUP_DELEGATION.

#[cfg(feature = "systemd")]
mod annotations;
#[cfg(feature = "systemd")]
mod bus;
#[cfg(feature = "systemd")]
mod holder;
#[cfg(feature = "systemd")]
mod manager;
#[cfg(feature = "systemd")]
mod properties;
#[cfg(feature = "systemd")]
mod variant;
#[cfg(feature = "systemd")]
pub mod wire;

use std::path::Path;

#[cfg(feature = "systemd")]
pub(crate) use holder::Holder;
#[cfg(feature = "systemd")]
pub(crate) use manager::{come_near, create, find, stop, update};

use crate::Error;

/// A scope: `slice:prefix:name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// The slice that it is in; empty for the one that systemd takes for itself.
    pub(crate) slice: String,
    /// `prefix-name.scope`
    pub(crate) name: String,
}

impl Unit {
    /// Reads a `cgroupsPath`; none where it has not three parts, and is a path.
    pub(crate) fn parse(path: &Path) -> Result<Option<Self>, Error> {
        let text = path.to_string_lossy();
        let parts: Vec<_> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else { return Ok(None) };
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-@\\".contains(c));
        let is_slice = slice.is_empty() || slice.ends_with(".slice");
        if name.is_empty() || !is_slice || name.ends_with(".slice") || !parts.iter().all(|part| plain(part)) {
            let reason = format!("{text:?} is no slice:prefix:name of systemd, as in system.slice:sampan:c1");
            return Err(Error::config("linux.cgroupsPath", reason));
        }
        let name = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        Ok(Some(Self { slice: slice.to_owned(), name }))
    }
}

#[cfg(not(feature = "systemd"))]
mod without {
    //! Built without the feature: whoever asks for it is told.

    use std::collections::HashMap;
    use std::path::PathBuf;

    use ::cgroups::{Cgroup, Hierarchies, Limits};

    use super::Unit;
    use crate::Error;

    /// Nothing is held.
    #[derive(Debug)]
    pub(crate) struct Holder;

    impl Drop for Holder {
        fn drop(&mut self) {}
    }

    fn missing<T>() -> Result<T, Error> {
        Err(Error::Systemd("this runtime was built without it: cargo build --features systemd".to_owned()))
    }

    pub(crate) fn come_near(_: &Hierarchies) -> Result<(), Error> {
        missing()
    }

    pub(crate) fn create(
        _: &Unit,
        _: &Limits,
        _: Option<&HashMap<String, String>>,
    ) -> Result<(Cgroup, Holder), Error> {
        missing()
    }

    pub(crate) fn find(_: &Unit) -> Result<Option<PathBuf>, Error> {
        missing()
    }

    pub(crate) fn update(_: &Unit, _: &Limits) -> Result<(), Error> {
        missing()
    }

    pub(crate) fn stop(_: &Unit) -> Result<(), Error> {
        missing()
    }
}

#[cfg(not(feature = "systemd"))]
pub(crate) use without::{Holder, come_near, create, find, stop, update};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_three_parts() {
        let unit = |path: &str| Unit::parse(Path::new(path));
        let expected = Unit { slice: "a-b.slice".into(), name: "p-n.scope".into() };
        assert_eq!(unit("a-b.slice:p:n").unwrap(), Some(expected));
        assert_eq!(unit("::n").unwrap().unwrap().name, "n.scope");
        assert_eq!(unit("/a/b:c").unwrap(), None);
        for wrong in ["a:b:c", "a.slice:b:", "a.slice:b:c.slice", "a.slice:b/../c:d"] {
            unit(wrong).unwrap_err();
        }
    }
}
