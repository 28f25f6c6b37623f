//! Beyond this chapter: all processes of a cgroup, to be listed or to be sent a signal, also those in cgroups below it.
//!
//! A signal for each process of a list misses who is forked while the list is gone through. So all of them stand still meanwhile;
//! only SIGKILL has a way of its own ([`Cgroup::kill`]).
//!
//! See cgroups(7), kill(2).

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;
use step::step;

use crate::{Cgroup, Error, FreezerState};

impl Cgroup {
    /// Every process in it and below it, each once, in order. Those of a pid namespace that this process does not see are left out.
    pub fn everyone(&self) -> Vec<Pid> {
        let mut all = Vec::new();
        self.places.iter().for_each(|place| collect(&place.dir, &mut all));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Sends a signal, by its number, to every process in it and below it. One that was frozen before stays so.
    ///
    /// # Errors
    /// The first step that failed; the others get it all the same. A process that has ended is no error.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        if signal == libc::SIGKILL {
            return self.kill();
        }
        // Without a freezer it is as good as it can be.
        let frozen =
            self.freezer_state().is_ok_and(|state| state == FreezerState::Thawed) && self.freeze().is_ok();
        let mut outcome = Ok(());
        for pid in self.everyone() {
            let sent = step("kill", format_args!("{pid} {signal}"), "one of all the processes of the cgroup")
                .run(|| match kill(pid, signal) {
                    Err(Errno::ESRCH) => Ok(()),
                    other => other,
                });
            outcome = outcome.and(sent.map_err(Error::from));
        }
        if frozen { outcome.and(self.thaw()) } else { outcome }
    }
}

#[allow(unsafe_code)]
fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: two numbers. A signal that there is not, and a process that there is not, are errors.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}

fn collect(dir: &Path, all: &mut Vec<Pid>) {
    let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    all.extend(list.lines().filter_map(|pid| pid.parse().ok()).filter(|&pid| pid > 0).map(Pid::from_raw));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_below_count_and_strangers_do_not() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("inner")).unwrap();
        fs::write(root.path().join("cgroup.procs"), "7\n0\n").unwrap();
        fs::write(root.path().join("inner/cgroup.procs"), "9\n").unwrap();
        let mut all = Vec::new();
        collect(root.path(), &mut all);
        assert_eq!(all, [7, 9].map(Pid::from_raw));
    }
}
