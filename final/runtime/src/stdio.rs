//! `process.terminal`, and what the process reads from and writes to.
//!
//! A terminal is made inside, in the container's own devpts: one of the host's would be a file of the host in the container, and
//! would have no name there. Its other side goes back to the runtime process. It is bound at `/dev/console` too, on a descriptor,
//! never by a path that somebody could have made a link (CVE-2025-52565).
//!
//! See pts(4), console(4), setsid(2), dup2(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ::namespaces::{InitEnd, StageError, terminal};
use nix::unistd::setsid;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::termios::Winsize;
use step::{StepError, step};

use crate::create::{Stdio, WindowSize};
use crate::masked::{attach, clone};

/// Where a copy is put so that it is not in the way of 0, 1 and 2.
const ASIDE: i32 = 10;

/// What the init process does about its standard descriptors.
#[derive(Debug)]
pub(crate) enum Prepared {
    Inherit,
    Fds([OwnedFd; 3]),
    Terminal(Winsize),
}

impl Prepared {
    pub(crate) fn new(stdio: Stdio) -> Self {
        match stdio {
            Stdio::Inherit => Self::Inherit,
            Stdio::Fds(stdin, stdout, stderr) => Self::Fds([stdin, stdout, stderr]),
            Stdio::Terminal(WindowSize { rows, columns }) => {
                Self::Terminal(Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
            }
        }
    }

    /// Sets them up, in the container's root. `own_dev`: whether `/dev` is the container's own, to hold a console.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn apply(&self, end: &mut InitEnd, own_dev: bool) -> Result<(), StageError> {
        let stage = StageError::at("stdio");
        match self {
            Self::Inherit => session().map_err(stage),
            Self::Fds(fds) => session().and_then(|()| replace(fds)).map_err(stage),
            Self::Terminal(size) => {
                let size = Some(*size).filter(|size| size.ws_row > 0 && size.ws_col > 0);
                let slave = end.open_terminal(size)?;
                if own_dev {
                    console(slave.as_fd()).map_err(&stage)?;
                }
                terminal::control(slave).map_err(stage)
            }
        }
    }
}

/// A session of its own: a signal for the caller's process group is not for the container, nor can it take the caller's terminal.
fn session() -> Result<(), StepError> {
    step("setsid", format_args!(""), "a session of its own, without the caller's terminal")
        .run(setsid)
        .map(drop)
}

fn replace(fds: &[OwnedFd; 3]) -> Result<(), StepError> {
    step("dup2", format_args!("0 1 2"), "standard input, output and error").run(|| {
        // Copies first: one of the three may itself be among 0, 1 and 2.
        let copies =
            fds.iter().map(|fd| fcntl_dupfd_cloexec(fd, ASIDE)).collect::<rustix::io::Result<Vec<_>>>()?;
        let [stdin, stdout, stderr] = copies.as_slice() else { return Err(rustix::io::Errno::INVAL) };
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)
    })
}

fn console(slave: BorrowedFd<'_>) -> Result<(), StepError> {
    step(
        "move_mount",
        format_args!("the terminal to /dev/console"),
        "where programs look for the machine's console",
    )
    .run(|| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let console = rustix::fs::openat2(CWD, "/dev/console", flags, Mode::from(0o600), resolve)?;
        attach(clone(slave, false)?.as_fd(), console.as_fd())
    })
}
