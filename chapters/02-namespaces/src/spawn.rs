//! Make a process in new namespaces with clone3(2).
//!
//! fork copies a process and shares with the copy every namespace that it is in. clone3 takes a flag for each namespace that
//! the copy gets for itself; that is all the difference between a process and a container's first process.
//!
//! What the kernel requires: 1. `CAP_SYS_ADMIN` for each of them, except for a user namespace, which an ordinary user may make and
//! which comes first where it is among them: the others then belong to it, and its maker has all capabilities over them; 2. the
//! id maps of a user namespace are written once, from outside, before the process can become root in it; 3. a pid namespace lives
//! as long as its first process, pid 1, and all in it are killed with that; 4. a process cannot enter a pid namespace, only its
//! children can be born in it: to join one takes a process more; 5. the clocks' offsets of a time namespace are set
//! before the first process is in it.
//!
//! Order: [`crate::protocol`] has it as a picture. See clone3(2), namespaces(7), user_namespaces(7), pid_namespaces(7).

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{Pid, geteuid};
use rustix::process::{PidfdFlags, pidfd_open};
use step::{StepError, step};

use crate::created::{Created, Running};
use crate::init_end::{hide, hides_before};
use crate::protocol::{FromInit, ToInit, sockets};
use crate::syscalls::{Clone, MountAttributes, Side, clone3, exit_now, mount_setattr};
use crate::{Error, IdMap, InitEnd, Kind, StageError, id_maps};

/// What is special about the new process.
#[derive(Debug, Default)]
pub struct Config {
    /// The namespaces that it gets for itself. The cgroup namespace is not made here, but by [`crate::cgroup_namespace`] when
    /// the process is in its cgroup.
    pub new: Vec<Kind>,
    /// The namespaces of others that it enters.
    pub join: Vec<Join>,
    /// The lines of its `uid_map`, where `new` holds [`Kind::User`].
    pub uid_map: Vec<IdMap>,
    /// The lines of its `gid_map`.
    pub gid_map: Vec<IdMap>,
    /// Detached mounts ([`crate::new_root::detached`]) whose files are to be shown under the container's ids.
    pub mapped_mounts: Vec<OwnedFd>,
    /// A cgroup v2 directory in which the process is born.
    pub into_cgroup: Option<OwnedFd>,
    /// What the clocks of its time namespace are set ahead by; in force when it runs its command.
    pub time_offsets: Vec<TimeOffset>,
    /// The process gets SIGKILL when the thread that calls [`spawn`] ends.
    pub die_with_parent: bool,
    /// Beyond this chapter: it runs no container but goes on with the caller's own work, and keeps signals and groups as they are.
    pub same_work: bool,
}

/// Namespaces of another process, to be entered.
#[derive(Debug)]
pub struct Join {
    /// Which.
    pub kinds: Vec<Kind>,
    /// A pidfd, or, for one kind, an open `/proc/PID/ns/*`.
    pub fd: OwnedFd,
}

/// An offset of a clock in a time namespace. See time_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOffset {
    /// `"monotonic"` or `"boottime"`.
    pub clock: &'static str,
    /// Seconds, also negative ones.
    pub seconds: i64,
    /// Nanoseconds, below 1_000_000_000.
    pub nanoseconds: u32,
}

