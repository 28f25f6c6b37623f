//! Chapter 4: layers, one writable directory over many read-only ones.
//!
//! Chapters 1 to 3 give each container a root file system of its own only by copying one. Here many containers share one: the
//! kernel's overlay file system shows several directories as one tree, and puts all that is written into the uppermost. Making
//! a container costs a mount and an empty directory, whatever the size of its image; what it changed lies apart, and can be
//! listed, packed as a layer, or thrown away.
//!
//! In reading order: [`overlay`] mounts the layers; [`merge`] says in which layer a name lies; [`whiteout`] is how a layer says
//! "deleted"; [`mod@changes`] compares a writable directory with what lies under it; [`diff`] packs that as a layer.
//!
//! Beyond this chapter's main line: [`options`], the mount of kernels before 6.8; `holes`, files with holes in an archive; [`refusal`], what the kernel's EINVAL means.
//!
//! Beside the story: [`error`], [`hints`].

#![forbid(unsafe_code)]

pub mod overlay;

mod folder;
pub mod merge;
pub mod whiteout;

pub mod changes;
pub mod diff;
mod holes;

pub mod options;
pub mod refusal;

pub mod error;
pub mod hints;

pub use changes::{Change, Kind, changes};
pub use diff::{write_diff, write_tree};
pub use error::Error;
pub use hints::HINTS;
pub use merge::{Place, locate};
pub use overlay::{Overlay, unmount};
pub use whiteout::Whiteouts;
