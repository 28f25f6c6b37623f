//! Beyond this chapter: do something to the files of an ordinary user's container.
//!
//! Such a container writes files as ids that the user is lent, and overlay keeps a directory that nobody may enter. The user's own
//! process may not touch either. Root of a user namespace with the same ids may: to it, they are all its own.
//!
//! See user_namespaces(7), capabilities(7) on CAP_DAC_OVERRIDE.

use std::convert::Infallible;

use nix::unistd::geteuid;

use crate::{Config, Error, Kind, Maps, StageError, spawn};

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
