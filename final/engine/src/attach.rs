//! The frames between a client and a container's shim, in both directions over one UNIX stream socket.
//!
//! ```text
//!  client (run, attach, start)                     shim
//!     │                                             │  makes the container
//!     │◀── Started ─────────────────────────────────│  or Failed, and the shim is gone
//!     │◀── Stdout, Stderr ──────────────────────────│  as the container writes
//!     │─── Stdin, StdinEnd, Resize, Signal, Watch ─▶│
//!     │◀── Exited ──────────────────────────────────│  after everything of the container is gone
//! ```
//!
//! A frame is one byte of kind, four of length (big-endian), and the payload.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

/// The most that a frame carries: what a pipe holds.
pub const LARGEST: usize = 64 * 1024;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To the client: the container runs; what its user should know, mostly nothing.
    Started(String),
    /// To the client: it could not be started; the exit status and the report.
    Failed(u8, String),
    /// To the client: bytes of standard output, or of the terminal.
    Stdout(Vec<u8>),
    /// To the client: bytes of standard error.
    Stderr(Vec<u8>),
    /// To the client: it has ended with this status.
    Exited(i32),
    /// To the shim: bytes for standard input.
    Stdin(Vec<u8>),
    /// To the shim: nothing more will come.
    StdinEnd,
    /// To the shim: the client's terminal has this many rows and columns now.
    Resize(u16, u16),
    /// To the shim: pass this signal on to the container's process.
    Signal(i32),
    /// To the shim: this client wants no output, only the end.
    Watch,
}

impl Frame {
    /// The frame as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Started(notice) => (1, notice.clone().into_bytes()),
            Self::Failed(code, text) => (2, [&[*code], text.as_bytes()].concat()),
            Self::Stdout(bytes) => (3, bytes.clone()),
            Self::Stderr(bytes) => (4, bytes.clone()),
            Self::Exited(code) => (5, code.to_be_bytes().to_vec()),
            Self::Stdin(bytes) => (6, bytes.clone()),
            Self::StdinEnd => (7, Vec::new()),
            Self::Resize(rows, columns) => (8, [rows.to_be_bytes(), columns.to_be_bytes()].concat()),
            Self::Signal(number) => (9, number.to_be_bytes().to_vec()),
            Self::Watch => (10, Vec::new()),
        };
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        [&[kind][..], &length.to_be_bytes(), &payload].concat()
    }

    fn from_parts(kind: u8, payload: &[u8]) -> Option<Self> {
        Some(match (kind, payload) {
            (1, notice) => Self::Started(String::from_utf8_lossy(notice).into_owned()),
            (2, [code, text @ ..]) => Self::Failed(*code, String::from_utf8_lossy(text).into_owned()),
            (3, bytes) => Self::Stdout(bytes.to_vec()),
            (4, bytes) => Self::Stderr(bytes.to_vec()),
            (5, bytes) => Self::Exited(i32::from_be_bytes(bytes.try_into().ok()?)),
            (6, bytes) => Self::Stdin(bytes.to_vec()),
            (7, []) => Self::StdinEnd,
            (8, &[a, b, c, d]) => Self::Resize(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
            (9, bytes) => Self::Signal(i32::from_be_bytes(bytes.try_into().ok()?)),
            (10, []) => Self::Watch,
            _ => return None,
        })
    }
}

/// Sends a frame.
///
/// # Errors
/// EPIPE where the other end is gone (the library ignores SIGPIPE).
pub fn send(mut to: &UnixStream, frame: &Frame) -> io::Result<()> {
    to.write_all(&frame.to_bytes())
}

/// The frames that arrive at one end, put together from what the socket has.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Reads once from the socket. `false` when the other end has closed it.
    ///
    /// # Errors
    /// What read(2) returned.
    pub fn fill(&mut self, mut from: &UnixStream) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match from.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.bytes.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// For bytes that are no frame: whoever sent them is no client.
    pub fn take(&mut self) -> io::Result<Option<Frame>> {
        let Some((&[kind, a, b, c, d], rest)) = self.bytes.split_first_chunk::<5>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::from_parts(kind, payload).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("a frame of the unknown kind {kind}"))
        })?;
        self.bytes.drain(..5 + length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Frame> {
        vec![
            Frame::Started("a notice".into()),
            Frame::Failed(127, "error: no".into()),
            Frame::Stdout(vec![0; LARGEST]),
            Frame::Stderr(b"x".to_vec()),
            Frame::Exited(-1),
            Frame::Stdin(vec![]),
            Frame::StdinEnd,
            Frame::Resize(24, 80),
            Frame::Signal(15),
            Frame::Watch,
        ]
    }

    #[test]
    fn every_frame_comes_back_whatever_the_pieces() {
        let mut inbox = Inbox::default();
        let mut got = Vec::new();
        for piece in all().iter().flat_map(Frame::to_bytes).collect::<Vec<_>>().chunks(1000) {
            inbox.bytes.extend_from_slice(piece);
            while let Some(frame) = inbox.take().unwrap() {
                got.push(frame);
            }
        }
        assert_eq!(got, all());
        assert!(inbox.bytes.is_empty());
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        for bytes in [[0, 0, 0, 0, 0], [3, 255, 255, 255, 255], [8, 0, 0, 0, 0]] {
            let mut inbox = Inbox { bytes: bytes.to_vec() };
            assert!(inbox.take().is_err(), "{bytes:?}");
        }
    }
}
