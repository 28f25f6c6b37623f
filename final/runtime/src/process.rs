//! `process`: as whom, where, and within which limits the container's program runs.
//!
//! One function a field, in the order in which the init process calls them (see `init`). What the kernel requires: 1. groups
//! before the user, for a user who is not root may not set groups; 2. `PR_SET_KEEPCAPS` before the user (see
//! [`crate::capabilities`]); 3. limits before the user too: only root may raise a hard one.
//!
//! The working directory is opened, never named: a path such as `/proc/self/fd/7` would lead through a descriptor of ours out of
//! the container (CVE-2024-21626). It is resolved without magic links, entered by descriptor, and looked at from inside.
//!
//! Names of users are not looked up here: the engine has done so, outside.
//!
//! See credentials(7), setgroups(2), setresuid(2), getrlimit(2), personality(2), proc_pid_oom_score_adj(5); runtime-spec: config.md.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::personality::{self, Persona};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, fchdir, setgroups, setresgid, setresuid};
use oci_spec::runtime::{LinuxPersonalityDomain, PosixRlimit, PosixRlimitType, Process, User};
use rustix::fs::{CWD, OFlags, ResolveFlags};
use step::{StepError, step};

use crate::{Error, devices};

/// Refuses a process that cannot be, before anything is made.
///
/// # Errors
/// [`Error::Config`], with the field.
pub(crate) fn check(process: &Process) -> Result<(), Error> {
    if process.args().as_ref().is_none_or(|args| args.first().is_none_or(String::is_empty)) {
        return Err(Error::config("process.args", "a container needs a command"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::config("process.cwd", "the working directory must begin with /"));
    }
    for (field, texts) in [("process.args", process.args()), ("process.env", process.env())] {
        if texts.iter().flatten().any(|text| text.contains('\0')) {
            return Err(Error::config(field, "a NUL byte ends a string in execve(2)"));
        }
    }
    for limit in process.rlimits().iter().flatten() {
        if limit.soft() > limit.hard() {
            return Err(Error::config(
                format!("process.rlimits.{}", limit.typ()),
                "the soft limit is above the hard one",
            ));
        }
    }
    if process.oom_score_adj().is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return Err(Error::config("process.oomScoreAdj", "it must be -1000 to 1000"));
    }
    Ok(())
}

/// What a new file's mode is without, where the configuration says nothing, as runc has it: the caller's own may be so strict
/// that the container's user cannot walk through a directory that is made for a mount.
pub(crate) fn usual_umask() {
    umask(Mode::from_bits_truncate(0o022));
}

// ANCHOR: keyring
/// A session keyring of its own: what the caller's holds, keys of its file systems say, stays out.
pub(crate) fn keyring() -> Result<(), StepError> {
    let joined =
        step("keyctl", format_args!("KEYCTL_JOIN_SESSION_KEYRING"), "the caller's keys stay outside")
            .run(join_keyring);
    match joined {
        // A kernel without keys, a filter around us, or a user's quota: then there is nothing to inherit, or nothing to be done,
        // and the default filter forbids keyctl anyway.
        Err(error) if matches!(error.errno(), Some(Errno::ENOSYS | Errno::EPERM | Errno::EDQUOT)) => Ok(()),
        other => other,
    }
}
// ANCHOR_END: keyring

#[allow(unsafe_code)]
fn join_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: the second argument, a name, may be null, which asks for a keyring without one; no memory is touched.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    Errno::result(result).map(drop)
}

/// How gladly the kernel kills this process when memory runs out. Gives what it was before, where that is another; an ordinary
/// user may go back to it.
pub(crate) fn oom_score_adj(score: Option<i32>) -> Result<Option<i32>, StepError> {
    const PATH: &str = "/proc/self/oom_score_adj";
    let Some(score) = score else { return Ok(None) };
    let before = fs::read_to_string(PATH).ok().and_then(|text| text.trim().parse().ok());
    if before == Some(score) {
        return Ok(None);
    }
    step("write", format_args!("{PATH} {score}"), "whom the kernel kills first when memory runs out")
        .run(|| fs::write(PATH, score.to_string()))?;
    Ok(before)
}