/// Makes the process and runs `init` in it. `init` begins at once (when the id maps are written, if there are any); where it
/// needs something from outside it calls [`InitEnd::wait_to_proceed`]. It ends with an exec, or with an error that comes back
/// through [`Created::proceed`].
///
/// The calling process has one thread: the new one is a copy of it, as after fork.
///
/// # Errors
/// The step that failed on this side; no process is left then.
// ANCHOR: spawn
pub fn spawn(
    config: &Config,
    init: impl FnOnce(&mut InitEnd) -> Result<Infallible, StageError>,
) -> Result<Created, Error> {
    let (ours, theirs) = step(
        "socketpair",
        format_args!("AF_UNIX SOCK_SEQPACKET"),
        "this process and the init process tell each other how far they are",
    )
    .run(sockets)?;
    let host_is_root = geteuid().is_root();
    let side = if config.join.is_empty() {
        clone(config, config.into_cgroup.as_ref(), false)?
    } else {
        enter_and_clone(config)?
    };
    let Side::Parent(pid, pidfd) = side else {
        drop(ours);
        be_init(config, InitEnd::new(theirs, host_is_root), init)
    };
    drop(theirs);
    let created = Created::new(Running::new(pid, pidfd), ours);
    match map_ids(config, &created) {
        Ok(()) => Ok(created),
        Err(error) => {
            created.abort()?;
            Err(error)
        }
    }
}
// ANCHOR_END: spawn

/// The flags of clone3. A cgroup namespace has as its root the cgroup in which its first process is at that moment, and a
/// time namespace takes offsets only until its first process is in it: both are made by the init process.
fn flags(config: &Config) -> nix::sched::CloneFlags {
    let kinds: Vec<_> = config.new.iter().copied().filter(|&kind| !is_made_inside(config, kind)).collect();
    Kind::flags(&kinds)
}

fn is_made_inside(config: &Config, kind: Kind) -> bool {
    kind == Kind::Cgroup || kind == Kind::Time && !config.time_offsets.is_empty()
}

fn clone(config: &Config, cgroup: Option<&OwnedFd>, sibling: bool) -> Result<Side, StepError> {
    let flags = flags(config);
    step(
        "clone3",
        format_args!("{}", names(flags, cgroup.is_some(), sibling)),
        "one call makes the process and all its namespaces, so that it never runs in the host's",
    )
    // Told before it is made: afterwards there are two processes to tell of it.
    .run_last(|| clone3(&Clone { flags, cgroup: cgroup.map(AsFd::as_fd), sibling }))
}

fn names(flags: nix::sched::CloneFlags, cgroup: bool, sibling: bool) -> String {
    let kinds = Kind::ALL.into_iter().filter(|kind| flags.contains(kind.flag()));
    let mut names: Vec<_> = kinds.map(|kind| format!("CLONE_NEW{}", kind.flag_word())).collect();
    names.push("CLONE_PIDFD".into());
    names.extend(cgroup.then(|| "CLONE_INTO_CGROUP".into()));
    names.extend(sibling.then(|| "CLONE_PARENT".into()));
    names.join("|")
}

/// Requirement 4: a process in between enters the namespaces, makes the init process as its sibling, and is gone. So this
/// process stays where it is, and the init process is its child all the same.
fn enter_and_clone(config: &Config) -> Result<Side, Error> {
    let between = Config::default();
    // A socketpair of its own: on the other one the init process may be speaking already.
    let (ours, theirs) = sockets().map_err(|errno| StepError::new("socketpair", "", errno))?;
    match clone(&between, config.into_cgroup.as_ref(), false)? {
        Side::Child => {
            drop(ours);
            step::speaker("join");
            let message = match enter(config) {
                Ok(Side::Child) => return Ok(Side::Child),
                Ok(Side::Parent(pid, _)) => FromInit::Joined(pid.as_raw()),
                Err(error) => FromInit::Failed(StageError::at("join")(error)),
            };
            // Nobody is left to tell of an error but the one whom this message would tell.
            let _ = theirs.send(&message);
            exit_now(0)
        }
        Side::Parent(pid, pidfd) => {
            drop(theirs);
            let said = ours.receive().map_err(|errno| StepError::new("recvmsg", "", errno));
            let status = Running::new(pid, pidfd).wait()?;
            match said? {
                Some(FromInit::Joined(pid)) => {
                    let pid = Pid::from_raw(pid);
                    let opened = rustix::process::Pid::from_raw(pid.as_raw())
                        .ok_or(rustix::io::Errno::SRCH)
                        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
                        .map_err(|errno| StepError::new("pidfd_open", pid, errno))?;
                    Ok(Side::Parent(pid, opened))
                }
                Some(FromInit::Failed(error)) => Err(error.into()),
                _ => Err(Error::InitEnded(status)),
            }
        }
    }
}

