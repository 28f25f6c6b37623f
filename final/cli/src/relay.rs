//! The client's side of a container's streams: this terminal, or these pipes, and the shim's socket.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use sampan_engine::attach::Frame;
use sampan_engine::container::start::Attached;

/// What the client passes on.
pub(crate) struct Options {
    /// Standard input (`-i`).
    pub(crate) stdin: bool,
    /// The container has a terminal, so this one is put into raw mode.
    pub(crate) terminal: bool,
}

/// How a relay ended.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// The container ended, with this status.
    Exited(i32),
    /// The user typed Ctrl-P Ctrl-Q; the container goes on.
    Detached,
    /// The shim was killed, and the container with it.
    Lost,
}

const DETACH: [u8; 2] = [0x10, 0x11];

/// Relays until the container ends or the user detaches.
///
/// `signals` is from before the container was started, so that none is lost between.
pub(crate) fn relay(mut attached: Attached, options: &Options, signals: &SignalFd) -> io::Result<End> {
    let _raw = if options.terminal && options.stdin { RawMode::enter()? } else { None };
    // The shim may be waiting for this side to read before it reads again itself: neither may block in a write.
    attached.socket.set_nonblocking(true)?;
    let mut outbox = Vec::new();
    let mut stdin_open = options.stdin;
    if options.terminal {
        outbox.extend(resize());
    }
    let mut keys = Keys::default();
    loop {
        let blocked = !flush(&attached, &mut outbox)?;
        while let Some(frame) = attached.inbox.take()? {
            match frame {
                Frame::Stdout(bytes) => write_all(io::stdout().lock(), &bytes)?,
                Frame::Stderr(bytes) => write_all(io::stderr().lock(), &bytes)?,
                Frame::Exited(code) => return Ok(End::Exited(code)),
                _ => {}
            }
        }
        let stdin = io::stdin();
        let mut wanted = PollFlags::POLLIN;
        wanted.set(PollFlags::POLLOUT, blocked);
        let mut set = vec![
            PollFd::new(attached.socket.as_fd(), wanted),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if stdin_open && !blocked {
            set.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut set, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        let ready: Vec<bool> = set.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if ready[1]
            && let Ok(Some(signal)) = signals.read_signal()
        {
            outbox.extend(told(signal.ssi_signo));
        }
        if ready.get(2) == Some(&true) {
            let mut buffer = [0; 16 * 1024];
            let count = stdin.lock().read(&mut buffer)?;
            if count == 0 {
                stdin_open = false;
                outbox.extend(Frame::StdinEnd.to_bytes());
            } else {
                let detach = options.terminal && keys.typed(&buffer[..count]);
                if detach {
                    return Ok(End::Detached);
                }
                outbox.extend(Frame::Stdin(buffer[..count].to_vec()).to_bytes());
            }
        }
        if ready[0] && !attached.inbox.fill(&attached.socket)? {
            return Ok(End::Lost);
        }
    }
}

/// The frame for a signal that came here.
fn told(number: u32) -> Vec<u8> {
    match Signal::try_from(i32::try_from(number).unwrap_or(0)) {
        Ok(Signal::SIGWINCH) => resize(),
        Ok(signal) => Frame::Signal(signal as i32).to_bytes(),
        Err(_) => Vec::new(),
    }
}

/// Sends what the shim takes now; whether that is all. A shim that is gone is seen by who reads.
fn flush(attached: &Attached, outbox: &mut Vec<u8>) -> io::Result<bool> {
    while !outbox.is_empty() {
        match (&attached.socket).write(outbox) {
            Ok(count) => drop(outbox.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => outbox.clear(),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Relays between this terminal and the one of a process that is this command's own child, until it ends.
pub(crate) fn relay_terminal(master: &OwnedFd, process: BorrowedFd<'_>, input: bool) -> io::Result<()> {
    let _raw = if input { RawMode::enter()? } else { None };
    let signals = watch_signals(true)?;
    let mut master = File::from(master.try_clone()?);
    let mut stdin_open = input;
    loop {
        let stdin = io::stdin();
        let mut set = vec![
            PollFd::new(master.as_fd(), PollFlags::POLLIN),
            PollFd::new(process, PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if stdin_open {
            set.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut set, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        let ready: Vec<bool> = set.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let mut buffer = [0; 16 * 1024];
        if ready[0] {
            // EIO: nobody inside has the terminal open any more.
            match master.read(&mut buffer) {
                Ok(count) if count > 0 => write_all(io::stdout().lock(), &buffer[..count])?,
                _ => return Ok(()),
            }
        } else if ready[1] {
            return Ok(());
        }
        if ready[2]
            && let Ok(Some(signal)) = signals.read_signal()
        {
            pass_on(signal.ssi_signo, &master, process);
        }
        if ready.get(3) == Some(&true) {
            let count = stdin.lock().read(&mut buffer)?;
            stdin_open = count > 0;
            master.write_all(if count == 0 { b"\x04" } else { &buffer[..count] })?;
        }
    }
}

/// A signal for a process that may have ended meanwhile, or a new size for a terminal that may be closed: neither matters then.
fn pass_on(number: u32, master: &File, process: BorrowedFd<'_>) {
    let signal = i32::try_from(number).ok().and_then(rustix::process::Signal::from_named_raw);
    match signal {
        Some(rustix::process::Signal::WINCH) => {
            if let Ok(size) = tcgetwinsize(rustix::stdio::stdout()) {
                let _ = tcsetwinsize(master, size);
            }
        }
        Some(signal) => drop(rustix::process::pidfd_send_signal(process, signal)),
        None => {}
    }
}

/// Rows and columns of the terminal here, if there is one.
pub(crate) fn window_size() -> Option<(u16, u16)> {
    tcgetwinsize(rustix::stdio::stdout()).ok().map(|size| (size.ws_row, size.ws_col))
}

/// An input that has ended.
pub(crate) fn null() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

/// A descriptor of this command for a process to have as its own.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}

fn write_all(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// The frame that gives the container's terminal the size of this one; nothing where there is none.
fn resize() -> Vec<u8> {
    window_size().map_or_else(Vec::new, |(rows, columns)| Frame::Resize(rows, columns).to_bytes())
}

/// The signals that are passed on come by a descriptor. In a terminal Ctrl-C is a byte, and no signal.
pub(crate) fn watch_signals(terminal: bool) -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in
        [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGINT]
    {
        set.add(signal);
    }
    if terminal {
        set.add(Signal::SIGWINCH);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?)
}

/// Ctrl-P Ctrl-Q, also in two reads.
#[derive(Default)]
struct Keys {
    matched: usize,
}

impl Keys {
    fn typed(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            self.matched =
                if byte == DETACH[self.matched] { self.matched + 1 } else { usize::from(byte == DETACH[0]) };
            if self.matched == DETACH.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }
}

/// The terminal passes each byte on as it is typed, until this is dropped.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to give back.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detach_keys_are_found_across_reads() {
        let mut keys = Keys::default();
        assert!(!keys.typed(b"a\x10"));
        assert!(keys.typed(b"\x11"));
        assert!(!keys.typed(b"\x10x\x11"));
        assert!(keys.typed(b"\x10\x10\x11"));
    }
}
