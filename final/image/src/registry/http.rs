//! One request and its answer: redirects, further tries, and who hears a secret.
//!
//! What is seen to here: 1. the header `Authorization` goes to the host that it is meant for and to no other, whatever that one
//! answers, nor does a body that is a secret; 2. each host has its own authorities, and sees only the certificate that is meant for
//! it; 3. nobody is led from an encrypted connection to an open one; 4. a loop of redirects ends; 5. what may be better in a moment
//! is tried again, ever more slowly, and when the server says when, then.
//!
//! See RFC 9110: sections 10.2.3 (`Retry-After`), 11 and 15.4.

use std::fmt::Write as _;
use std::io::Read;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use step::step;
use ureq::http::{Method, Request, Response, StatusCode, Uri, header};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, Proxy, SendBody, Timeout};

use super::Error;

const MOST_REDIRECTS: usize = 10;
const TRIES: u32 = 5;
/// A server that asks for more patience than that is taken at its word: no.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Makes a body, again for each try.
pub(super) type Payload = Arc<dyn Fn() -> std::io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// What is sent.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(header::HeaderName, String)>,
    /// The header `Authorization`.
    pub(super) authorization: Option<String>,
    /// The body and its length.
    pub(super) body: Option<(Payload, u64)>,
    /// The body is for this host alone: no redirect leads it to another.
    secret: bool,
    /// How often it is tried at most.
    tries: u32,
    /// What it is for: a learner sees it with each request.
    why: &'static str,
}

impl Ask {
    pub(super) fn new(method: Method, url: impl Into<String>, why: &'static str) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            authorization: None,
            body: None,
            secret: false,
            tries: TRIES,
            why,
        }
    }

    pub(super) fn get(url: impl Into<String>, why: &'static str) -> Self {
        Self::new(Method::GET, url, why)
    }

    pub(super) fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn bytes(mut self, bytes: Vec<u8>) -> Self {
        let (length, bytes) = (bytes.len() as u64, Arc::new(bytes));
        let payload = move || Ok(Box::new(Shared(Arc::clone(&bytes), 0)) as Box<dyn Read + Send>);
        self.body = Some((Arc::new(payload), length));
        self
    }

    /// What `bytes` has is told to nobody else.
    pub(super) fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Not to be repeated: what was sent may have counted.
    pub(super) fn once(mut self) -> Self {
        self.tries = 1;
        self
    }
}

/// Bytes that several bodies read.
struct Shared(Arc<Vec<u8>>, usize);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = (&self.0[self.1..]).read(buffer)?;
        self.1 += count;
        Ok(count)
    }
}

