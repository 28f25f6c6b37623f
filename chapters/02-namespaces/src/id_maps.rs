//! Which ids of the host stand for which ids inside.

/// One line of `/proc/PID/uid_map`: `count` ids from `inside` on are the host's ids from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The first id as the container sees it.
    pub inside: u32,
    /// The first id as the host sees it.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The maps of a container's user namespace. Empty ones mean that it has none of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maps {
    /// Users.
    pub uid: Vec<IdMap>,
    /// Groups.
    pub gid: Vec<IdMap>,
}

impl Maps {
    /// What suits whoever runs this: root gets 65536 ids that nobody else uses, an ordinary user its own id and, where
    /// `/etc/subuid` grants them and `newuidmap` is installed, the subordinate ones.
    pub fn for_this_user() -> Self {
        unimplemented!()
    }

    /// Each id that this process has is itself inside: a user namespace that confines capabilities and shifts no id, for
    /// file systems that cannot be shown under other ids.
    pub fn identity() -> Self {
        unimplemented!()
    }

    /// Whether root inside is somebody else outside than the caller: then the root file system's owners must be mapped too
    /// (see [`crate::new_root::detached`] and [`crate::Config::mapped_mounts`]).
    pub fn shifted(&self) -> bool {
        unimplemented!()
    }
}
