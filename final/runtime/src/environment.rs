//! `process.env`, as the program gets it: each name once, and `HOME`.
//!
//! The specification says neither; runc does both, so that engines leave `HOME` to the runtime (Docker, and containerd under Kubernetes),
//! and a variable that is given once more, by `exec --env` say, takes the place of the first.
//!
//! `HOME` is what the image's own `/etc/passwd` says of the user. The image may be hostile: 1. no magic link of `/proc` is followed;
//! 2. what is no ordinary file is not read, nor waited for; 3. nor more of it than any such file has.
//!
//! See environ(7), passwd(5).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

/// Requirement 3, in bytes.
const ENOUGH: u64 = 1 << 20;

/// The entries, each name once: with the value that is given last, in the place of the first.
pub(crate) fn each_once(env: &[String]) -> Vec<OsString> {
    let mut places = BTreeMap::new();
    let mut all: Vec<&str> = Vec::with_capacity(env.len());
    for entry in env {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        let place = *places.entry(name).or_insert(all.len());
        match all.get_mut(place) {
            Some(known) => *known = entry,
            None => all.push(entry),
        }
    }
    all.into_iter().map(OsString::from).collect()
}

/// Adds `HOME` for the user, where it is not there or empty. In the container's root.
pub(crate) fn add_home(env: &mut Vec<OsString>, user: u32) {
    let value = |entry: &OsString| entry.as_bytes().strip_prefix(b"HOME=").map(<[u8]>::is_empty);
    if env.iter().any(|entry| value(entry) == Some(false)) {
        return;
    }
    env.retain(|entry| value(entry).is_none());
    let home = passwd().and_then(|text| home(&text, user)).unwrap_or_else(|| b"/".to_vec());
    env.push(OsString::from_vec([b"HOME=", &*home].concat()));
}

fn passwd() -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened =
        rustix::fs::openat2(CWD, "/etc/passwd", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).ok()?;
    let stat = rustix::fs::fstat(&opened).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut text = Vec::new();
    File::from(opened).take(ENOUGH).read_to_end(&mut text).ok()?;
    Some(text)
}

/// `name:password:uid:gid:comment:home:shell`
fn home(passwd: &[u8], user: u32) -> Option<Vec<u8>> {
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let number = std::str::from_utf8(fields.nth(2)?).ok()?.parse::<u32>().ok()?;
        let home = fields.nth(2)?;
        (number == user && !home.is_empty() && !home.contains(&0)).then(|| home.to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_counts() {
        let env = ["A=1", "B=2", "A=3", "C", "B"].map(str::to_owned);
        assert_eq!(each_once(&env), ["A=3", "B", "C"]);
    }

    #[test]
    fn a_home_is_the_sixth_field_of_the_users_line() {
        let text =
            b"broken\nroot:x:0:0:root:/root:/bin/sh\nnone:x:5:5:::\nx:x:7:7::/home/x:/bin/sh\nx:x:7:7::/y:";
        assert_eq!(home(text, 0).as_deref(), Some(&b"/root"[..]));
        assert_eq!(home(text, 7).as_deref(), Some(&b"/home/x"[..]));
        assert_eq!((home(text, 5), home(text, 6)), (None, None));
    }

    #[test]
    fn a_home_that_is_set_stays() {
        let mut env = vec![OsString::from("HOME=/x")];
        add_home(&mut env, 0);
        assert_eq!(env, ["HOME=/x"]);
        env = vec![OsString::from("HOME="), OsString::from("HOMES=1")];
        add_home(&mut env, u32::MAX);
        assert_eq!(env, ["HOMES=1", "HOME=/"]);
    }
}
