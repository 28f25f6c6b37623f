//! Beyond this chapter: do something to the files of an ordinary user's container.
//!
//! Such a container writes files as ids that the user is lent, and overlay keeps a directory that nobody may enter. The user's own
//! process may not touch either. Root of a user namespace with the same ids may: to it, they are all its own.
//!
//! See user_namespaces(7), capabilities(7) on CAP_DAC_OVERRIDE.

use std::convert::Infallible;

use nix::unistd::geteuid;

use crate::{Config, Created, Error, Kind, Maps, StageError, spawn};

/// Runs `work` as whoever is root of a container's files: the machine's root already, an ordinary user in a user namespace with the
/// ids of [`Maps::for_this_user`]. The calling process has one thread.
///
/// # Errors
/// What `work` met, or the step that failed.
pub fn as_root_of_the_files(work: impl FnOnce() -> Result<(), StageError>) -> Result<(), Error> {
    if geteuid().is_root() {
        return work().map_err(Error::from);
    }
    let maps = Maps::for_this_user();
    let config = Config { new: vec![Kind::User], uid_map: maps.uid, gid_map: maps.gid, ..Config::default() };
    let created = spawn(&config, |end| -> Result<Infallible, StageError> {
        end.wait_to_proceed()?;
        work()?;
        // It has nothing to exec: its end is its answer.
        std::process::exit(0)
    })?;
    match created.proceed()?.wait()? {
        status if status.code() == 0 => Ok(()),
        status => Err(Error::InitEnded(status)),
    }
}

/// Goes on as root of the user's ids: `work` runs in a process of its own, a copy of this one as after fork(2), in a user namespace
/// with the ids of [`Maps::for_this_user`], and what it returns is that process's exit status. It begins with [`Created::release`],
/// [`Created::proceed`] waits for its end, and it ends with this process. None where there is nothing to gain: for root, and for a
/// user with one id. The calling process has one thread.
///
/// # Errors
/// The step that failed; what `work` met it has told itself.
pub fn as_all_ids(work: impl FnOnce() -> u8) -> Result<Option<Created>, Error> {
    if geteuid().is_root() {
        return Ok(None);
    }
    let maps = Maps::for_this_user();
    if maps.uid.len() < 2 || maps.gid.len() < 2 {
        return Ok(None);
    }
    let config = Config {
        new: vec![Kind::User],
        uid_map: maps.uid,
        gid_map: maps.gid,
        die_with_parent: true,
        same_work: true,
        ..Config::default()
    };
    let created = spawn(&config, |end| -> Result<Infallible, StageError> {
        end.wait_to_proceed()?;
        step::speaker("");
        std::process::exit(work().into())
    })?;
    Ok(Some(created))
}
