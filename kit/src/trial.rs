//! Trying a thing for real, in a child, so that it touches neither this process nor the machine.
//!
//! What the child makes lives in namespaces of its own and ends with it. A fact that was tried is worth more than one that
//! was read: a kernel may have a feature that its distribution forbids.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, getegid, geteuid, pipe, setgroups, setresgid, setresuid};

/// The user that root becomes to try what an ordinary user may: one that owns nothing.
const NOBODY: u32 = 65534;

/// Runs `attempt` in a child process. Err holds what the attempt, or the child's death, came to.
pub(crate) fn in_child<T: Into<String>>(
    attempt: impl FnOnce() -> Result<T, String>,
) -> Result<String, String> {
    let (reader, writer) = pipe().map_err(|errno| format!("pipe: {errno}"))?;
    // SAFETY: `cargo kit` starts no thread before its trials are done, so the child finds no lock of a lost thread.
    match unsafe { fork() }.map_err(|errno| format!("fork: {errno}"))? {
        ForkResult::Child => {
            drop(reader);
            answer(writer, attempt().map(Into::into))
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut said = String::new();
            let read = File::from(reader).read_to_string(&mut said);
            let status = waitpid(child, None).map_err(|errno| format!("waitpid: {errno}"))?;
            match (read, said.split_at_checked(1)) {
                (Ok(_), Some(("+", text))) => Ok(text.to_owned()),
                (Ok(_), Some((_, text))) => Err(text.to_owned()),
                _ => Err(format!("the trial ended without an answer: {status:?}")),
            }
        }
    }
}

fn answer(writer: OwnedFd, outcome: Result<String, String>) -> ! {
    let _ = set_pdeathsig(Signal::SIGKILL);
    let text = outcome.map_or_else(|error| format!("-{error}"), |text| format!("+{text}"));
    // If the parent cannot be told, it finds an empty pipe, which is a failure too.
    let _ = File::from(writer).write_all(text.as_bytes());
    std::process::exit(0)
}

/// `unshare: EPERM: Operation not permitted`.
pub(crate) fn told<T>(call: &str, outcome: Result<T, Errno>) -> Result<T, String> {
    outcome.map_err(|errno| format!("{call}: {errno}"))
}

/// Gives up root's privilege for the rest of this process; an ordinary user has none to give up.
pub(crate) fn become_ordinary() -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    told("setgroups", setgroups(&[]))?;
    told("setresgid", setresgid(NOBODY.into(), NOBODY.into(), NOBODY.into()))?;
    told("setresuid", setresuid(NOBODY.into(), NOBODY.into(), NOBODY.into()))?;
    // A process that changed its user may not write its own /proc files before it is "dumpable" again.
    told("prctl", nix::sys::prctl::set_dumpable(true))
}

/// Enters a user namespace in which this user is root, as a rootless container does.
pub(crate) fn enter_user_namespace() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    told("unshare user namespace", unshare(CloneFlags::CLONE_NEWUSER))?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(Path::new("/proc/self").join(file), text).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(())
}

/// Makes a mount namespace from which nothing spreads, with an empty file system over `/tmp`.
pub(crate) fn enter_mount_namespace() -> Result<(), String> {
    told("unshare mount namespace", unshare(CloneFlags::CLONE_NEWNS))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    told("mount --make-rprivate /", mount(None::<&str>, "/", None::<&str>, private, None::<&str>))?;
    told("mount tmpfs", mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_and_a_refusal_come_back() {
        assert_eq!(in_child(|| Ok("yes")), Ok("yes".to_owned()));
        assert_eq!(in_child::<String>(|| Err("no".into())), Err("no".to_owned()));
        assert!(in_child::<String>(|| std::process::exit(3)).is_err());
    }
}
