//! Beyond this chapter: marks on a cgroup's packets, in version 1.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | class, for `tc` | none | `net_cls.classid` (controller `net_cls`) |
//! | priority on an interface | none | `net_prio.ifpriomap`: `eth0 5` (controller `net_prio`) |
//!
//! Version 2 has neither: there a firewall's rule matches the cgroup by its path (`nft socket cgroupv2`), or a program is attached.
//!
//! What the kernel requires: an interface of the writing process's own network namespace, else ENODEV.
//!
//! See tc-cgroup(8); kernel: cgroup-v1/net_cls.rst, cgroup-v1/net_prio.rst.

use crate::Limits;
use crate::file::Setting;

/// What is to be written for the class.
pub(crate) fn class(limits: &Limits) -> Vec<Setting> {
    let why = "by this number `tc` knows its packets";
    let setting = |class| Setting::new("net_cls.classid", &class, "network.classID", why);
    limits.more.net_class.map(setting).into_iter().collect()
}

/// What is to be written for the priorities, a line each.
pub(crate) fn priorities(limits: &Limits) -> Vec<Setting> {
    let why = "the queue of its packets on this interface";
    let setting = |(name, priority): &(String, u32)| {
        Setting::new("net_prio.ifpriomap", &format!("{name} {priority}"), "network.priorities", why)
    };
    limits.more.net_priorities.iter().map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::More;

    #[test]
    fn a_line_for_each_interface() {
        let net_priorities = vec![("lo".to_owned(), 1), ("eth0".to_owned(), 5)];
        let more = More { net_class: Some(1_048_577), net_priorities, ..More::default() };
        let limits = Limits { more, ..Limits::default() };
        assert_eq!(class(&limits)[0].value, "1048577");
        let lines: Vec<_> = priorities(&limits).into_iter().map(|it| it.value).collect();
        assert_eq!(lines, ["lo 1", "eth0 5"]);
    }
}