/// The connections to one host, through the proxy of the environment (`HTTPS_PROXY`) or directly.
pub(super) fn agent(tls: TlsConfig, is_direct: bool) -> Agent {
    let config = Agent::config_builder()
        .proxy(if is_direct { None } else { Proxy::try_from_env() })
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(30)))
        .timeout_per_write(Some(Duration::from_secs(60)))
        .user_agent(concat!("sampan/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build();
    config.new_agent()
}

/// Whose connections go to a host.
pub(super) type Agents<'a> = dyn Fn(&Uri) -> Result<Agent, Error> + 'a;

/// Sends it, as often as it takes; gives the answer, whatever its status, together with the address that gave it.
///
/// # Errors
/// [`Error::Unreachable`] where none came; [`Error::Answer`] for redirects that lead nowhere.
pub(super) fn send(agents: &Agents<'_>, ask: &Ask) -> Result<(Response<Body>, Uri), Error> {
    for attempt in 1.. {
        let last = attempt >= ask.tries;
        match follow(agents, ask) {
            Ok((response, uri)) => match patience(&response, attempt) {
                Some(wait) if !last => sleep(wait),
                _ => return Ok((response, uri)),
            },
            Err(Failed::For(error)) => return Err(error),
            Err(Failed::Now(error)) if !last && is_passing(&error) => sleep(pause(attempt)),
            Err(Failed::Now(error)) => {
                let advice = advice(&ask.url, &error);
                return Err(Error::Unreachable { url: ask.url.clone(), advice, source: Box::new(error) });
            }
        }
    }
    unreachable!("the last attempt returns")
}

enum Failed {
    /// The line, now.
    Now(ureq::Error),
    /// For good.
    For(Error),
}

/// Requirements 1 to 4.
fn follow(agents: &Agents<'_>, ask: &Ask) -> Result<(Response<Body>, Uri), Failed> {
    let invalid = |url: &str| Failed::For(Error::answer(url, "this is no address"));
    let first: Uri = ask.url.parse().map_err(|_| invalid(&ask.url))?;
    let mut uri = first.clone();
    for _ in 0..=MOST_REDIRECTS {
        let authorization = ask.authorization.as_ref().filter(|_| same_place(&first, &uri));
        let agent = agents(&uri).map_err(Failed::For)?;
        let response = told(&agent, ask, &uri, authorization).map_err(Failed::Now)?;
        if !is_redirect(response.status()) {
            return Ok((response, uri));
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location else { return Ok((response, uri)) };
        let next = resolve(&uri, location).ok_or_else(|| invalid(location))?;
        if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
            let reason = format!("it leads from an encrypted connection to an open one, {next}");
            return Err(Failed::For(Error::answer(host(&uri), reason)));
        }
        if ask.secret && !same_place(&first, &next) {
            let reason = format!("it leads what is secret to another host, {}", host(&next));
            return Err(Failed::For(Error::answer(host(&uri), reason)));
        }
        uri = next;
    }
    Err(Failed::For(Error::answer(host(&first), format!("more than {MOST_REDIRECTS} redirects"))))
}

/// One request, as `--explain` tells it. A query is left out: it may hold a right to an object of a store, signed in the address.
fn told(
    agent: &Agent,
    ask: &Ask,
    uri: &Uri,
    authorization: Option<&String>,
) -> Result<Response<Body>, ureq::Error> {
    let call = match ask.method {
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        _ => "GET",
    };
    let address = uri.to_string();
    let shown = address.split('?').next().unwrap_or_default();
    let mut failed = None;
    let send = || once(agent, ask, uri, authorization);
    let answer = step(call, format_args!("{shown}"), ask.why)
        .run(|| send().map_err(|error| std::io::Error::other(failed.insert(error).to_string())));
    answer.map_err(|error| failed.unwrap_or_else(|| ureq::Error::Io(std::io::Error::other(error))))
}

fn once(
    agent: &Agent,
    ask: &Ask,
    uri: &Uri,
    authorization: Option<&String>,
) -> Result<Response<Body>, ureq::Error> {
    let mut request = Request::builder().method(ask.method.clone()).uri(uri.clone());
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let body = match &ask.body {
        Some((payload, length)) => {
            request = request.header(header::CONTENT_LENGTH, *length);
            SendBody::from_owned_reader(payload()?)
        }
        None => SendBody::none(),
    };
    agent.run(request.body(body)?)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether the same server answers at both: what is told to one may be told to the other.
pub(super) fn same_place(a: &Uri, b: &Uri) -> bool {
    let port =
        |uri: &Uri| uri.port_u16().or(if uri.scheme_str() == Some("https") { Some(443) } else { Some(80) });
    a.scheme() == b.scheme() && a.host() == b.host() && port(a) == port(b)
}

/// The host and port, without a name before `@`: what is believed of `10.0.0.1:x@evil.example` is what is believed of the latter.
pub(super) fn host(uri: &Uri) -> &str {
    let authority = uri.authority().map_or("the registry", |authority| authority.as_str());
    authority.rsplit('@').next().unwrap_or(authority)
}

/// A `Location`, which may leave out what stays the same.
pub(super) fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    if location.contains("://") {
        return location.parse().ok();
    }
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{scheme}://{rest}").parse().ok();
    }
    let folder = match location.starts_with('/') {
        true => "",
        false => base.path().rsplit_once('/').map_or("/", |(folder, _)| folder),
    };
    let slash = if location.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{authority}{folder}{slash}{location}").parse().ok()
}

