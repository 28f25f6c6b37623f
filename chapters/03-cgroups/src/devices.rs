//! Beyond this chapter: which device nodes work for a cgroup's processes.
//!
//! | what | version 2 | version 1 (`devices`) |
//! |---|---|---|
//! | deny | a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, attached to the cgroup | `devices.deny`: `c 1:3 rwm`, or `a` |
//! | allow | the same | `devices.allow` |
//! | what holds now | the program | `devices.list` |
//!
//! Root in a container may make device nodes (`CAP_MKNOD`), and a node with the numbers of the host's disk *is* the host's disk.
//! The kernel asks here each time one is made (m) or opened for reading (r) or writing (w), by whatever name.
//!
//! The rules come as a list, and for each kind of access the last one that fits decides; what fits none is denied. Version 2's
//! program says just that ([`crate::device_program`]). Version 1 knows a default and exceptions from it, no order: the list is
//! reduced to that first, and one that cannot be is refused. What the kernel requires there: 1. a cgroup can only allow what the
//! one around it allows; 2. `a` cannot be written once there are cgroups below: an update writes the difference alone.
//!
//! See kernel: cgroup-v2.rst "Device controller", cgroup-v1/devices.rst; runtime-spec: config-linux.md, "Allowed Device list".

use std::fmt;
use std::fs;
use std::path::Path;

use crate::Error;
use crate::file::write;
use crate::limits::invalid;

/// One rule for devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Whether what fits is allowed.
    pub allow: bool,
    /// Which kind of node; none for both.
    pub kind: Option<DeviceKind>,
    /// The major number; none for all.
    pub major: Option<u32>,
    /// The minor number; none for all.
    pub minor: Option<u32>,
    /// What for.
    pub access: Access,
}

/// The two kinds of device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A block device: a disk.
    Block,
    /// A character device: a terminal, `/dev/null`.
    Char,
}

/// What is done with a node; a set, in the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(pub(crate) u8);

impl Access {
    /// Making the node.
    pub const MKNOD: Self = Self(1);
    /// Opening it for reading.
    pub const READ: Self = Self(2);
    /// Opening it for writing.
    pub const WRITE: Self = Self(4);
    /// All three.
    pub const ALL: Self = Self(7);

    /// Reads `rwm`, or a part of it; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        text.chars().try_fold(Self(0), |access, letter| {
            Some(Self(access.0 | Self::LETTERS.iter().find(|(_, it)| *it == letter)?.0))
        })
    }

    const LETTERS: [(u8, char); 3] = [(2, 'r'), (4, 'w'), (1, 'm')];
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::LETTERS.iter().filter(|(bit, _)| self.0 & bit != 0).try_for_each(|(_, it)| write!(f, "{it}"))
    }
}

impl fmt::Display for DeviceRule {
    /// As version 1 takes it: `c 1:* rw`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Some(DeviceKind::Block) => 'b',
            Some(DeviceKind::Char) => 'c',
            None => 'a',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

impl DeviceRule {
    /// Whether it fits every device and every access.
    pub fn is_everything(&self) -> bool {
        (self.kind, self.major, self.minor, self.access) == (None, None, None, Access::ALL)
    }

    fn same_devices(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// Whether it fits each device that the other one fits; and whether there is one that both fit.
    fn covers(&self, other: &Self) -> (bool, bool) {
        let pairs = [(self.major, other.major), (self.minor, other.minor)];
        let all = pairs.iter().all(|(own, other)| own.is_none() || own == other);
        let some = pairs.iter().all(|(own, other)| own.is_none() || other.is_none() || own == other);
        (self.kind == other.kind && all, self.kind == other.kind && some)
    }
}

/// A default and the exceptions from it: what version 1 can hold.
#[derive(Debug, PartialEq, Eq)]
struct Policy {
    allow: bool,
    exceptions: Vec<DeviceRule>,
}

/// Reduces the rules.
///
/// # Errors
/// [`Error::Invalid`] for a list that takes a single device out of what another rule says of all.
fn reduce(rules: &[DeviceRule]) -> Result<Policy, Error> {
    let mut policy = Policy { allow: false, exceptions: Vec::new() };
    for rule in rules {
        if rule.is_everything() {
            policy = Policy { allow: rule.allow, exceptions: Vec::new() };
            continue;
        }
        let kinds = rule.kind.map_or(vec![DeviceKind::Block, DeviceKind::Char], |kind| vec![kind]);
        for kind in kinds {
            let rule = DeviceRule { kind: Some(kind), ..*rule };
            if rule.allow == policy.allow { policy.subtract(&rule)? } else { policy.add(rule) }
        }
    }
    Ok(policy)
}

impl Policy {
    fn add(&mut self, rule: DeviceRule) {
        match self.exceptions.iter_mut().find(|it| it.same_devices(&rule)) {
            Some(known) => known.access.0 |= rule.access.0,
            None => self.exceptions.push(rule),
        }
    }

