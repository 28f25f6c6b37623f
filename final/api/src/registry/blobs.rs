//! Blobs on their way out: whole, or from where an earlier download broke.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use sampan_image::Digest;

use super::body::Sent;
use super::error::Refusal;
use super::manifests::done;
use super::{Shared, blocking, text};

/// `GET` and `HEAD /v2/NAME/blobs/DIGEST`
pub(super) async fn get(shared: &Arc<Shared>, request: Request, digest: Digest) -> Result<Response, Refusal> {
    let name = digest.to_string();
    let (file, size) = blocking(shared, move |registry| registry.open_blob(&digest)).await?;
    let mut builder = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes")
        .header("docker-content-digest", name);
    // Of a header there are no parts.
    let asked = text(&request, "range").filter(|_| request.method() == Method::GET);
    let (start, end) = match asked.and_then(|asked| range(asked, size)) {
        None => (0, size),
        Some(None) => return Err(Refusal::no_such_range(size)),
        Some(Some((start, end))) => {
            builder = builder
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1));
            (start, end)
        }
    };
    builder = builder.header(header::CONTENT_LENGTH, end - start);
    if request.method() == Method::HEAD {
        return done(builder, Body::empty());
    }
    done(builder, Body::new(send(file, start, end - start)))
}

/// The bytes that a header asks for, the end not included: none where it is to be passed over, `Some(None)` where there is
/// nothing of the kind. Of several ranges the whole is sent, as RFC 9110 allows.
fn range(asked: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = asked.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first, last) {
        ("", last) => {
            let count: u64 = last.parse().ok()?;
            (size.saturating_sub(count), size)
        }
        (first, "") => (first.parse().ok()?, size),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(size))
        }
    };
    Some((start < end).then_some((start, end)))
}

/// Reads the file on a thread of its own, a few pieces ahead of the connection, and stops when that is gone.
fn send(mut file: File, start: u64, count: u64) -> Sent {
    const PIECE: u64 = 1 << 17;
    let (sender, body) = Sent::new(count);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = file.seek(SeekFrom::Start(start)) {
            let _ = sender.blocking_send(Err(error));
            return;
        }
        let mut left = count;
        while left > 0 {
            let mut piece = Vec::new();
            let read = (&mut file).take(PIECE.min(left)).read_to_end(&mut piece);
            let piece = read.and_then(|read| {
                left -= read as u64;
                if read == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(piece.into()) }
            });
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                break;
            }
        }
    });
    body
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn a_range_is_cut_at_the_end_or_passed_over() {
        assert_eq!(range("bytes=0-3", 10), Some(Some((0, 4))));
        assert_eq!(range("bytes=4-", 10), Some(Some((4, 10))));
        assert_eq!(range("bytes=-3", 10), Some(Some((7, 10))));
        assert_eq!(range("bytes=-30", 10), Some(Some((0, 10))));
        assert_eq!(range("bytes=8-99", 10), Some(Some((8, 10))));
        assert_eq!(range("bytes=0-18446744073709551615", 10), Some(Some((0, 10))));
        for none in ["bytes=10-", "bytes=99-100", "bytes=-0"] {
            assert_eq!(range(none, 10), Some(None), "{none}");
        }
        for passed in ["", "bytes=", "bytes=a-b", "bytes=5-4", "items=0-1", "bytes=0-1,3-4"] {
            assert_eq!(range(passed, 10), None, "{passed}");
        }
    }
}
