//! Run a command in place of this program with execve(2).
//!
//! A container's process is an ordinary process that has replaced its program. Two things of the old program stay unless
//! somebody sees to them: the environment, which names paths, users and secrets of the host, and every open descriptor that
//! is not marked close-on-exec. Here the first is built anew and the second is marked.
//!
//! The command is looked for in the `PATH` of the *new* environment, under the new root, as execvp(3) does it. The kernel's
//! ENOENT has two meanings that a user cannot tell apart: the file is missing, or the loader that it names is.
//!
//! See execve(2), execvp(3), close_range(2), environ(7).

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::execve;
use step::step;

use crate::Error;

/// Where commands are looked for, as Debian and Docker have it.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its arguments and its whole environment.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program, as a path or as a name to look for, and its arguments.
    pub args: Vec<OsString>,
    /// The environment, as `NAME=value`. Nothing is added to it.
    pub env: Vec<OsString>,
    /// Beyond this chapter: how many descriptors from 3 on are the command's too.
    pub kept: u16,
}

impl Command {
    /// A command with a clean environment: a search path, a home, and the kind of terminal if there is one.
    pub fn new(args: &[OsString]) -> Self {
        let mut env = vec![OsString::from(format!("PATH={PATH}")), OsString::from("HOME=/root")];
        if let Some(term) = std::env::var_os("TERM") {
            let mut entry = OsString::from("TERM=");
            entry.push(term);
            env.push(entry);
        }
        Self { args: args.to_vec(), env, kept: 0 }
    }

    /// Becomes the command. Does not come back when that succeeds.
    ///
    /// # Errors
    /// [`Error::NoCommand`] where there is none of that name, [`Error::NoLoader`] where the file is there and its interpreter
    /// is not, [`Error::Argument`] for text with a NUL byte; else the step that failed.
    // ANCHOR: exec
    pub fn exec(&self) -> Result<Infallible, Error> {
        let name = self.args.first().ok_or_else(|| Error::NoCommand(OsString::new()))?;
        let args = c_strings(&self.args)?;
        let env = c_strings(&self.env)?;
        close_on_exec_from(3 + RawFd::from(self.kept))?;
        let mut refused = None;
        for path in self.candidates(name) {
            let file = c_string(&path)?;
            let failed =
                step("execve", format_args!("{}", path.display()), "this process becomes the command")
                    .run_last(|| execve(&file, &args, &env));
            let Err(error) = failed;
            match error.errno() {
                Some(Errno::ENOENT) if Path::new(&path).exists() => return Err(Error::NoLoader(path)),
                Some(Errno::ENOENT | Errno::ENOTDIR) => {}
                // As execvp(3) does: a file that may not be run does not hide one further down the path.
                Some(Errno::EACCES) => refused = Some(error),
                _ => return Err(error.into()),
            }
        }
        Err(refused.map_or_else(|| Error::NoCommand(name.clone()), Error::Step))
    }
    // ANCHOR_END: exec

    /// The files that `name` may mean, in the order in which they are tried.
    fn candidates(&self, name: &OsStr) -> Vec<OsString> {
        if name.as_bytes().contains(&b'/') {
            return vec![name.to_owned()];
        }
        let path = self
            .env
            .iter()
            .find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="))
            .unwrap_or(PATH.as_bytes());
        let folders =
            path.split(|&byte| byte == b':').map(|folder| if folder.is_empty() { b"." } else { folder });
        folders.map(|folder| Path::new(OsStr::from_bytes(folder)).join(name).into_os_string()).collect()
    }
}

/// Marks every descriptor from `first` on close-on-exec, so that none of the host's files, least of all a directory, is open
/// in the command. They stay open until then: `--explain` still writes to one.
///
/// # Errors
/// The step, where the kernel is older than 5.11.
pub fn close_on_exec_from(first: RawFd) -> Result<(), Error> {
    step(
        "close_range",
        format_args!("{first} ~0 CLOSE_RANGE_CLOEXEC"),
        "an open directory of the host would be a way out of the new root",
    )
    .run(|| close_range_cloexec(first))?;
    Ok(())
}

#[allow(unsafe_code)]
fn close_range_cloexec(first: RawFd) -> Result<(), Errno> {
    // SAFETY: the call takes three numbers and no pointer. It closes nothing now: it marks descriptors, which changes what an
    // owner of one may rely on only at the exec that replaces that owner too.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result).map(drop)
}

fn c_strings(texts: &[OsString]) -> Result<Vec<CString>, Error> {
    texts.iter().map(|text| c_string(text)).collect()
}

fn c_string(text: &OsStr) -> Result<CString, Error> {
    CString::new(text.as_bytes()).map_err(|_| Error::Argument(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(name: &str, env: &[&str]) -> Vec<OsString> {
        Command { args: vec![name.into()], env: env.iter().map(OsString::from).collect(), kept: 0 }
            .candidates(OsStr::new(name))
    }

    #[test]
    fn a_name_is_looked_for_in_the_new_environment_alone() {
        assert_eq!(candidates("ls", &["PATH=/a::/b"]), ["/a/ls", "./ls", "/b/ls"]);
        assert_eq!(candidates("ls", &[]).len(), PATH.split(':').count());
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(candidates("./ls", &["PATH=/a"]), ["./ls"]);
    }

    #[test]
    fn a_nul_byte_is_an_error_and_no_panic() {
        let command = Command { args: vec!["a\0b".into()], env: vec![], kept: 0 };
        assert!(matches!(command.exec(), Err(Error::Argument(_))));
    }
}
