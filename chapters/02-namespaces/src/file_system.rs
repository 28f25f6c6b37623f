//! A new instance of a file system, as a detached mount.
//!
//! mount(2) is one call that answers EINVAL for anything it dislikes. The newer calls open a context, take the options one by one,
//! and the kernel writes into the context what it dislikes, in words: reading the descriptor gives them.
//!
//! Order: fsopen -> fsconfig for each option -> fsconfig CREATE -> fsmount. What exists already is changed by fspick(2) in place
//! of fsopen, and RECONFIGURE.
//!
//! See fsopen(2), fspick(2), fsconfig(2), fsmount(2); mount(8), "Filesystem-independent mount options".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};

/// What the kernel refused, and its words for it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    /// Empty where it said nothing.
    pub(crate) said: String,
}

impl From<rustix::io::Errno> for Refusal {
    fn from(errno: rustix::io::Errno) -> Self {
        Self { errno: Errno::from_raw(errno.raw_os_error()), said: String::new() }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, said: String::new() }
    }
}

/// Makes an instance of `fstype`. `data` are its options as mount(8) takes them.
pub(crate) fn new_instance(
    fstype: &str,
    source: &str,
    data: &str,
    flags: MountAttrFlags,
) -> Result<OwnedFd, Refusal> {
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    let make = || {
        fsconfig_set_string(context, "source", source)?;
        configure(context, data)?;
        fsconfig_create(context)?;
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    make().map_err(|errno| refusal(context, errno))
}

/// Gives other options to the file system that is mounted at `place`.
pub(crate) fn reconfigure(place: BorrowedFd<'_>, data: &str) -> Result<(), Refusal> {
    let context = fspick(place, "", FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC)?;
    let context = context.as_fd();
    configure(context, data)
        .and_then(|()| fsconfig_reconfigure(context))
        .map_err(|errno| refusal(context, errno))
}

fn configure(context: BorrowedFd<'_>, data: &str) -> rustix::io::Result<()> {
    options(data).try_for_each(|option| match option.split_once('=') {
        Some((key, value)) => fsconfig_set_string(context, key, unquoted(value)),
        None => fsconfig_set_flag(context, option),
    })
}

/// Between commas, except for those in quotes: a label of SELinux has commas of its own.
fn options(data: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = data.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    parts.filter(|option| !option.is_empty())
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// Each read gives one message, which begins with its weight: `e tmpfs: Unknown parameter 'x'`.
fn refusal(context: BorrowedFd<'_>, errno: rustix::io::Errno) -> Refusal {
    let mut said: Vec<String> = Vec::new();
    let mut message = [0; 1024];
    while let Ok(length) = rustix::io::read(context, &mut message)
        && length > 0
    {
        let text = String::from_utf8_lossy(&message[..length]);
        let text = text.trim();
        said.push(text.strip_prefix(['e', 'w', 'i']).map_or(text, str::trim_start).to_owned());
    }
    Refusal { said: said.join("; "), ..errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_quotes_divides_nothing() {
        let data = r#"ro,,context="u:r:t:s0:c1,c2",mode=755"#;
        assert_eq!(options(data).collect::<Vec<_>>(), ["ro", r#"context="u:r:t:s0:c1,c2""#, "mode=755"]);
        assert_eq!(unquoted(r#""u:r:t:s0:c1,c2""#), "u:r:t:s0:c1,c2");
        assert_eq!((unquoted("755"), unquoted("\"")), ("755", "\""));
    }
}
