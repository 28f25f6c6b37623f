//! Read a stream in a thread of its own, some way ahead of whoever wants it.
//!
//! To decompress a layer, and to make its files: done in turn, they take as long as both together; side by side, as long as the longer
//! one. What the thread has read goes through a ring of a few buffers:
//!
//! ```text
//! decompress ─▶ full ─▶ full ─▶ digest, unpack
//!      └────◀ empty ◀─ empty ◀───┘
//! ```
//!
//! What holds: 1. the memory is that of the ring, whatever the stream's length: who is ahead waits; 2. errors come in their place, after the
//! bytes before them; 3. when the reader is given up, the thread ends with its next buffer, and is waited for.

use std::io::{self, Read};
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// The ring: half a MiB.
const BUFFERS: usize = 4;
const SIZE: usize = 1 << 17;

/// A buffer, and how many bytes of it were read; none at the end.
type Filled = (Box<[u8]>, io::Result<usize>);

/// The stream, as it comes from the thread.
#[derive(Debug)]
pub(crate) struct Ahead {
    filled: Receiver<Filled>,
    emptied: Sender<Box<[u8]>>,
    buffer: Box<[u8]>,
    /// Where in the buffer we are, and how far it is filled.
    at: usize,
    end: usize,
}

/// Gives `work` a stream that is read ahead, and returns what it returns.
pub(crate) fn read_ahead<T>(stream: &mut (impl Read + Send), work: impl FnOnce(&mut Ahead) -> T) -> T {
    let ((fill, filled), (emptied, empty)) = (channel(), channel());
    for _ in 0..BUFFERS {
        // The other end is three lines above.
        let _ = emptied.send(vec![0; SIZE].into_boxed_slice());
    }
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            while let Ok(mut buffer) = empty.recv() {
                let count = stream.read(&mut buffer);
                let goes_on = match &count {
                    Ok(count) => *count > 0,
                    // What failed is not tried again behind the reader's back.
                    Err(error) => error.kind() == io::ErrorKind::Interrupted,
                };
                if fill.send((buffer, count)).is_err() || !goes_on {
                    break;
                }
            }
        });
        let mut ahead = Ahead { filled, emptied, buffer: Box::default(), at: 0, end: 0 };
        let done = work(&mut ahead);
        drop(ahead);
        reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        done
    })
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end {
            // After the end nobody fills any more.
            let Ok((next, count)) = self.filled.recv() else { return Ok(0) };
            let emptied = std::mem::replace(&mut self.buffer, next);
            if !emptied.is_empty() {
                // Nobody takes it where the stream has ended.
                let _ = self.emptied.send(emptied);
            }
            (self.at, self.end) = (0, count?);
        }
        let count = buffer.len().min(self.end - self.at);
        buffer[..count].copy_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_stream_comes_whole_and_in_order() {
        for length in [0, 1, SIZE - 1, SIZE, 9 * SIZE + 5] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut found = Vec::new();
            let mut stream = Cursor::new(&bytes);
            read_ahead(&mut stream, |stream| {
                let mut piece = [0; 1000];
                loop {
                    match stream.read(&mut piece).unwrap() {
                        0 => break,
                        count => found.extend_from_slice(&piece[..count]),
                    }
                }
                assert_eq!(stream.read(&mut piece).unwrap(), 0, "the end stays the end");
            });
            assert!(found == bytes, "{length}");
        }
    }

    /// Counts what is taken from it, and breaks after so many bytes.
    struct Breaking<'a>(&'a AtomicU64, u64);

    impl Read for Breaking<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.load(Ordering::SeqCst) >= self.1 {
                return Err(io::Error::other("broken"));
            }
            self.0.fetch_add(buffer.len() as u64, Ordering::SeqCst);
            Ok(buffer.len())
        }
    }

    #[test]
    fn an_error_comes_after_the_bytes_before_it() {
        let taken = AtomicU64::new(0);
        let mut bytes = Vec::new();
        let end = 2 * SIZE as u64;
        let error = read_ahead(&mut Breaking(&taken, end), |stream| stream.read_to_end(&mut bytes));
        assert_eq!(error.unwrap_err().to_string(), "broken");
        assert_eq!(bytes.len() as u64, end);
    }

    #[test]
    fn an_endless_stream_is_read_no_further_than_the_ring() {
        let taken = AtomicU64::new(0);
        read_ahead(&mut Breaking(&taken, u64::MAX), |stream| {
            stream.read_exact(&mut [0; 10]).unwrap();
            // As long as it takes: the thread is to have filled what it may.
            while taken.load(Ordering::SeqCst) < (BUFFERS * SIZE) as u64 {
                thread::yield_now();
            }
        });
        assert_eq!(taken.into_inner(), (BUFFERS * SIZE) as u64);
    }
}