/// The machine as the program sees it: with `LINUX32` uname(2) names a 32-bit one, for whoever builds programs for it.
pub(crate) fn personality(domain: LinuxPersonalityDomain) -> Result<(), StepError> {
    // PER_LINUX and PER_LINUX32 of `linux/personality.h`.
    let number = match domain {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    step("personality", format_args!("{domain}"), "which kind of machine uname(2) tells of")
        .run(|| personality::set(Persona::from_bits_retain(number)))
        .map(drop)
}

/// Limits of the process and its children.
pub(crate) fn rlimits(limits: &[PosixRlimit]) -> Result<(), StepError> {
    for limit in limits {
        let (typ, soft, hard) = (limit.typ(), limit.soft(), limit.hard());
        step(
            "setrlimit",
            format_args!("{typ} {soft} {hard}"),
            "a limit of each process alone; a cgroup's is one for all",
        )
        .run(|| setrlimit(resource(typ), soft, hard))?;
    }
    Ok(())
}

fn resource(typ: PosixRlimitType) -> Resource {
    match typ {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}

// ANCHOR: working_directory
/// Enters the working directory, and makes it where the image lacks it, as Docker does; not for a process of exec.
pub(crate) fn working_directory(cwd: &Path, made: bool) -> Result<(), StepError> {
    let named = |call: &'static str| move |errno| StepError::new(call, cwd.display(), errno);
    let open = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(CWD, cwd, flags, rustix::fs::Mode::empty(), ResolveFlags::NO_MAGICLINKS)
    };
    let directory = match open() {
        Err(rustix::io::Errno::NOENT) if made => {
            step("mkdir", format_args!("{}", cwd.display()), "the working directory, which the image lacks")
                .run(|| make(cwd))?;
            open()
        }
        other => other,
    };
    let directory = directory.map_err(named("openat2 RESOLVE_NO_MAGICLINKS"))?;
    step("fchdir", format_args!("{}", cwd.display()), "by descriptor: what was looked up is what is entered")
        .run(|| fchdir(&directory))?;
    inside(std::env::current_dir()).map_err(|error| StepError::new("getcwd", cwd.display(), error))
}
// ANCHOR_END: working_directory

/// Without a magic link here either: a directory that appears in this moment may be one.
fn make(cwd: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, rustix::fs::Mode::empty())?;
    devices::directory(root.as_fd(), cwd).map(drop)
}

/// The kernel names a directory that cannot be reached from the root `(unreachable)/...`, or says ENOENT.
fn inside(cwd: io::Result<PathBuf>) -> io::Result<()> {
    if cwd?.is_absolute() { Ok(()) } else { Err(Errno::ENOENT.into()) }
}

/// Becomes the user. The capabilities in the permitted set stay, for [`crate::capabilities`] to choose from.
pub(crate) fn user(user: &User) -> Result<(), StepError> {
    if user.uid() != 0 {
        step(
            "prctl",
            format_args!("PR_SET_KEEPCAPS 1"),
            "else the change of the user would clear what was asked for",
        )
        .run(|| prctl::set_keepcaps(true))?;
    }
    if let Some(mask) = user.umask() {
        umask(Mode::from_bits_truncate(mask));
    }
    let groups: Vec<_> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    if !(groups.is_empty() && groups_are_denied()) {
        step("setgroups", format_args!("{groups:?}"), "the caller's groups are not the container's")
            .run(|| setgroups(&groups))?;
    }
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    step("setresgid", format_args!("{gid} {gid} {gid}"), "the group, real, effective and saved")
        .run(|| setresgid(gid, gid, gid))?;
    step("setresuid", format_args!("{uid} {uid} {uid}"), "the user, with no way back")
        .run(|| setresuid(uid, uid, uid))
}

/// In a user namespace whose group map an ordinary user has written, groups cannot be changed: one may be there to *take* a
/// right away (user_namespaces(7)).
fn groups_are_denied() -> bool {
    fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// Set-user-id programs and file capabilities give nothing any more.
pub(crate) fn no_new_privileges() -> Result<(), StepError> {
    step(
        "prctl",
        format_args!("PR_SET_NO_NEW_PRIVS 1"),
        "no program inside gives more rights than its caller has",
    )
    .run(prctl::set_no_new_privs)
}

// ANCHOR: undumpable
/// Takes this process out of the reach of others in its pid namespace, until exec: they may neither trace it nor open its
/// `/proc/PID/exe` and descriptors, which are the host's.
pub(crate) fn undumpable() -> Result<(), StepError> {
    step(
        "prctl",
        format_args!("PR_SET_DUMPABLE 0"),
        "until exec this is the host's program: nobody inside may trace it or open its files",
    )
    .run(|| prctl::set_dumpable(false))
}
// ANCHOR_END: undumpable

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: &str) -> Process {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_cannot_run_is_refused_by_its_field() {
        for (json, field) in [
            (r#"{"user":{},"cwd":"/","args":[]}"#, "process.args"),
            (r#"{"user":{},"cwd":"/"}"#, "process.args"),
            (r#"{"user":{},"cwd":"tmp","args":["a"]}"#, "process.cwd"),
            ("{\"user\":{},\"cwd\":\"/\",\"args\":[\"a\\u0000\"]}", "process.args"),
            (r#"{"user":{},"cwd":"/","args":["a"],"oomScoreAdj":1001}"#, "process.oomScoreAdj"),
            (
                r#"{"user":{},"cwd":"/","args":["a"],"rlimits":[{"type":"RLIMIT_CPU","soft":2,"hard":1}]}"#,
                "process.rlimits.RLIMIT_CPU",
            ),
        ] {
            let error = check(&process(json)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config: {field}: ")), "{error}");
        }
        check(&process(r#"{"user":{},"cwd":"/","args":["a"]}"#)).unwrap();
    }

    #[test]
    fn a_directory_outside_the_root_is_seen() {
        assert!(inside(Ok("/x".into())).is_ok());
        assert!(inside(Ok("(unreachable)/x".into())).is_err());
    }
}
