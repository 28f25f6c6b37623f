//! The shim's loop: the container's streams, the clients, and the container's end, by one poll(2).
//!
//! No descriptor blocks, so that nobody stops this loop: a client that is gone stops nothing, and a container that does not read
//! its input does not stop its output. Each buffer is bounded by not reading its source while it is full: a client that is
//! there and does not read (`sampan run ... | less`) slows the container down, as a full pipe would.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::termios::{Winsize, tcsetwinsize};

use sampan_runtime::idle;

use super::log::{Log, Stream};
use crate::attach::{Frame, Inbox};

/// What a buffer holds before its source is not read any more.
const FULL: usize = 1024 * 1024;

/// The shim's ends of the container's standard streams.
#[derive(Debug)]
pub struct Ends {
    /// Where its input is written.
    pub stdin: Option<File>,
    /// Where its output is read, or its terminal.
    pub stdout: Option<File>,
    /// Where its errors are read; none with a terminal.
    pub stderr: Option<File>,
    /// Whether `stdin` and `stdout` are a terminal's master.
    pub terminal: bool,
    /// Whether input ends when the client that gave it goes (`run -i`).
    pub stdin_once: bool,
}

#[derive(Debug)]
struct Client {
    socket: UnixStream,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// It waits for the end alone.
    watches: bool,
    gone: bool,
}

/// The clients of a container that has ended, with what they have not read yet.
#[derive(Debug, Default)]
pub struct Rest(Vec<Client>);

/// The state of the loop.
#[derive(Debug)]
pub struct Streams {
    ends: Ends,
    clients: Vec<Client>,
    input: Vec<u8>,
    input_ends: bool,
    log: Log,
}

/// What a descriptor of the poll set stands for.
#[derive(Clone, Copy)]
enum Source {
    Process,
    Listener,
    Stdin,
    Output(Stream),
    Client(usize),
}

impl Streams {
    /// Takes over the streams; `first` is the client that started the container.
    ///
    /// # Errors
    /// Where a descriptor cannot be made non-blocking.
    pub fn new(ends: Ends, first: Option<UnixStream>, log: Log) -> io::Result<Self> {
        for file in [&ends.stdin, &ends.stdout, &ends.stderr].into_iter().flatten() {
            let flags = fcntl_getfl(file)?;
            fcntl_setfl(file, flags | OFlags::NONBLOCK)?;
        }
        let mut streams = Self { ends, clients: Vec::new(), input: Vec::new(), input_ends: false, log };
        if let Some(socket) = first {
            streams.admit(socket)?;
        }
        Ok(streams)
    }

