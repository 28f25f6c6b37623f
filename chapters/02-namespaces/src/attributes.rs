//! What may be changed of a mount: its attributes, and whether mounts beneath it spread to others.
//!
//! An attribute (read-only, no set-user-id programs) belongs to a mount, not to the file system: the same files can be read-only
//! at one place and not at another. Propagation says who learns of a mount beneath this one: nobody (private), the other mounts
//! of its peer group (shared), or this one of theirs and not the other way around (slave).
//!
//! What the kernel requires: 1. in a user namespace an attribute that a more privileged one has set cannot be cleared (EPERM);
//! 2. of the four ways to keep access times one holds: to choose one, all are cleared; 3. to show owners under other ids, a
//! user namespace in which the ids are mapped, `CAP_SYS_ADMIN` over the file system, and that nobody has the mount yet.
//!
//! See mount_setattr(2), mount_namespaces(7).

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use rustix::mount::MountAttrFlags;

use crate::syscalls::{MountAttributes, mount_setattr};

/// One mount_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Attributes to set.
    pub set: MountAttrFlags,
    /// Attributes to clear. Requirement 2 is seen to: whoever sets or clears a way of keeping access times need name no other.
    pub clear: MountAttrFlags,
    /// Whom mounts beneath spread to.
    pub propagation: Option<Propagation>,
    /// Whether the mounts beneath change too.
    pub recursive: bool,
}

/// Whom mounts beneath a mount spread to. See mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Nobody.
    Private,
    /// The peer group, of which this mount is a member; a private mount begins a new one.
    Shared,
    /// From the peer group, of which it was a member, to here alone.
    Slave,
    /// Nobody; and this mount cannot be bound elsewhere.
    Unbindable,
}

impl Default for Change {
    fn default() -> Self {
        let none = MountAttrFlags::empty();
        Self { set: none, clear: none, propagation: None, recursive: false }
    }
}

impl Change {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.clear.is_empty() && self.propagation.is_none()
    }

    /// Makes the change to the mount whose root `mount` is.
    ///
    /// # Errors
    /// As mount_setattr(2); EPERM where an attribute is locked.
    pub fn apply(&self, mount: BorrowedFd<'_>) -> Result<(), Errno> {
        let (set, mut clear) = (u64::from(self.set.bits()), u64::from(self.clear.bits()));
        if (set | clear) & libc::MOUNT_ATTR__ATIME != 0 {
            clear |= libc::MOUNT_ATTR__ATIME;
        }
        let propagation = self.propagation.map_or(0, Propagation::flag);
        let alone = !self.recursive;
        mount_setattr(mount, &MountAttributes { set, clear, propagation, alone, ids_of: None })
    }
}

impl Propagation {
    fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }

    /// Whether the mount hears of others: then it is a copy of a mount that does.
    pub fn hears(self) -> bool {
        matches!(self, Self::Shared | Self::Slave)
    }
}
