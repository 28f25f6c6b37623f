//! Show the book to a browser on this machine: a file server of the smallest kind, for 127.0.0.1 alone.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

/// Serves the files below `folder` until the process is ended.
///
/// # Errors
/// Where the port is taken.
pub(crate) fn serve(folder: &Path, port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("127.0.0.1:{port}"))?;
    println!("http://{}/ (Ctrl-C ends it)", listener.local_addr()?);
    for stream in listener.incoming() {
        // A browser that went away is no reason to end.
        if let Err(error) = stream.map_err(anyhow::Error::from).and_then(|stream| answer(folder, stream)) {
            eprintln!("warning: {error}");
        }
    }
    Ok(())
}

fn answer(folder: &Path, mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_line(&mut request)?;
    // The headers say nothing that matters here, but a connection closed on unread bytes is reset.
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let (status, kind, body) = respond(folder, &request);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)?;
    Ok(())
}

fn respond(folder: &Path, request: &str) -> (&'static str, &'static str, Vec<u8>) {
    let mut words = request.split_whitespace();
    let text = "text/plain; charset=utf-8";
    if words.next() != Some("GET") {
        return ("405 Method Not Allowed", text, b"only GET\n".to_vec());
    }
    let path = words.next().and_then(file_of).map(|path| folder.join(path));
    let path = path.map(|path| if path.is_dir() { path.join("index.html") } else { path });
    match path.and_then(|path| fs::read(&path).ok().map(|body| (kind_of(&path), body))) {
        Some((kind, body)) => ("200 OK", kind, body),
        None => ("404 Not Found", text, b"no such page\n".to_vec()),
    }
}

/// The file that a request means, below the folder; none where it climbs.
fn file_of(target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next().unwrap_or_default().trim_start_matches('/');
    let path = PathBuf::from(path);
    path.components().all(|component| matches!(component, Component::Normal(_))).then_some(path)
}

fn kind_of(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_served_and_nothing_above_them() {
        let folder = tempfile::tempdir().unwrap();
        let book = folder.path().join("book");
        fs::create_dir(&book).unwrap();
        fs::write(folder.path().join("secret"), "x").unwrap();
        fs::write(book.join("index.html"), "hello").unwrap();
        assert_eq!(respond(&book, "GET / HTTP/1.1").2, b"hello");
        assert_eq!(respond(&book, "GET /index.html?x=1 HTTP/1.1").1, "text/html; charset=utf-8");
        assert_eq!(respond(&book, "GET /../secret HTTP/1.1").0, "404 Not Found");
        assert_eq!(respond(&book, "GET /x/../../secret HTTP/1.1").0, "404 Not Found");
        assert_eq!(respond(&book, "POST / HTTP/1.1").0, "405 Method Not Allowed");
    }
}
