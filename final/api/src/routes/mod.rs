//! The routes, one resource a file.

mod containers;
mod images;
mod system;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::routing::get;
use sampan_engine::Engine;

use crate::error::Error;

/// What every handler gets.
pub(crate) type Shared = Arc<Engine>;

/// All routes, with and without the version that clients put before the path.
pub fn router(engine: Arc<Engine>) -> Router {
    let routes = Router::new()
        .route("/_ping", get(system::ping).head(system::ping))
        .route("/version", get(system::version))
        .route("/containers/json", get(containers::list))
        .route("/images/json", get(images::list));
    Router::new().merge(routes.clone()).nest("/{version}", routes).fallback(not_served).with_state(engine)
}

async fn not_served(uri: Uri) -> Error {
    Error::NotServed(uri.path().to_owned())
}

/// Runs the engine's synchronous work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Unfinished))
}
