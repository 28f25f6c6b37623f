//! Blobs on their way in: in one request, in two, or in pieces, of which each may come over another connection.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use sampan_image::Digest;
use sampan_image::serve::{Target, Upload};
use tokio::sync::mpsc;

use super::body::next;
use super::error::Refusal;
use super::manifests::done;
use super::path::parse;
use super::{Shared, blocking, parameters, text};

/// `POST /v2/NAME/blobs/uploads/`: begins an upload; with `mount` the blob may be here already, and with `digest` it comes at once.
pub(super) async fn begin(shared: &Arc<Shared>, request: Request, name: String) -> Result<Response, Refusal> {
    // Refused now, and not when everything has come.
    shared.registry.reference(&name, &Target::Tag("latest".to_owned()))?;
    let mut asked = parameters(&request);
    if let Some(digest) = asked.remove("mount") {
        let digest = parse(&digest)?;
        let wanted = digest.clone();
        // From whichever repository: here a blob is one file for all.
        if blocking(shared, move |registry| registry.mount(&wanted)).await.is_ok() {
            return created(&name, &digest);
        }
    }
    let digest = asked.remove("digest").map(|text| parse(&text)).transpose()?;
    let upload = blocking(shared, |registry| registry.begin_upload()).await?;
    match digest {
        None => state(StatusCode::ACCEPTED, &name, &upload, 0),
        Some(digest) => {
            receive(&upload, None, request.into_body()).await?;
            finish(shared, upload, &name, digest).await
        }
    }
}

/// `/v2/NAME/blobs/uploads/ID`: `GET` how far it is, `PATCH` the next piece, `PUT` the last, `DELETE` it.
pub(super) async fn act(
    shared: &Arc<Shared>,
    request: Request,
    name: String,
    id: String,
) -> Result<Response, Refusal> {
    shared.registry.reference(&name, &Target::Tag("latest".to_owned()))?;
    let upload = blocking(shared, move |registry| registry.upload(&id)).await?;
    let method = request.method().clone();
    match method {
        Method::GET | Method::HEAD => {
            let asked = Arc::clone(&upload);
            let size = blocking(shared, move |_| asked.size()).await?;
            state(StatusCode::NO_CONTENT, &name, &upload, size)
        }
        Method::PATCH => {
            let start = start(&request)?;
            let size = receive(&upload, start, request.into_body()).await?;
            state(StatusCode::ACCEPTED, &name, &upload, size)
        }
        Method::PUT => {
            let Some(digest) = parameters(&request).remove("digest") else {
                return Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "DIGEST_INVALID",
                    "the digest of the whole is missing",
                ));
            };
            let (digest, start) = (parse(&digest)?, start(&request)?);
            receive(&upload, start, request.into_body()).await?;
            finish(shared, upload, &name, digest).await
        }
        Method::DELETE => {
            blocking(shared, move |registry| registry.cancel_upload(&upload)).await?;
            done(Response::builder().status(StatusCode::NO_CONTENT), Body::empty())
        }
        other => Err(Refusal::method(&other)),
    }
}

/// Where a piece begins, if it says so: `Content-Range: FIRST-LAST`, without the unit that HTTP has there.
fn start(request: &Request) -> Result<Option<u64>, Refusal> {
    let Some(said) = text(request, "content-range") else { return Ok(None) };
    let said = said.trim_start_matches("bytes ");
    let first = said.split_once('-').and_then(|(first, _)| first.trim().parse().ok());
    first.map(Some).ok_or_else(|| Refusal::broken(format!("{said:?} is no FIRST-LAST")))
}

/// Writes a body to the end of an upload, on a thread beside the connection.
async fn receive(upload: &Arc<Upload>, start: Option<u64>, mut body: Body) -> Result<u64, Refusal> {
    const AHEAD: usize = 16;
    let (sender, mut pieces) = mpsc::channel::<Bytes>(AHEAD);
    let upload = Arc::clone(upload);
    let writer = tokio::task::spawn_blocking(move || {
        upload.append(start, std::iter::from_fn(|| pieces.blocking_recv()))
    });
    // A client reads the answer when it has sent everything: what is refused is read as well, as far as is bearable.
    let mut bearable: u64 = 1 << 30;
    let broken = loop {
        match next(&mut body).await {
            Err(broken) => break Some(broken),
            Ok(None) => break None,
            Ok(Some(piece)) => {
                let length = piece.len() as u64;
                if sender.send(piece).await.is_err() {
                    bearable = bearable.saturating_sub(length);
                }
                if bearable == 0 {
                    break None;
                }
            }
        }
    };
    drop(sender);
    let written = writer.await.map_err(|_| Refusal::unfinished())?;
    broken.map_or_else(|| Ok(written?), Err)
}

async fn finish(
    shared: &Arc<Shared>,
    upload: Arc<Upload>,
    name: &str,
    digest: Digest,
) -> Result<Response, Refusal> {
    let expected = digest.clone();
    blocking(shared, move |registry| registry.finish_upload(&upload, &expected)).await?;
    created(name, &digest)
}

fn created(name: &str, digest: &Digest) -> Result<Response, Refusal> {
    let builder = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::LOCATION, format!("/v2/{name}/blobs/{digest}"))
        .header("docker-content-digest", digest.to_string());
    done(builder, Body::empty())
}

/// Where to go on, and from which byte on.
fn state(status: StatusCode, name: &str, upload: &Upload, size: u64) -> Result<Response, Refusal> {
    let id = upload.id();
    let builder = Response::builder()
        .status(status)
        .header(header::LOCATION, format!("/v2/{name}/blobs/uploads/{id}"))
        .header(header::RANGE, format!("0-{}", size.saturating_sub(1)))
        .header("docker-upload-uuid", id);
    done(builder, Body::empty())
}
