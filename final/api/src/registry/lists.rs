//! Lists of repositories and tags, page by page: `n` at a time, those after `last`.

use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::error::Refusal;
use super::{Shared, blocking, parameters};

/// `GET /v2/`: this is a registry, and whoever asks may use it.
pub(super) fn base() -> Response {
    Json(json!({})).into_response()
}

/// `GET /v2/_catalog`
pub(super) async fn catalog(shared: &Arc<Shared>, request: Request) -> Result<Response, Refusal> {
    let view = blocking(shared, |registry| registry.view()).await?;
    let (names, next) = some(view.repositories.keys(), &request)?;
    Ok(list(&json!({ "repositories": names }), "/v2/_catalog", next))
}

/// `GET /v2/NAME/tags/list`
pub(super) async fn tags(shared: &Arc<Shared>, request: Request, name: String) -> Result<Response, Refusal> {
    let view = blocking(shared, |registry| registry.view()).await?;
    let (tags, next) = some(view.repository(&name)?.tags.keys(), &request)?;
    Ok(list(&json!({ "name": name, "tags": tags }), &format!("/v2/{name}/tags/list"), next))
}

fn list(value: &Value, path: &str, next: Option<String>) -> Response {
    let mut response = Json(value).into_response();
    if let Some(next) = next
        && let Ok(link) = HeaderValue::from_str(&format!("<{path}?{next}>; rel=\"next\""))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// Those of the names that are asked for, and the parameters that ask for the next, where there are more. Nothing in a name needs
/// an escape in an address.
fn some<'a>(
    names: impl Iterator<Item = &'a String>,
    request: &Request,
) -> Result<(Vec<&'a String>, Option<String>), Refusal> {
    let asked = parameters(request);
    let most = match asked.get("n").map(|text| text.parse::<usize>()) {
        Some(Err(_)) => {
            return Err(Refusal::new(axum::http::StatusCode::BAD_REQUEST, "UNSUPPORTED", "n is no number"));
        }
        Some(Ok(most)) => most,
        None => usize::MAX,
    };
    let mut rest = names.filter(|name| asked.get("last").is_none_or(|last| *name > last));
    let found: Vec<_> = rest.by_ref().take(most).collect();
    let next = found.last().filter(|_| rest.next().is_some()).map(|last| format!("n={most}&last={last}"));
    Ok((found, next))
}