    fn subtract(&mut self, rule: &DeviceRule) -> Result<(), Error> {
        for known in &mut self.exceptions {
            match rule.covers(known) {
                (true, _) => known.access.0 &= !rule.access.0,
                (false, true) if known.access.0 & rule.access.0 != 0 => {
                    let reason = format!("version 1 cannot take it out of the rule {known}");
                    return invalid("device rule", rule, &reason);
                }
                _ => {}
            }
        }
        self.exceptions.retain(|it| it.access.0 != 0);
        Ok(())
    }

    /// Reads `devices.list`.
    fn parse(list: &str) -> Self {
        let mut policy = Self { allow: false, exceptions: Vec::new() };
        for line in list.lines() {
            let mut words = line.split_whitespace();
            let kind = match words.next() {
                Some("b") => DeviceKind::Block,
                Some("c") => DeviceKind::Char,
                _ => return Self { allow: true, exceptions: Vec::new() },
            };
            let Some((major, minor)) = words.next().and_then(|numbers| numbers.split_once(':')) else {
                continue;
            };
            let access = words.next().and_then(Access::parse).unwrap_or(Access(0));
            let (major, minor) = (major.parse().ok(), minor.parse().ok());
            policy.exceptions.push(DeviceRule { allow: true, kind: Some(kind), major, minor, access });
        }
        policy
    }

    /// The writes that make this one out of `now`. What is new comes first: nothing is denied in between that both allow.
    fn writes(&self, now: &Self) -> Vec<(&'static str, String)> {
        let file = |allow: bool| if allow { "devices.allow" } else { "devices.deny" };
        let exception = !self.allow;
        // A list of what is allowed by default shows no exceptions: it cannot be compared.
        if self.allow != now.allow || (self.allow && !self.exceptions.is_empty()) {
            let first = [(file(self.allow), "a".to_owned())];
            return first
                .into_iter()
                .chain(self.exceptions.iter().map(|it| (file(exception), it.to_string())))
                .collect();
        }
        let missing = |from: &Self, it: &DeviceRule| {
            let known =
                from.exceptions.iter().find(|other| other.same_devices(it)).map_or(0, |it| it.access.0);
            let access = Access(it.access.0 & !known);
            (access.0 != 0).then(|| DeviceRule { access, ..*it }.to_string())
        };
        let new = self.exceptions.iter().filter_map(|it| missing(now, it)).map(|it| (file(exception), it));
        let old = now.exceptions.iter().filter_map(|it| missing(self, it)).map(|it| (file(self.allow), it));
        new.chain(old).collect()
    }
}

/// Refuses rules that version 1 cannot hold.
pub(crate) fn check(rules: &[DeviceRule]) -> Result<(), Error> {
    reduce(rules).map(drop)
}

/// Writes the rules into the version 1 cgroup `dir`.
pub(crate) fn write_rules(dir: &Path, rules: &[DeviceRule]) -> Result<(), Error> {
    let wanted = reduce(rules)?;
    let now = Policy::parse(&fs::read_to_string(dir.join("devices.list")).unwrap_or_default());
    for (file, value) in wanted.writes(&now) {
        let why = match (file, value.as_str()) {
            ("devices.deny", "a") => "first of all none: what is not listed after this is denied",
            ("devices.deny", _) => "this one no longer",
            (_, "a") => "all devices",
            _ => "this device works, also by a node that is made inside",
        };
        write(dir, file, &value, why)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
