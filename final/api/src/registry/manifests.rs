//! Manifests, by tag or by digest.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use sampan_image::serve::Target;
use sampan_image::serve::manifests::LARGEST_MANIFEST;

use super::error::Refusal;
use super::{Shared, blocking, body, text};

pub(super) async fn act(
    shared: &Arc<Shared>,
    request: Request,
    name: String,
    target: Target,
) -> Result<Response, Refusal> {
    let method = request.method().clone();
    match method {
        Method::GET | Method::HEAD => get(shared, method == Method::HEAD, name, target).await,
        Method::PUT => put(shared, request, name, target).await,
        Method::DELETE => {
            blocking(shared, move |registry| registry.delete_manifest(&name, &target)).await?;
            done(Response::builder().status(StatusCode::ACCEPTED), Body::empty())
        }
        other => Err(Refusal::method(&other)),
    }
}

async fn get(shared: &Arc<Shared>, head: bool, name: String, target: Target) -> Result<Response, Refusal> {
    let (entry, bytes) = blocking(shared, move |registry| registry.manifest(&name, &target)).await?;
    let builder = Response::builder()
        .header(header::CONTENT_TYPE, entry.media_type().to_string())
        .header(header::CONTENT_LENGTH, bytes.len())
        .header("docker-content-digest", entry.digest().to_string());
    done(builder, if head { Body::empty() } else { Body::from(bytes) })
}

async fn put(
    shared: &Arc<Shared>,
    request: Request,
    name: String,
    target: Target,
) -> Result<Response, Refusal> {
    let media_type = text(&request, "content-type").unwrap_or_default().to_owned();
    let bytes = body::whole(request, LARGEST_MANIFEST).await?;
    let path = format!("/v2/{name}/manifests/{target}");
    let put = move |registry: &sampan_image::serve::Registry| {
        registry.put_manifest(&name, &target, &media_type, &bytes)
    };
    let digest = blocking(shared, put).await?;
    let builder = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::LOCATION, path)
        .header("docker-content-digest", digest.to_string());
    done(builder, Body::empty())
}

/// A response of parts that were checked: what cannot be a header is the sender's fault.
pub(super) fn done(builder: axum::http::response::Builder, body: Body) -> Result<Response, Refusal> {
    builder.body(body).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, "NAME_INVALID", format!("it cannot be answered: {error}"))
    })
}