/// How long to wait before asking again; none where the answer is final.
fn patience(response: &Response<Body>, attempt: u32) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 408 | 429 | 500 | 502 | 503 | 504) {
        return None;
    }
    let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    match asked.and_then(|text| wait(text, Timestamp::now())) {
        Some(wait) if wait > LONGEST_WAIT => None,
        Some(wait) => Some(wait),
        None => Some(pause(attempt)),
    }
}

/// `Retry-After`: a number of seconds, or a date.
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    // One that is past means now.
    Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
}

/// Half a second, one, two, four.
pub(super) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(250 << attempt.min(5))
}

/// Whether it may be better in a moment.
fn is_passing(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, InvalidData, InvalidInput};
    match error {
        _ if is_unconnected(error) => false,
        // A certificate that is wrong stays wrong, and a port where nobody listens mostly stays so too.
        ureq::Error::Io(error) => !matches!(error.kind(), ConnectionRefused | InvalidData | InvalidInput),
        ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

/// Whether there is no way to the host, not even a first one: a machine without a network is told so at once.
fn is_unconnected(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable};
    match error {
        ureq::Error::HostNotFound | ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => true,
        ureq::Error::Io(error) => {
            matches!(error.kind(), HostUnreachable | NetworkDown | NetworkUnreachable)
                || error.to_string().contains("failed to lookup address")
        }
        _ => false,
    }
}

/// What can be done about an error of the line.
fn advice(url: &str, error: &ureq::Error) -> String {
    let text = error.to_string();
    let host = url.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or(url);
    if is_unconnected(error) {
        ": is there a network? Without one, an image comes from an archive, with `sampan load` or `sampan import`"
            .to_owned()
    } else if text.contains("invalid peer certificate") {
        format!(
            ": its certificate is vouched for by nobody whom this machine believes; put its authority into certs.d/{host}/ca.crt beside config.toml"
        )
    } else if text.contains("InvalidContentType") || text.contains("corrupt message") {
        format!(
            ": it does not speak TLS; where that is meant to be, write insecure-registries = [\"{host}\"] into config.toml"
        )
    } else {
        String::new()
    }
}

/// Text as part of a query: everything but letters, digits and `-._~` as `%XX`.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn a_location_leaves_out_what_stays_the_same() {
        let base = uri("https://r.example:5000/v2/a/blobs/uploads/");
        for (location, url) in [
            ("/v2/x?a=b", "https://r.example:5000/v2/x?a=b"),
            ("x", "https://r.example:5000/v2/a/blobs/uploads/x"),
            ("//other.example/x", "https://other.example/x"),
            ("http://other.example/x", "http://other.example/x"),
        ] {
            assert_eq!(resolve(&base, location).unwrap(), uri(url));
        }
        assert!(resolve(&base, "http://").is_none());
    }

    #[test]
    fn a_secret_is_for_one_scheme_host_and_port() {
        let place = uri("https://r.example/v2/");
        assert!(same_place(&place, &uri("https://r.example:443/x")));
        assert_eq!(host(&uri("https://10.0.0.1:x@s.example:5/")), "s.example:5");
        for other in
            ["http://r.example/", "https://r.example:444/", "https://s.example/", "https://r.example.evil/"]
        {
            assert!(!same_place(&place, &uri(other)), "{other}");
        }
    }

    #[test]
    fn a_server_says_when_to_come_again() {
        let now: Timestamp = "2015-10-21T07:27:50Z".parse().unwrap();
        for (text, seconds) in
            [("7", 7), ("Wed, 21 Oct 2015 07:28:00 GMT", 10), ("Wed, 21 Oct 2015 07:00:00 GMT", 0)]
        {
            assert_eq!(wait(text, now), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(wait("soon", now), None);
    }

    #[test]
    fn a_query_is_encoded() {
        assert_eq!(encode("repository:a/b:pull,push ü"), "repository%3Aa%2Fb%3Apull%2Cpush%20%C3%BC");
    }
}
