//! Who may work in the store at the same time: two locks, always taken in this order.
//!
//! 1. The *pin*, on `images/blobs`. Whoever puts blobs or layers into the store that nothing names yet shares it; whoever
//!    removes what nothing names wants it alone, and without waiting: a removal that finds others at work leaves the sweeping to the next one.
//! 2. The *index lock*, on `images` itself, for as long as it takes to read the index and to write it anew.
//!
//! Both lie on folders that are there anyway, and the kernel drops them when their holder dies. See flock(2).

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::Error;

/// What is in the store stays there while a value of this type lives: hold one from [`crate::Store::resolve`] until the record of
/// what uses the image is on the disk.
#[derive(Debug)]
pub struct Pin(#[allow(dead_code, reason = "held for its drop")] File);

impl Pin {
    pub(crate) fn shared(blobs: &Path) -> Result<Self, Error> {
        let file = File::open(blobs).map_err(Error::io(blobs))?;
        file.lock_shared().map_err(Error::io(blobs))?;
        Ok(Self(file))
    }

    /// The pin for one alone; none where others are at work.
    pub(crate) fn alone(blobs: &Path) -> Result<Option<Self>, Error> {
        let file = File::open(blobs).map_err(Error::io(blobs))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io(blobs)(error)),
        }
    }
}

/// The right to change the index.
#[derive(Debug)]
pub(crate) struct IndexLock(#[allow(dead_code, reason = "held for its drop")] File);

impl IndexLock {
    pub(crate) fn wait(layout: &Path) -> Result<Self, Error> {
        let file = File::open(layout).map_err(Error::io(layout))?;
        file.lock().map_err(Error::io(layout))?;
        Ok(Self(file))
    }
}
