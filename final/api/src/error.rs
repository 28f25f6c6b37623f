//! Failures as Docker's clients read them: a status, and `{"message": "..."}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine refused, or could not.
    #[error("{0}")]
    Engine(#[from] sampan_engine::Error),
    /// The images.
    #[error("{0}")]
    Image(#[from] sampan_engine::ImageError),
    /// No such route.
    #[error("page not found: {0} is not served yet")]
    NotServed(String),
    /// The thread that worked on it died.
    #[error("the request was not finished")]
    Unfinished,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Engine(sampan_engine::Error::NoSuch(_)) | Self::NotServed(_) => StatusCode::NOT_FOUND,
            Self::Engine(sampan_engine::Error::State { .. }) => StatusCode::CONFLICT,
            Self::Engine(sampan_engine::Error::Invalid(_)) => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({ "message": self.to_string() }))).into_response()
    }
}
