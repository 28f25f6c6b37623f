//! A registry that does what a test tells it, good or bad: an HTTP server of one function.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::Result;

/// So much of a body is kept.
const KEPT: u64 = 4096;

/// What a connection begins with that is to be encrypted.
const TLS: u8 = 0x16;

/// What was asked.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    headers: Vec<(String, String)>,
    /// The beginning of the body.
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    /// 0: none at all, the line breaks.
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Send only so many bytes of the body, and hang up.
    pub(super) cut: Option<usize>,
    /// Announce another length.
    pub(super) length: Option<usize>,
    /// Send the body again and again.
    pub(super) endless: bool,
    /// After the body nothing comes, and the line stays open.
    pub(super) stalled: bool,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A server that lives as long as the test's process.
pub(super) struct Fake {
    pub(super) address: String,
    pub(super) requests: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    /// Answers on a port of this address, 127.0.0.1 or one that the test has set on `lo`.
    pub(super) fn start(
        ip: &str,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?.to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                // A client that hangs up is nobody's business.
                thread::spawn(move || drop(serve(&stream, &*answer, &log)));
            }
        });
        Ok(Self { address, requests })
    }

    /// The requests so far whose method and path begin so.
    pub(super) fn asked(&self, method: &str, path: &str) -> Vec<Request> {
        let all = self.requests.lock().map(|all| all.clone()).unwrap_or_default();
        all.into_iter().filter(|request| request.method == method && request.path.starts_with(path)).collect()
    }
}

fn serve(stream: &TcpStream, answer: &dyn Fn(&Request) -> Reply, log: &Mutex<Vec<Request>>) -> Result<()> {
    // A head is written in pieces, and none waits for the other to be acknowledged.
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    if reader.fill_buf()?.first() == Some(&TLS) {
        let mut out = stream;
        return Ok(out.write_all(b"HTTP/1.1 400 no TLS here\r\n\r\n")?);
    }
    while let Some(request) = read(&mut reader)? {
        if let Ok(mut log) = log.lock() {
            log.push(request.clone());
        }
        let reply = answer(&request);
        if reply.status == 0 {
            stream.shutdown(Shutdown::Both)?;
            break;
        }
        let mut out = stream;
        let length = reply.length.unwrap_or(reply.body.len());
        write!(out, "HTTP/1.1 {} X\r\ncontent-length: {length}\r\n", reply.status)?;
        for (name, value) in &reply.headers {
            write!(out, "{name}: {value}\r\n")?;
        }
        write!(out, "\r\n")?;
        if request.method == "HEAD" {
            continue;
        }
        if let Some(count) = reply.cut {
            out.write_all(&reply.body[..count.min(reply.body.len())])?;
            stream.shutdown(Shutdown::Both)?;
            break;
        }
        out.write_all(&reply.body)?;
        if reply.endless {
            // Until the client hangs up.
            loop {
                out.write_all(&reply.body)?;
            }
        }
        if reply.stalled {
            thread::sleep(Duration::from_secs(100));
        }
    }
    Ok(())
}

/// The next request on this connection; none when it was closed.
fn read(reader: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: String::new() };
    let length: u64 = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let (mut body, mut start) = (reader.by_ref().take(length), Vec::new());
    body.by_ref().take(KEPT).read_to_end(&mut start)?;
    std::io::copy(&mut body, &mut std::io::sink())?;
    request.body = String::from_utf8_lossy(&start).into_owned();
    Ok(Some(request))
}
