//! Bodies: those that come, each piece within a time limit and all within a size, and those that go, from a thread that reads a file.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::error::Refusal;

/// How long the next piece of a body may take to come, or a piece to be taken.
pub(super) const SLOWEST: Duration = Duration::from_secs(60);

/// The next piece of a body that comes; none at its end.
pub(super) async fn next(body: &mut Body) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        match timeout(SLOWEST, frame).await {
            Err(_) => return Err(Refusal::slow()),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(Refusal::broken(format!("the body broke off: {error}"))),
            // What is no data is a trailer, and nothing is made of those.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A body that is small.
pub(super) async fn whole(request: Request, most: u64) -> Result<Vec<u8>, Refusal> {
    let mut body = request.into_body();
    if body.size_hint().lower() > most {
        return Err(Refusal::too_large(most));
    }
    let mut bytes = Vec::new();
    while let Some(piece) = next(&mut body).await? {
        if bytes.len() as u64 + piece.len() as u64 > most {
            return Err(Refusal::too_large(most));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A body of known length whose pieces another thread sends.
#[derive(Debug)]
pub(super) struct Sent {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl Sent {
    pub(super) fn new(length: u64) -> (mpsc::Sender<io::Result<Bytes>>, Self) {
        const AHEAD: usize = 4;
        let (sender, pieces) = mpsc::channel(AHEAD);
        (sender, Self { pieces, left: length })
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.pieces.poll_recv(context).map(|piece| {
            piece.map(|piece| {
                let piece = piece?;
                self.left = self.left.saturating_sub(piece.len() as u64);
                Ok(Frame::data(piece))
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
