//! A program on a terminal of its own, for what only a terminal shows: raw mode, job control, Ctrl-C, resizing.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};

use crate::ask::wait_until;
use crate::kernel;
use crate::process::LIMIT;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The near end of a pseudoterminal, with a program at the far end. The program is killed when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    child: std::process::Child,
    said: Vec<u8>,
    read_to: usize,
}

impl Terminal {
    pub(crate) fn start(mut command: Command, rows: u16, columns: u16) -> Result<Self> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None)?;
        // Neither end is for the program's children: a copy of the near end would keep the terminal alive.
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        }
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        command.stdin(pair.slave.try_clone()?).stdout(pair.slave.try_clone()?).stderr(pair.slave);
        kernel::with_controlling_terminal(&mut command);
        let child = command.spawn()?;
        Ok(Self { master: File::from(pair.master), child, said: Vec::new(), read_to: 0 })
    }

    /// The process id of the program.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Types: `"ls\n"`, or `"\x03"` for Ctrl-C.
    ///
    /// # Errors
    /// Where the terminal is closed.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Waits until the program has read what was typed: what is typed next it then gets by another read(2).
    ///
    /// # Errors
    /// Where it does not within the time limit.
    pub fn wait_read(&self) -> Result<()> {
        // A worker of the kernel's brings it to the far end, where until then nothing waits.
        std::thread::sleep(Duration::from_millis(300));
        let far = File::options()
            .read(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(format!("/proc/{}/fd/0", self.pid()))?;
        wait_until("what was typed is read", LIMIT, || kernel::unread(&far).is_ok_and(|count| count == 0))
    }

    /// Waits until the terminal shows `text`, after what an earlier call found, and returns what it showed up to there.
    ///
    /// # Errors
    /// All that it showed, where the text does not come within the time limit.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        let mut found = None;
        let outcome = wait_until(text, LIMIT, || {
            self.read();
            let fresh = String::from_utf8_lossy(&self.said[self.read_to..]).into_owned();
            found = fresh.find(text).map(|at| fresh[..at + text.len()].to_owned());
            found.is_some()
        });
        match found {
            Some(shown) => {
                self.read_to += shown.len();
                Ok(shown)
            }
            None => Err(format!("{outcome:?}; the terminal shows:\n{}", self.shown()).into()),
        }
    }

    /// Changes the size, of which the kernel tells the foreground process group by SIGWINCH.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let master: OwnedFd = self.master.as_fd().try_clone_to_owned()?;
        Ok(kernel::resize(&master, rows, columns)?)
    }

    /// Everything that the terminal has shown.
    pub fn shown(&mut self) -> String {
        self.read();
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// Waits for the program's end: its exit status, 128 + n for signal n.
    ///
    /// # Errors
    /// All that the terminal showed, where it passes the time limit.
    pub fn wait(mut self) -> Result<i32> {
        let mut status = None;
        let outcome = wait_until("the program ends", LIMIT, || {
            self.read();
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        outcome.map_err(|error| format!("{error}; the terminal shows:\n{}", self.shown()))?;
        Ok(status
            .map_or(-1, |status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())))
    }

    /// EIO, which says that the far end is closed, and EAGAIN both mean that there is nothing more now.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.master.read(&mut buffer) {
            self.said.extend(&buffer[..length]);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // It may have ended in between: nothing to do then.
            let _ = self.child.kill();
            let _ =
                wait_until("end", Duration::from_secs(10), || matches!(self.child.try_wait(), Ok(Some(_))));
        }
    }
}
