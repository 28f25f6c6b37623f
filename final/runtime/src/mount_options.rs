//! The options of a mount, sorted by whom they concern.
//!
//! The list is flat, as in fstab(5), and its words are for four different readers: attributes of the mount (`ro`, `noexec`), the
//! same with an `r` before for all mounts beneath it too, how mounts spread (`rslave`), and what the runtime is to do (`rbind`,
//! `tmpcopyup`, `idmap`). What is left over is the file system's own (`mode=755`), and so are the flags of its superblock
//! (`sync`, `lazytime`), which the kernel takes by their names.
//!
//! See mount(8), mount_setattr(2), mount_namespaces(7); runtime-spec: config.md, "Linux mount options".

use ::namespaces::mounts::{Change, MountAttrFlags, Propagation};

const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const NOSYMFOLLOW: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW;
const NODIRATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODIRATIME;
const NOATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOATIME;
const STRICTATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_STRICTATIME;

/// Word, attribute, and whether the word sets it. To clear a way of keeping access times is to go back to `relatime`.
const ATTRIBUTES: [(&str, MountAttrFlags, bool); 18] = [
    ("ro", RDONLY, true),
    ("rw", RDONLY, false),
    ("nosuid", NOSUID, true),
    ("suid", NOSUID, false),
    ("nodev", NODEV, true),
    ("dev", NODEV, false),
    ("noexec", NOEXEC, true),
    ("exec", NOEXEC, false),
    ("nosymfollow", NOSYMFOLLOW, true),
    ("symfollow", NOSYMFOLLOW, false),
    ("nodiratime", NODIRATIME, true),
    ("diratime", NODIRATIME, false),
    ("noatime", NOATIME, true),
    ("atime", NOATIME, false),
    ("strictatime", STRICTATIME, true),
    ("nostrictatime", STRICTATIME, false),
    ("relatime", ATIME, false),
    ("norelatime", STRICTATIME, true),
];

/// All ways of keeping access times, of which one holds.
const ATIME: MountAttrFlags = NOATIME.union(STRICTATIME);

const PROPAGATION: [(&str, Propagation); 4] = [
    ("private", Propagation::Private),
    ("shared", Propagation::Shared),
    ("slave", Propagation::Slave),
    ("unbindable", Propagation::Unbindable),
];

/// Words without an effect of their own: `defaults`; `silent` and its opposite, for the new calls write nothing into the kernel's
/// log; and what a file system that can do it has always, and any other never.
const NOTHING: [&str; 7] = ["defaults", "silent", "loud", "acl", "noacl", "iversion", "noiversion"];

/// What the runtime does itself.
const TAKEN: [&str; 6] = ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"];

/// Flags of a superblock.
const SUPERBLOCK: [&str; 5] = ["async", "dirsync", "lazytime", "nolazytime", "sync"];

/// All words that are understood, sorted, but for what belongs to one kind of file system.
pub fn words() -> Vec<String> {
    let plain = NOTHING.iter().chain(&TAKEN).chain(&SUPERBLOCK).map(|word| (*word).to_owned());
    let attributes = ATTRIBUTES.iter().map(|(word, ..)| *word);
    let both = attributes.chain(PROPAGATION.iter().map(|(word, _)| *word));
    let mut all: Vec<_> = plain.chain(both.flat_map(|word| [word.to_owned(), format!("r{word}")])).collect();
    all.sort();
    all
}

/// An entry's options.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    /// For the mount itself.
    pub(crate) own: Attributes,
    /// For the mounts beneath it too.
    pub(crate) tree: Attributes,
    /// In their order; the second says whether the mounts beneath are meant too.
    pub(crate) propagation: Vec<(Propagation, bool)>,
    pub(crate) bind: bool,
    /// Of a bind: whether the mounts beneath it come along.
    pub(crate) recursive: bool,
    pub(crate) remount: bool,
    pub(crate) copy_up: bool,
    /// Show owners through a map; whether in the mounts beneath it too.
    pub(crate) id_map: Option<bool>,
    pub(crate) data: Vec<String>,
}

/// What is asked for to be so, and what is asked for to be not so. The later word counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Attributes {
    pub(crate) set: MountAttrFlags,
    pub(crate) clear: MountAttrFlags,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { set: MountAttrFlags::empty(), clear: MountAttrFlags::empty() }
    }
}

impl Attributes {
    fn take(&mut self, flag: MountAttrFlags, set: bool) {
        // One way of keeping access times takes the place of another.
        let group = if ATIME.contains(flag) { ATIME } else { flag };
        self.set -= group;
        self.clear = (self.clear - group) | if set { MountAttrFlags::empty() } else { flag };
        if set {
            self.set |= flag;
        }
    }

    fn change(self, recursive: bool) -> Change {
        Change { set: self.set, clear: self.clear, recursive, ..Change::default() }
    }
}

