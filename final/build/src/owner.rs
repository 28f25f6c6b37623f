//! `--chown=user[:group]`: numbers, or names that the image's `/etc/passwd` and `/etc/group` know.

use std::io;
use std::path::Path;

use crate::tree::Tree;

/// User and group as numbers; the name that nobody has, in the inner error.
pub(crate) fn resolve(image: &Tree, text: &str) -> io::Result<Result<(u32, u32), String>> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let users = image.text(Path::new("/etc/passwd"))?.unwrap_or_default();
    let found = users.lines().find_map(|line| entry(line, user, 3));
    let uid = match (&found, user.parse()) {
        // Root is there also in an image without any names.
        _ if user.is_empty() => 0,
        (_, Ok(number)) => number,
        (Some((number, _)), _) => *number,
        (None, Err(_)) if user == "root" => 0,
        (None, Err(_)) => return Ok(Err(format!("no user {user} in the image's /etc/passwd"))),
    };
    let gid = match group {
        None => found.and_then(|(_, group)| group).unwrap_or(uid),
        Some(group) => {
            let groups = image.text(Path::new("/etc/group"))?.unwrap_or_default();
            let found = groups.lines().find_map(|line| entry(line, group, 4));
            match (group.parse(), found) {
                (Ok(number), _) => number,
                (_, Some((number, _))) => number,
                _ if group == "root" => 0,
                _ => return Ok(Err(format!("no group {group} in the image's /etc/group"))),
            }
        }
    };
    Ok(Ok((uid, gid)))
}

/// The number of a name, and the one after it.
fn entry(line: &str, name: &str, group_at: usize) -> Option<(u32, Option<u32>)> {
    let mut fields = line.split(':');
    if fields.next() != Some(name) {
        return None;
    }
    let number = fields.nth(1)?.parse().ok()?;
    Some((number, line.split(':').nth(group_at).and_then(|field| field.parse().ok())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_are_the_images_and_numbers_need_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        fs::write(folder.path().join("etc/passwd"), "root:x:0:0::/:\nguest:x:7:8::/:\n").unwrap();
        fs::write(folder.path().join("etc/group"), "root:x:0:\nwheel:x:10:guest\n").unwrap();
        let tree = Tree::folder(folder.path()).unwrap();
        for (text, owner) in [
            ("guest", (7, 8)),
            ("guest:wheel", (7, 10)),
            ("5", (5, 5)),
            ("5:6", (5, 6)),
            ("0:wheel", (0, 10)),
            ("root", (0, 0)),
        ] {
            assert_eq!(resolve(&tree, text).unwrap(), Ok(owner), "{text}");
        }
        assert!(resolve(&tree, "nobody").unwrap().is_err());
        assert!(resolve(&tree, "guest:nobody").unwrap().is_err());
        let empty = Tree::image(&[], false).unwrap();
        assert_eq!(resolve(&empty, "root:root").unwrap(), Ok((0, 0)));
    }
}
