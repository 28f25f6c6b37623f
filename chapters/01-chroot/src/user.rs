//! Let an ordinary user call chroot(2): borrowed from chapter 2.
//!
//! chroot(2) needs `CAP_SYS_CHROOT`, because a user who may choose the root directory may put a forged `/etc/passwd` before a
//! set-user-id program. A *user namespace* gives this process all capabilities over itself and none over the host: inside it
//! the user is shown as root, outside nothing has changed, and a set-user-id program of the host gives no more than before.
//!
//! What the kernel requires: 1. the process has one thread and is not chrooted yet; 2. `setgroups` is denied before an
//! ordinary user may write `gid_map`, for a group may be there to *take* a right away; 3. the map names the user's own id and
//! nothing else, one line of `inside outside count`.
//!
//! Chapter 2 makes the same with clone3, and with more than one id. See user_namespaces(7).

use std::fs;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use step::step;

use crate::Error;

/// Moves this process into a new user namespace in which the calling user is root.
///
/// # Errors
/// The step that failed; [`crate::HINTS`] knows what distributions forbid here.
// ANCHOR: become_root
pub fn become_root() -> Result<(), Error> {
    let (user, group) = (geteuid(), getegid());
    step("unshare", format_args!("CLONE_NEWUSER"), "all capabilities, over this process alone")
        .run(|| unshare(CloneFlags::CLONE_NEWUSER))?;
    let maps = [
        ("setgroups", "deny".to_owned(), "else a user could drop a group that denies a file to its members"),
        ("uid_map", format!("0 {user} 1"), "inside, this user is root; on the host nothing has changed"),
        ("gid_map", format!("0 {group} 1"), "the same for the group"),
    ];
    for (file, line, why) in &maps {
        let path = format!("/proc/self/{file}");
        step("write", format_args!("{path} {line:?}"), why).run(|| fs::write(&path, line))?;
    }
    Ok(())
}
// ANCHOR_END: become_root
