//! Connections: accepted one by one, so many at the same time and no more, each a task of its own.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sampan_image::serve::PATIENCE;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::patience::Patient;

/// A class of forty with six connections each.
const AT_ONCE: usize = 256;
/// For a request's line and headers, and for the handshake of TLS.
const HEADERS: Duration = Duration::from_secs(30);
/// How often the registry is asked whether it may let go of the store.
const LOOK: Duration = Duration::from_secs(30);

/// Answers until SIGTERM or SIGINT.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut look = interval(LOOK);
    let tls = tls.map(TlsAcceptor::from);
    let free = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let accepted = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = look.tick() => {
                let shared = Arc::clone(&shared);
                tokio::task::spawn_blocking(move || shared.registry.rest(PATIENCE));
                continue;
            }
            accepted = accept(&listener, &free) => accepted,
        };
        let Ok((stream, place)) = accepted else {
            // No descriptor is left, say: others will end.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (tls, router) = (tls.clone(), router.clone());
        tokio::spawn(async move {
            match tls {
                None => talk(stream, router).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HEADERS, tls.accept(stream)).await {
                        talk(stream, router).await;
                    }
                }
            }
            drop(place);
        });
    }
}

async fn accept(
    listener: &tokio::net::TcpListener,
    free: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(free).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

/// One connection to its end. What goes wrong with it is its own affair: the other end sees it too.
async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    let stream = TokioIo::new(Patient::new(stream));
    let _ = builder.serve_connection(stream, TowerToHyperService::new(router)).await;
}
