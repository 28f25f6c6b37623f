//! Stop every process of a cgroup at once, and let them run on.
//!
//! | what | version 2 (part of every cgroup) | version 1 (controller `freezer`) |
//! |---|---|---|
//! | freeze | `cgroup.freeze`: `1` | `freezer.state`: `FROZEN` |
//! | thaw | `cgroup.freeze`: `0` | `freezer.state`: `THAWED` |
//! | is it frozen yet? | `cgroup.events`: `frozen 1` | `freezer.state` reads `FROZEN`, no longer `FREEZING` |
//!
//! SIGSTOP would do the same to one process, but the process's parent sees it, the process can be continued by anybody, and a
//! fork in between slips through. A frozen process sees nothing of it; `docker pause` is this.
//!
//! What the kernel requires: 1. freezing takes effect task by task, when each returns from the kernel: wait until the cgroup
//! says so; 2. in version 2 SIGKILL still kills a frozen process, in version 1 it takes effect when the cgroup is thawed.
//!
//! See cgroups(7); kernel: cgroup-v2.rst "Core Interface Files", cgroup-v1/freezer-subsystem.rst.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Error;
use crate::file::{keyed, read, write};
use crate::hierarchy::Version;

/// How long a task may take to come back from the kernel.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a cgroup's processes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezerState {
    /// They run.
    Thawed,
    /// Freezing was asked for, and some task still runs.
    Freezing,
    /// All of them stand still.
    Frozen,
}

/// Freezes or thaws the cgroup `dir`, and waits until it is so.
// ANCHOR: set
pub(crate) fn set(version: Version, dir: &Path, frozen: bool) -> Result<(), Error> {
    let (file, value) = match (version, frozen) {
        (Version::V2, true) => ("cgroup.freeze", "1"),
        (Version::V2, false) => ("cgroup.freeze", "0"),
        (Version::V1, true) => ("freezer.state", "FROZEN"),
        (Version::V1, false) => ("freezer.state", "THAWED"),
    };
    let why =
        if frozen { "every task stops, and none can notice" } else { "every task runs on from where it was" };
    let wanted = if frozen { FreezerState::Frozen } else { FreezerState::Thawed };
    let start = Instant::now();
    write(dir, file, value, why)?;
    while state(version, dir)? != wanted {
        if start.elapsed() > PATIENCE {
            let what = if frozen { "did not freeze" } else { "did not thaw" };
            return Err(Error::TimedOut { path: dir.to_owned(), what, seconds: PATIENCE.as_secs() });
        }
        sleep(Duration::from_millis(1));
        if version == Version::V1 && frozen {
            // A fork during the first write can leave version 1 at FREEZING for ever; asking again mends it.
            write(dir, file, value, "asked again: a fork in between would else hold it at FREEZING")?;
        }
    }
    Ok(())
}
// ANCHOR_END: set

/// Asks the kernel.
pub(crate) fn state(version: Version, dir: &Path) -> Result<FreezerState, Error> {
    Ok(match version {
        Version::V2 => {
            let asked = read(&dir.join("cgroup.freeze"))?.trim() == "1";
            match (asked, keyed(dir, "cgroup.events", "frozen") == Some(1)) {
                (false, false) => FreezerState::Thawed,
                (true, true) => FreezerState::Frozen,
                _ => FreezerState::Freezing,
            }
        }
        Version::V1 => match read(&dir.join("freezer.state"))?.trim() {
            "FROZEN" => FreezerState::Frozen,
            "FREEZING" => FreezerState::Freezing,
            _ => FreezerState::Thawed,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_for_is_not_yet_frozen() {
        let dir = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        put("cgroup.freeze", "1\n");
        put("cgroup.events", "populated 1\nfrozen 0\n");
        assert_eq!(state(Version::V2, dir.path()).unwrap(), FreezerState::Freezing);
        put("cgroup.events", "populated 1\nfrozen 1\n");
        assert_eq!(state(Version::V2, dir.path()).unwrap(), FreezerState::Frozen);
        put("freezer.state", "FREEZING\n");
        assert_eq!(state(Version::V1, dir.path()).unwrap(), FreezerState::Freezing);
    }
}