/// How a mount spreads, by its word; the second says whether the mounts beneath are meant too.
pub(crate) fn propagation(word: &str) -> Option<(Propagation, bool)> {
    let find = |word: &str| PROPAGATION.iter().find(|(name, _)| *name == word).map(|(_, how)| *how);
    find(word).map(|how| (how, false)).or_else(|| find(word.strip_prefix('r')?).map(|how| (how, true)))
}

impl Options {
    pub(crate) fn read(options: &[String]) -> Self {
        let mut read = Self::default();
        options.iter().for_each(|option| read.take(option));
        read
    }

    fn take(&mut self, option: &str) {
        let behind_r = option.strip_prefix('r').unwrap_or_default();
        let attribute = |word: &str| ATTRIBUTES.iter().find(|(name, ..)| *name == word);
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.id_map = Some(false),
            "ridmap" => self.id_map = Some(true),
            word if NOTHING.contains(&word) => {}
            word => {
                if let Some((_, flag, set)) = attribute(word) {
                    self.own.take(*flag, *set);
                } else if let Some((_, flag, set)) = attribute(behind_r) {
                    self.tree.take(*flag, *set);
                } else if let Some(how) = propagation(word) {
                    self.propagation.push(how);
                } else {
                    self.data.push(word.to_owned());
                }
            }
        }
    }

    /// The changes of a mount, as few as give the same. `alone`: nothing is mounted beneath it.
    pub(crate) fn changes(&self, alone: bool, private: bool) -> Vec<Change> {
        let mut changes = vec![self.own.change(false), self.tree.change(true)];
        if alone {
            let [own, tree] = [self.own, self.tree];
            let both = Attributes {
                set: (own.set - tree.clear) | tree.set,
                clear: (own.clear - tree.set) | tree.clear,
            };
            changes = vec![both.change(true)];
        }
        for (how, recursive) in &self.propagation {
            // Everything in a new mount namespace has been made private, and what was made since is.
            if !(private && *how == Propagation::Private) {
                let recursive = *recursive;
                changes.push(Change { propagation: Some(*how), recursive, ..Change::default() });
            }
        }
        changes.retain(|change| !change.is_empty());
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &str) -> Options {
        Options::read(&options.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_later_word_counts() {
        assert_eq!(read("ro,rw").own, Attributes { set: MountAttrFlags::empty(), clear: RDONLY });
        assert_eq!(read("rw,ro").own, Attributes { set: RDONLY, clear: MountAttrFlags::empty() });
        assert_eq!(read("noatime,strictatime").own.set, STRICTATIME);
        assert_eq!(read("noatime,relatime").own, Attributes { set: MountAttrFlags::empty(), clear: ATIME });
        assert_eq!(read("rro,rrw").tree.clear, RDONLY);
    }

    #[test]
    fn an_r_before_it_means_all_beneath() {
        let options = read("rbind,rro,rnosuid,rprivate,rslave");
        assert_eq!((options.tree.set, options.own.set), (RDONLY | NOSUID, MountAttrFlags::empty()));
        assert_eq!(options.propagation, [(Propagation::Private, true), (Propagation::Slave, true)]);
        assert!(options.bind && options.recursive && options.data.is_empty());
    }

    #[test]
    fn no_word_of_the_specification_is_taken_for_data() {
        let listed = "async,atime,bind,defaults,dev,diratime,dirsync,exec,iversion,lazytime,loud,mand,noatime,nodev,nodiratime,noexec,\
            noiversion,nolazytime,nomand,norelatime,nostrictatime,nosuid,nosymfollow,private,ratime,rbind,rdev,rdiratime,relatime,\
            remount,rexec,rnoatime,rnodev,rnodiratime,rnoexec,rnorelatime,rnostrictatime,rnosuid,rnosymfollow,ro,rprivate,rrelatime,\
            rro,rrw,rshared,rslave,rstrictatime,rsuid,rsymfollow,runbindable,rw,shared,silent,slave,strictatime,suid,symfollow,sync,\
            tmpcopyup,unbindable,idmap,ridmap,acl,noacl";
        let data = read(listed).data;
        let all = words();
        assert!(
            listed
                .split(',')
                .filter(|word| !word.ends_with("mand"))
                .all(|word| all.iter().any(|it| it == word))
        );
        assert_eq!(data, ["async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync"]);
        assert_eq!(read("mode=755,roo,rrro").data, ["mode=755", "roo", "rrro"]);
    }

    #[test]
    fn changes_are_as_few_as_give_the_same() {
        assert_eq!(read("ro,rnosuid,rprivate").changes(true, true).len(), 1);
        assert_eq!(read("ro,rnosuid,rprivate").changes(false, true).len(), 2);
        assert_eq!(read("rprivate").changes(false, true), []);
        assert_eq!(read("rbind,rslave,rshared").changes(false, false).len(), 2);
    }
}
