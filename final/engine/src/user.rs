//! `-u user[:group]`: names of the image's own users, as numbers.
//!
//! The look-up is done before the container is entered, in the image's `/etc/passwd` and `/etc/group`: a static program cannot
//! load the C library's name services, and a hostile image should not be asked to. See passwd(5), group(5).

use std::path::PathBuf;

use crate::{Error, image_files};

/// Who the container's process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The groups beside it.
    pub additional_gids: Vec<u32>,
    /// The home directory.
    pub home: String,
}

/// Looks up `user[:group]` in the image's layers (lowest first); an empty text is root.
///
/// # Errors
/// [`Error::Invalid`] for a name that the image does not know.
pub fn resolve(layers: &[PathBuf], text: &str) -> Result<User, Error> {
    let passwd = image_files::read(layers, "/etc/passwd").unwrap_or_default();
    let group = image_files::read(layers, "/etc/group").unwrap_or_default();
    look_up(&passwd, &group, text)
}

fn look_up(passwd: &str, group: &str, text: &str) -> Result<User, Error> {
    let (user, wanted) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let entry = passwd
        .lines()
        .map(fields)
        .filter(|fields| fields.len() >= 6)
        .find(|fields| fields[0] == user || (number.is_some() && fields[2].parse().ok() == number));
    let uid = entry.as_ref().and_then(|entry| entry[2].parse().ok()).or(number);
    let uid = uid
        .ok_or_else(|| Error::Invalid(format!("-u {text}: the image's /etc/passwd has no user {user:?}")))?;
    let groups: Vec<_> = group.lines().map(fields).filter(|fields| fields.len() >= 4).collect();
    let gid = match wanted {
        Some(name) => groups
            .iter()
            .find(|fields| fields[0] == name)
            .and_then(|fields| fields[2].parse().ok())
            .or(name.parse().ok())
            .ok_or_else(|| {
                Error::Invalid(format!("-u {text}: the image's /etc/group has no group {name:?}"))
            })?,
        None => entry.as_ref().and_then(|entry| entry[3].parse().ok()).unwrap_or(0),
    };
    let name = entry.as_ref().map(|entry| entry[0].as_str());
    let member = |fields: &&Vec<String>| {
        wanted.is_none() && name.is_some_and(|name| fields[3].split(',').any(|member| member == name))
    };
    let additional_gids = groups.iter().filter(member).filter_map(|fields| fields[2].parse().ok()).collect();
    let home = entry
        .map_or_else(|| if uid == 0 { "/root".to_owned() } else { "/".to_owned() }, |entry| entry[5].clone());
    Ok(User { uid, gid, additional_gids, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:100:Ada:/home/ada:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\naudio:x:29:bob,ada\n";

    fn user(uid: u32, gid: u32, additional_gids: &[u32], home: &str) -> User {
        User { uid, gid, additional_gids: additional_gids.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn names_and_numbers() {
        let found = |text| look_up(PASSWD, GROUP, text).unwrap();
        assert_eq!(found(""), user(0, 0, &[], "/root"));
        assert_eq!(found("ada"), user(1000, 100, &[29], "/home/ada"));
        assert_eq!(found("1000"), user(1000, 100, &[29], "/home/ada"));
        assert_eq!(found("ada:audio"), user(1000, 29, &[], "/home/ada"));
        assert_eq!(found("77:88"), user(77, 88, &[], "/"));
        assert_eq!(look_up("", "", "").unwrap(), user(0, 0, &[], "/root"));
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        assert!(look_up(PASSWD, GROUP, "eve").unwrap_err().to_string().contains("eve"));
        assert!(look_up(PASSWD, GROUP, "ada:nobody").is_err());
    }
}