    fn admit(&mut self, socket: UnixStream) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        self.clients.push(Client {
            socket,
            inbox: Inbox::default(),
            outbox: Vec::new(),
            watches: false,
            gone: false,
        });
        Ok(())
    }

    // ANCHOR: run
    /// Runs until the container's process has ended.
    ///
    /// # Errors
    /// Where poll(2) fails.
    pub fn run(&mut self, process: BorrowedFd<'_>, listener: &UnixListener) -> io::Result<()> {
        loop {
            let (sources, ready) = self.wait(process, listener)?;
            for (source, events) in sources.into_iter().zip(ready) {
                if events.is_empty() {
                    continue;
                }
                match source {
                    Source::Process => return Ok(()),
                    Source::Listener => {
                        if let Ok((socket, _)) = listener.accept() {
                            self.admit(socket)?;
                            self.welcome();
                        }
                    }
                    Source::Stdin => self.feed(),
                    Source::Output(stream) => self.take(stream),
                    Source::Client(index) => self.listen(index, events, process),
                }
            }
            self.drop_gone();
        }
    }
    // ANCHOR_END: run

    /// Reads what is left after the container's end, ends the log, and gives the clients back.
    pub fn finish(mut self) -> Rest {
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.output(stream).is_some() && self.readable(stream) {
                self.take(stream);
            }
        }
        // A log that cannot be written does not change how the container ended.
        let _ = self.log.finish();
        Rest(self.clients)
    }

    fn wait(
        &self,
        process: BorrowedFd<'_>,
        listener: &UnixListener,
    ) -> io::Result<(Vec<Source>, Vec<PollFlags>)> {
        let mut sources = vec![Source::Process, Source::Listener];
        let mut set =
            vec![PollFd::new(process, PollFlags::POLLIN), PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if let Some(stdin) = self.ends.stdin.as_ref().filter(|_| !self.input.is_empty() || self.input_ends) {
            sources.push(Source::Stdin);
            set.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        let slow = self.clients.iter().any(|client| client.outbox.len() >= FULL);
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(output) = self.output(stream).filter(|_| !slow) {
                sources.push(Source::Output(stream));
                set.push(PollFd::new(output.as_fd(), PollFlags::POLLIN));
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::POLLIN, self.input.len() < FULL);
            wanted.set(PollFlags::POLLOUT, !client.outbox.is_empty());
            sources.push(Source::Client(index));
            set.push(PollFd::new(client.socket.as_fd(), wanted));
        }
        let mut timeout = PollTimeout::try_from(idle::MOMENT).unwrap_or(PollTimeout::NONE);
        loop {
            match poll(&mut set, timeout) {
                Ok(0) => {
                    idle::give_back();
                    timeout = PollTimeout::NONE;
                }
                Ok(_) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let ready = set.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        Ok((sources, ready))
    }

    fn output(&self, stream: Stream) -> Option<&File> {
        if stream == Stream::Stdout { self.ends.stdout.as_ref() } else { self.ends.stderr.as_ref() }
    }

    fn readable(&self, stream: Stream) -> bool {
        self.output(stream).is_some_and(|output| {
            let mut set = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
            poll(&mut set, PollTimeout::ZERO).is_ok_and(|count| count > 0)
        })
    }

    /// The container wrote something, or closed its end.
    fn take(&mut self, stream: Stream) {
        let mut buffer = [0; 16 * 1024];
        let Some(mut output) = self.output(stream) else { return };
        match output.read(&mut buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // A terminal's master answers EIO when nobody inside has it open any more.
            Ok(0) | Err(_) if stream == Stream::Stdout => self.ends.stdout = None,
            Ok(0) | Err(_) => self.ends.stderr = None,
            Ok(count) => {
                let bytes = &buffer[..count];
                // The container goes on when the disk is full, and its clients still see what it writes.
                let _ = self.log.take(stream, bytes);
                self.tell(&match stream {
                    Stream::Stdout => Frame::Stdout(bytes.to_vec()),
                    Stream::Stderr => Frame::Stderr(bytes.to_vec()),
                });
            }
        }
    }

    /// The container takes input.
    fn feed(&mut self) {
        let Some(mut stdin) = self.ends.stdin.as_ref() else { return };
        match stdin.write(&self.input) {
            Ok(count) => drop(self.input.drain(..count)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return;
            }
            // It has closed its input: what comes is for nobody.
            Err(_) => {
                self.input.clear();
                self.input_ends = true;
            }
        }
        if self.input_ends && self.input.is_empty() {
            self.ends.stdin = None;
        }
    }

    /// A client sent something, can take something, or is gone.
    fn listen(&mut self, index: usize, events: PollFlags, process: BorrowedFd<'_>) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if events.contains(PollFlags::POLLOUT) {
            client.flush();
        }
        if !events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            return;
        }
        client.gone |= !client.inbox.fill(&client.socket).unwrap_or(false);
        let mut frames = Vec::new();
        loop {
            match client.inbox.take() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => {
                    client.gone = true;
                    break;
                }
            }
        }
        if frames.contains(&Frame::Watch) {
            client.watches = true;
            client.outbox.clear();
        }
        if client.gone && self.ends.stdin_once && !client.watches {
            frames.push(Frame::StdinEnd);
        }
        for frame in frames {
            self.obey(frame, process);
        }
    }

    fn obey(&mut self, frame: Frame, process: BorrowedFd<'_>) {
        match frame {
            Frame::Stdin(bytes) if self.ends.stdin.is_some() => self.input.extend(bytes),
            // A terminal's input has no end; the character that a user types for it has.
            Frame::StdinEnd if self.ends.terminal => self.input.push(4),
            Frame::StdinEnd => self.input_ends = true,
            // A terminal that is closed, or a process that has ended meanwhile, needs neither.
            Frame::Resize(rows, columns) => {
                if let Some(terminal) = self.ends.stdout.as_ref().filter(|_| self.ends.terminal) {
                    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                    let _ = tcsetwinsize(terminal, size);
                }
            }
            Frame::Signal(number) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    let _ = pidfd_send_signal(process, signal);
                }
            }
            _ => {}
        }
    }

    /// A client that attaches waits for this.
    fn welcome(&mut self) {
        if let Some(client) = self.clients.last_mut() {
            client.outbox.extend(Frame::Started(String::new()).to_bytes());
            client.flush();
        }
    }

    /// Tells all clients.
    fn tell(&mut self, frame: &Frame) {
        let bytes = frame.to_bytes();
        for client in self.clients.iter_mut().filter(|client| !client.watches) {
            client.outbox.extend_from_slice(&bytes);
            client.flush();
        }
    }

    fn drop_gone(&mut self) {
        self.clients.retain(|client| !client.gone);
    }
}

impl Client {
    /// Sends what the socket takes now.
    fn flush(&mut self) {
        while !self.outbox.is_empty() {
            match self.socket.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.gone |= error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }
}

impl Rest {
    /// Tells each client the exit status after the rest of the output, however long it takes to read that. A client that is
    /// gone is left out.
    pub fn tell_the_end(mut self, code: i32) {
        for client in &mut self.0 {
            client.outbox.extend(Frame::Exited(code).to_bytes());
            client.flush();
        }
        loop {
            // What has all of it is let go at once: its end of the socket closes.
            self.0.retain(|client| !client.gone && !client.outbox.is_empty());
            if self.0.is_empty() {
                return;
            }
            let wanted = |client| PollFd::new(client, PollFlags::POLLOUT);
            let mut set: Vec<_> = self.0.iter().map(|client| wanted(client.socket.as_fd())).collect();
            if poll(&mut set, PollTimeout::NONE).is_err_and(|errno| errno != nix::errno::Errno::EINTR) {
                return;
            }
            self.0.iter_mut().for_each(Client::flush);
        }
    }
}

/// A pipe for one standard stream of the container: the container's end, and the shim's.
///
/// # Errors
/// Where the process has too many descriptors.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}
