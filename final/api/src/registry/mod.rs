//! `sampan registry serve`: a registry over the image store, for a room in which nobody has the internet.
//!
//! It speaks the OCI distribution specification, so Docker, Podman, skopeo and `sampan` pull from it and push to it. What it offers
//! and how pushed images come into the store is [`sampan_image::serve`]'s business; here is HTTP. Each connection is a task, and
//! each request's work with files runs on a thread of the blocking pool.
//!
//! ```text
//! connection ─▶ TLS ─▶ password ─▶ path ─┬▶ /                               page       for people
//!                                        ├▶ /v2/                            200, or 401: which login is asked for
//!                                        ├▶ /v2/_catalog, NAME/tags/list    lists
//!                                        ├▶ /v2/NAME/manifests/REFERENCE    manifests
//!                                        ├▶ /v2/NAME/blobs/DIGEST           blobs
//!                                        └▶ /v2/NAME/blobs/uploads/[ID]     uploads
//! ```
//!
//! Whoever connects may be slow or hostile: headers, each piece of a body and each write have a time limit, documents a largest size,
//! and connections a largest number.

mod addresses;
mod blobs;
mod body;
mod connections;
mod error;
mod lists;
mod manifests;
mod page;
mod passwords;
mod path;
mod patience;
mod tls;
mod uploads;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use sampan_image::Store;
use sampan_image::serve::Registry;

pub use addresses::of_this_machine;
use error::Refusal;
use passwords::Passwords;
use path::Resource;

/// How the registry is to be served.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address and port; port 0 is one that is free.
    pub listen: SocketAddr,
    /// What stands before the first `/` of the names of what is offered; `localhost:PORT` if none is given.
    pub name: Option<String>,
    /// Who may use it: a file of `NAME:HASH` as htpasswd(1) writes it with bcrypt. Everybody if none is given.
    pub htpasswd: Option<PathBuf>,
    /// The certificate with those that vouch for it, and the key, both in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A registry that listens, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

/// What every request gets.
#[derive(Debug)]
struct Shared {
    registry: Registry,
    passwords: Option<Passwords>,
    secure: bool,
}

impl Server {
    /// Checks everything, and listens.
    ///
    /// # Errors
    /// What is wrong with a file or the name, or why the address cannot be had.
    pub fn new(store: Store, options: &Options) -> io::Result<Self> {
        let passwords = options.htpasswd.as_deref().map(Passwords::open).transpose()?;
        let tls = options.tls.as_ref().map(|(certificate, key)| tls::config(certificate, key)).transpose()?;
        let listener = TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let name = options.name.clone().unwrap_or_else(|| format!("localhost:{port}"));
        let registry = Registry::new(store, &name)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let shared = Shared { registry, passwords, secure: tls.is_some() };
        Ok(Self { listener, shared: Arc::new(shared), tls })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What stands before the first `/` of the names of what is offered.
    pub fn name(&self) -> &str {
        self.shared.registry.name()
    }

    /// Answers until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// Where no thread can be had, or the listener fails.
    pub fn run(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let router = Router::new().fallback(answer).with_state(Arc::clone(&self.shared));
        let outcome = runtime.block_on(connections::serve(self.listener, self.tls, router, self.shared));
        // A thread that waits for a slow disk is not waited for: what is not finished was never seen.
        runtime.shutdown_background();
        outcome
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mut response = match act(&shared, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    };
    let headers = response.headers_mut();
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    // A layer is whatever somebody pushed: no browser is to guess that it is a page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn act(shared: &Arc<Shared>, request: Request) -> Result<Response, Refusal> {
    if let Some(passwords) = &shared.passwords {
        passwords.check(request.headers().get(header::AUTHORIZATION)).await?;
    }
    let resource = Resource::of(request.uri().path())?;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match resource {
        Resource::Page if reads => page::show(shared, request).await,
        Resource::Base if reads => Ok(lists::base()),
        Resource::Catalog if reads => lists::catalog(shared, request).await,
        Resource::Tags(name) if reads => lists::tags(shared, request, name).await,
        Resource::Manifest(name, target) => manifests::act(shared, request, name, target).await,
        Resource::Blob(digest) if reads => blobs::get(shared, request, digest).await,
        Resource::Uploads(name) if request.method() == Method::POST => {
            uploads::begin(shared, request, name).await
        }
        Resource::Upload(name, id) => uploads::act(shared, request, name, id).await,
        _ => Err(Refusal::method(request.method())),
    }
}

/// Runs the registry's work, which is synchronous, where it may block.
async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Registry) -> Result<T, sampan_image::serve::Error> + Send + 'static,
) -> Result<T, Refusal> {
    let shared = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || work(&shared.registry)).await;
    Ok(done.map_err(|_| Refusal::unfinished())??)
}

/// A header as text, where it is there and is text.
fn text<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// The parameters of a request.
fn parameters(request: &Request) -> std::collections::HashMap<String, String> {
    axum::extract::Query::try_from_uri(request.uri()).map(|found| found.0).unwrap_or_default()
}
