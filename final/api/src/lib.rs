//! The Docker Engine REST API over a UNIX socket, for the official `docker` command and everything that speaks to it.
//!
//! The server is one more client of the engine's library: it keeps nothing, and killing it stops no container. The engine is
//! synchronous, so each request works on a thread of the blocking pool. What is served so far: `/_ping`, `/version`,
//! `/containers/json` and `/images/json`; everything else answers 404 with a message in Docker's form.
//!
//! See the Docker Engine API, version 1.43. Beside it stands a second server, [`registry`], which offers the store's images to others.

#![forbid(unsafe_code)]

pub mod error;
pub mod registry;
pub mod routes;

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use sampan_engine::Engine;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

/// The version of the API that is spoken, and the oldest that is understood.
pub const API_VERSION: &str = "1.43";

/// Whether a server that was killed left this socket: nobody listens. Nothing but a socket is ever taken for one.
fn is_left_behind(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(refused)
}

/// Serves the API on the socket at `path` until SIGTERM or SIGINT; the socket is removed at the end.
///
/// # Errors
/// Where the socket cannot be made: somebody else listens there, or the folder is missing.
pub fn serve(engine: Engine, path: &Path) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if is_left_behind(path) {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let ended = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let served =
            axum::serve(listener, routes::router(Arc::new(engine))).with_graceful_shutdown(ended).await;
        std::fs::remove_file(path)?;
        served
    })
}