/// A user namespace takes rights away and gives others: root enters those that are the host's before it, and an ordinary user
/// can enter none before it.
fn enter(config: &Config) -> Result<Side, StepError> {
    if hides_before(config) {
        hide()?;
    }
    let (users, others): (Vec<&Join>, Vec<&Join>) =
        config.join.iter().partition(|join| join.kinds.contains(&Kind::User));
    let (first, mut later) = if geteuid().is_root() { (others, Vec::new()) } else { (Vec::new(), others) };
    for join in first {
        match set(join) {
            // It belongs to that user namespace, where this process is nobody yet.
            Err(error) if error.errno() == Some(Errno::EPERM) && !users.is_empty() => later.push(join),
            other => other?,
        }
    }
    users.into_iter().chain(later).try_for_each(set)?;
    clone(config, None, true)
}

fn set(join: &Join) -> Result<(), StepError> {
    let names: Vec<_> = join.kinds.iter().map(ToString::to_string).collect();
    step(
        "setns",
        format_args!("{}", names.join("|")),
        "into the namespaces of the other process, all at once or not at all",
    )
    .run(|| nix::sched::setns(&join.fd, Kind::flags(&join.kinds)))
}

/// Requirement 2, on this side.
fn map_ids(config: &Config, created: &Created) -> Result<(), Error> {
    if !config.new.contains(&Kind::User) {
        return Ok(());
    }
    let pid = created.pid();
    id_maps::write(pid, &config.uid_map, &config.gid_map)?;
    if !config.mapped_mounts.is_empty() {
        let path = format!("/proc/{pid}/ns/user");
        let namespace = std::fs::File::open(&path).map_err(|error| StepError::new("open", &path, error))?;
        for mount in &config.mapped_mounts {
            map_mount(mount.as_fd(), namespace.as_fd())?;
        }
    }
    created.send(ToInit::IdsMapped)
}

/// Shows the files of a detached mount under the ids of a user namespace.
pub(crate) fn map_mount(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> Result<(), StepError> {
    step(
        "mount_setattr",
        format_args!("MOUNT_ATTR_IDMAP"),
        "the files belong to the host's root: show them as the container's root's, in this mount alone",
    )
    .run(|| mount_setattr(mount, &MountAttributes { ids_of: Some(namespace), ..Default::default() }))
}

/// The life of the init process, from its first instruction to its exec or its end.
fn be_init(
    config: &Config,
    mut end: InitEnd,
    init: impl FnOnce(&mut InitEnd) -> Result<Infallible, StageError>,
) -> ! {
    step::speaker("init");
    // A panic must not run on into the copy of the caller, which believes itself the runtime process.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        end.begin(config)?;
        init(&mut end)
    }));
    match outcome {
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) => exit_now(end.fail(error)),
        Err(_) => exit_now(125),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_and_offset_clocks_are_left_to_the_init_process() {
        let mut config = Config { new: Kind::ALL.to_vec(), ..Config::default() };
        assert!(!flags(&config).contains(Kind::Cgroup.flag()));
        assert!(flags(&config).contains(Kind::Time.flag()));
        config.time_offsets.push(TimeOffset { clock: "boottime", seconds: 1, nanoseconds: 0 });
        assert!(!flags(&config).contains(Kind::Time.flag()));
    }

    #[test]
    fn the_flags_are_told_by_their_names_in_the_manual() {
        let config = Config { new: vec![Kind::Mount, Kind::Network], ..Config::default() };
        assert_eq!(
            names(flags(&config), true, false),
            "CLONE_NEWNET|CLONE_NEWNS|CLONE_PIDFD|CLONE_INTO_CGROUP"
        );
    }
}
