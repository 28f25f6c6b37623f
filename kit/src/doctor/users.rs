//! What an ordinary user needs for containers without root.

use std::fs;
use std::path::Path;

use nix::unistd::{geteuid, getuid};
use serde_json::json;

use super::Finding;
use crate::host::{self, NEWUIDMAP, as_root};
use crate::trial::{become_ordinary, enter_mount_namespace, enter_user_namespace, in_child};

/// Each forbids what the kernel would allow: where it lies, the value that forbids, the one that does not.
const FORBIDDERS: [(&str, &str, &str); 3] = [
    // Debian's and Arch's kernels.
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "15000"),
    // Ubuntu, from 23.10: the namespace is made, but without a capability in it.
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
];

/// Enters one as an ordinary user and mounts something in it, which is what is forbidden where the namespace itself is not.
pub(super) fn user_namespace() -> Finding {
    let sysctls: serde_json::Map<String, serde_json::Value> =
        FORBIDDERS.iter().map(|(name, _, _)| (name.replace('/', "."), json!(sysctl(name)))).collect();
    let outcome = in_child(|| {
        become_ordinary()?;
        enter_user_namespace()?;
        enter_mount_namespace().map(|()| "")
    });
    let finding = match outcome {
        Ok(_) => Finding::works("an ordinary user is root in one"),
        Err(error) => {
            let forbidder =
                FORBIDDERS.iter().find(|(name, forbids, _)| sysctl(name).as_deref() == Some(*forbids));
            let mend = forbidder.map_or_else(
                || "run on a machine, or in a virtual machine, of your own".to_owned(),
                |(name, _, allows)| as_root(&format!("sysctl -w {}={allows}", name.replace('/', "."))),
            );
            Finding::missing_unless_root(format!("an ordinary user cannot: {error}"), mend)
        }
    };
    finding.with(json!({ "sysctls": sysctls }))
}

fn sysctl(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|text| text.trim().to_owned())
}

/// Without them a container has one user, root. Chapter 2 works with that, and says so.
pub(super) fn subordinate_ids() -> Finding {
    if geteuid().is_root() {
        return Finding::works("not asked: root may map any id");
    }
    let user = host::user_name();
    let count =
        |file: &str| count_ids(&fs::read_to_string(file).unwrap_or_default(), &user, getuid().as_raw());
    let (uids, gids) = (count("/etc/subuid"), count("/etc/subgid"));
    let data = json!({ "uids": uids, "gids": gids });
    if uids > 0 && gids > 0 {
        return Finding::works(format!("{uids} uids, {gids} gids")).with(data);
    }
    Finding::limited(
        "none: a container of yours has one user, root",
        as_root(&format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}")),
    )
    .with(data)
}

/// The ids in a file as subuid(5) has it: `name-or-uid:first:count`.
fn count_ids(text: &str, user: &str, uid: u32) -> u64 {
    let count = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let theirs = name == user || name.parse() == Ok(uid);
        fields.nth(1).filter(|_| theirs)?.trim().parse::<u64>().ok()
    };
    text.lines().filter_map(count).sum()
}

pub(super) fn newuidmap() -> Finding {
    let programs = ["newuidmap", "newgidmap"].map(host::program);
    match programs {
        [Some(one), Some(_)] => Finding::works(one.display().to_string()),
        _ => Finding::limited(
            "not installed: a rootless container has one user, root",
            host::install(&NEWUIDMAP),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_counted_by_name_and_by_number() {
        let text = "other:1:9\nme:100000:65536\n1000:200000:10\nme:broken\n";
        assert_eq!(count_ids(text, "me", 1000), 65546);
        assert_eq!(count_ids(text, "nobody", 65534), 0);
    }
}
