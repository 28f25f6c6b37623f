//! `process.terminal`, and what the process reads from and writes to.
//!
//! A terminal is made inside, in the container's own devpts: one of the host's would be a file of the host in the container, and
//! would have no name there. Its other side goes back to the runtime process. It is bound at `/dev/console` too, on a descriptor,
//! never by a path that somebody could have made a link (CVE-2025-52565).
//!
//! A standard descriptor that is the host's `/dev/null`, as a detached container's are, is a file of the host too: root inside could change
//! its mode for all the host. The container's own takes its place. And pipes and the terminal become the user's, who may
//! then open them once more by `/dev/stdout`, as programs that write their log there do.
//!
//! See pts(4), console(4), null(4), setsid(2), dup2(2), fchown(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ::namespaces::{InitEnd, StageError, terminal};
use nix::errno::Errno;
use nix::unistd::setsid;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Uid, fchown, fstat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::Winsize;
use step::{StepError, step};

use crate::create::{Stdio, WindowSize};
use crate::masked::{attach, clone};

/// Where a copy is put so that it is not in the way of 0, 1 and 2.
const ASIDE: i32 = 10;

/// Where they are set up, and for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here {
    /// Who is to have them.
    pub(crate) user: u32,
    /// Whether `/dev` is the container's own, to hold a console.
    pub(crate) own_dev: bool,
    /// Whether devices were made in it.
    pub(crate) has_devices: bool,
}

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

    /// Sets them up, in the container's root.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn apply(&self, end: &mut InitEnd, here: Here) -> Result<(), StageError> {
        let stage = StageError::at("stdio");
        match self {
            Self::Inherit => session().map_err(&stage)?,
            Self::Fds(fds) => session().and_then(|()| replace(fds)).map_err(&stage)?,
            Self::Terminal(size) => {
                let size = Some(*size).filter(|size| size.ws_row > 0 && size.ws_col > 0);
                let slave = end.open_terminal(size)?;
                if here.own_dev {
                    console(slave.as_fd()).map_err(&stage)?;
                }
                terminal::control(slave).map_err(&stage)?;
            }
        }
        give(here, matches!(self, Self::Terminal(_))).map_err(stage)
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
        dup2_stdin(stdin)?;
        dup2_stdout(stdout)?;
        dup2_stderr(stderr)
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

fn give(here: Here, terminal: bool) -> Result<(), StepError> {
    let mut null = None;
    let all = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for (number, fd) in all.into_iter().enumerate() {
        let Ok(stat) = fstat(fd) else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if is_null(&stat) {
            if null.is_none() {
                null = own_null(here.has_devices)?;
            }
            if let Some(null) = &null {
                step(
                    "dup2",
                    format_args!("/dev/null {number}"),
                    "the host's is a file that root inside could change",
                )
                .run(|| [dup2_stdin, dup2_stdout, dup2_stderr][number](null))?;
            }
        } else if (kind == FileType::Fifo || terminal) && stat.st_uid != here.user {
            let user = Some(Uid::from_raw(here.user));
            // Whose it is may have no number in this user namespace. It is open all the same.
            let _ = step(
                "fchown",
                format_args!("{number} {}", here.user),
                "its user may open it again, by its name",
            )
            .run(|| fchown(fd, user, None));
        }
    }
    Ok(())
}

fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3)
}

/// The container's own; none where `/dev` is somebody else's that has none. It may be anything by now, if there is somebody inside:
/// it is opened without waiting for it, and looked at.
fn own_null(must: bool) -> Result<Option<OwnedFd>, StepError> {
    let failed = |errno| StepError::new("openat2 RESOLVE_NO_SYMLINKS", "/dev/null", errno);
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let null = match rustix::fs::openat2(CWD, "/dev/null", flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Err(rustix::io::Errno::NOENT) if !must => return Ok(None),
        Err(rustix::io::Errno::LOOP) => None,
        other => Some(other.map_err(failed)?),
    };
    let null = null.filter(|null| fstat(null).is_ok_and(|stat| is_null(&stat)));
    let other = || StepError::new("fstat", "/dev/null is not the device 1:3", Errno::ENODEV);
    let null = null.ok_or_else(other)?;
    rustix::fs::fcntl_setfl(&null, OFlags::RDWR).map_err(failed)?;
    Ok(Some(null))
}
