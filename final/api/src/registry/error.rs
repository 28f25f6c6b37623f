//! Refusals in the specification's form: a status, and `{"errors": [{"code": ..., "message": ...}]}`.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sampan_image::serve::Error;
use serde_json::json;

/// Why a request is not answered as it was meant.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    header: Option<(HeaderName, String)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: String) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Nobody has said who is there, or it is not true.
    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "a name and a password are asked for")
            .with(header::WWW_AUTHENTICATE, "Basic realm=\"sampan registry\"".to_owned())
    }

    pub(super) fn method(method: &Method) -> Self {
        let message = format!("{method} is not done here");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(super) fn no_such_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is no such page")
    }

    /// The sender stopped in the middle.
    pub(super) fn broken(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    /// The sender waits too long.
    pub(super) fn slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", "nothing came for too long")
    }

    /// A part of a range that the blob has not.
    pub(super) fn no_such_range(size: u64) -> Self {
        let message = format!("the blob has {size} bytes");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message)
            .with(header::CONTENT_RANGE, format!("bytes */{size}"))
    }

    pub(super) fn too_large(most: u64) -> Self {
        let message = format!("it has more than {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    }

    /// The thread that worked on it died.
    pub(super) fn unfinished() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the request was not finished")
    }

    pub(super) fn response(self) -> Response {
        let body = json!({ "errors": [{ "code": self.code, "message": self.message, "detail": null }] });
        let mut response = (self.status, Json(body)).into_response();
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, code) = match &error {
            Error::Name(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Error::NameUnknown(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Error::ManifestUnknown { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Error::ManifestInvalid(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Error::ManifestBlobUnknown(_) => (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN"),
            Error::BlobUnknown(_) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Error::UploadUnknown(_) => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Error::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Error::Digest { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Error::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            Error::Store(_) if error.is_full_disk() => {
                let message = "the registry's disk is full: remove images there, and push again";
                return Self::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", message);
            }
            Error::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        };
        let expected = if let Error::Range { expected } = &error { Some(*expected) } else { None };
        let refusal = Self::new(status, code, error.to_string());
        match expected {
            Some(expected) => refusal.with(header::RANGE, format!("0-{}", expected.saturating_sub(1))),
            None => refusal,
        }
    }
}
