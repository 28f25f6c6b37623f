//! What whoever waits is told.

use crate::Digest;

/// Hears how a pull or a push goes on; from several threads.
pub trait Progress: Sync {
    /// Something is said once: `Pulling from library/busybox`.
    fn note(&self, text: &str);
    /// A layer of this size in bytes is about to be moved.
    fn begin(&self, layer: &Digest, size: u64);
    /// So many bytes of it have been moved.
    fn advance(&self, layer: &Digest, bytes: u64);
    /// What became of it: `Pull complete`, `Already exists`, `Pushed`, `Mounted from library/busybox`.
    fn end(&self, layer: &Digest, outcome: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn note(&self, _: &str) {}
    fn begin(&self, _: &Digest, _: u64) {}
    fn advance(&self, _: &Digest, _: u64) {}
    fn end(&self, _: &Digest, _: &str) {}
}
