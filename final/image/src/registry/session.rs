//! Who we are at which registry: the addresses to try, and the tokens.
//!
//! A registry answers a first request with 401 and says where to get a token, and for what (`scope`). The token is good for some
//! minutes and for that; where it has run out, there is a 401 again, and a new one is fetched. Threads that work on one repository
//! share what was fetched.
//!
//! A password goes to the token service that the registry names. It is refused to one that is not encrypted where the registry is.
//!
//! See the distribution project's documentation, "Token authentication specification" and "OAuth2 token authentication".

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::{Method, Response, Uri, header};
use ureq::{Agent, Body};

use super::challenge::{self, Challenge};
use super::http::{self, Ask, encode, send};
use super::repository::{LONGEST, read_all};
use super::{Credentials, Error, Login, Settings, certificates, settings};
use crate::Reference;

/// The host that answers for docker.io.
const DOCKER: &str = "registry-1.docker.io";
/// What we call ourselves at a token service.
const CLIENT: &str = "sampan";
/// An error's text is read up to here.
const LONGEST_ERROR: u64 = 64 << 10;
/// A token may be long, but not that long.
const LONGEST_TOKEN: u64 = 1 << 20;

/// All registries, for one program: settings, credentials, and the connections that are open.
#[derive(Debug)]
pub struct Registries {
    settings: Settings,
    credentials: Credentials,
    agents: Mutex<HashMap<(String, bool), Agent>>,
}

impl Registries {
    /// With the settings of this machine and user.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self::with(Settings::load()?, Credentials::of_this_user()))
    }

    /// With these settings.
    pub fn with(settings: Settings, credentials: Credentials) -> Self {
        Self { settings, credentials, agents: Mutex::default() }
    }

    /// The file of logins.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What in the settings nobody reads: for whoever can tell the user.
    pub fn warnings(&self) -> &[String] {
        self.settings.warnings()
    }

    /// Where to ask for an image, in this order: mirrors, then the registry itself.
    pub(super) fn places(&self, reference: &Reference) -> Vec<String> {
        let domain = reference.domain();
        self.settings.mirrors(domain).map(str::to_owned).chain(self.addresses(domain)).collect()
    }

    /// The registry's own addresses: one, or an open one besides where the settings allow it.
    pub(super) fn addresses(&self, domain: &str) -> Vec<String> {
        let host = if domain == "docker.io" { DOCKER } else { domain };
        let mut addresses = vec![format!("https://{host}")];
        if self.settings.is_insecure(domain) {
            addresses.push(format!("http://{host}"));
        }
        addresses
    }

    /// Does something at the first of a registry's own addresses where somebody answers.
    pub(super) fn at_own_address<T>(
        &self,
        domain: &str,
        mut act: impl FnMut(&str) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut last = None;
        for address in self.addresses(domain) {
            match act(&address) {
                Err(error @ Error::Unreachable { .. }) => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| Error::answer(domain, "it has no address")))
    }

    /// What a URL names, as a stream; nobody's login is told to its host.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or what the server refuses.
    pub fn fetch(&self, url: &str) -> Result<Box<dyn std::io::Read + Send>, Error> {
        let session = Session::new(self, url, None)?;
        let (mut response, _) = session.send(Ask::get(url, "the archive"), &[])?;
        if !response.status().is_success() {
            return Err(session.refusal(url, &mut response));
        }
        Ok(Box::new(response.into_body().into_reader()))
    }

    /// The connections to a host, with its own authorities and certificate.
    pub(super) fn agent(&self, uri: &Uri) -> Result<Agent, Error> {
        let domain = http::host(uri);
        let verify = !self.settings.is_insecure(domain);
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&(domain.to_owned(), verify)) {
            return Ok(agent.clone());
        }
        let is_direct = settings::is_here(domain) || settings::is_direct(domain);
        let agent = http::agent(certificates::config(&self.settings, domain, verify)?, is_direct);
        agents.insert((domain.to_owned(), verify), agent.clone());
        Ok(agent)
    }
}

/// One registry at one address, and who we are there.
#[derive(Debug)]
pub(super) struct Session<'a> {
    registries: &'a Registries,
    /// `https://HOST[:PORT]`, perhaps with a path for a mirror's.
    pub(super) base: String,
    uri: Uri,
    pub(super) login: Option<Login>,
    /// The header that a scope is met with.
    known: Mutex<HashMap<String, String>>,
    /// Held by the thread that meets a challenge: the others take what it got.
    meeting: Mutex<()>,
    /// At a login: the token that stands for it from now on, where the token service gives one.
    identity: Option<Mutex<Option<String>>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

impl<'a> Session<'a> {
    /// Opens none yet: the first request does. `domain` is whose login is used.
    pub(super) fn new(registries: &'a Registries, base: &str, login: Option<Login>) -> Result<Self, Error> {
        let uri: Uri = base.parse().map_err(|_| Error::answer(base, "this is no address"))?;
        let (base, known, meeting) = (base.to_owned(), Mutex::default(), Mutex::default());
        Ok(Self { registries, base, uri, login, known, meeting, identity: None })
    }

    /// One that asks the token service for an identity token as well.
    pub(super) fn at_login(registries: &'a Registries, base: &str, login: &Login) -> Result<Self, Error> {
        let session = Self::new(registries, base, Some(login.clone()))?;
        Ok(Self { identity: Some(Mutex::default()), ..session })
    }

    /// What to keep of the login: the identity token rather than the password.
    pub(super) fn kept(self) -> Option<Login> {
        let token = self.identity.and_then(|identity| identity.into_inner().ok().flatten());
        token.map(Login::Identity).or(self.login)
    }

    /// The host, as messages name it.
    pub(super) fn host(&self) -> &str {
        http::host(&self.uri)
    }

    /// Sends it with the right that `scopes` name, and again with a new token where the old one is not taken any more.
    pub(super) fn send(&self, mut ask: Ask, scopes: &[String]) -> Result<(Response<Body>, Uri), Error> {
        let key = scopes.join(" ");
        let uri: Uri = ask.url.parse().map_err(|_| Error::answer(&ask.url, "this is no address"))?;
        if self.uri.scheme_str() == Some("https") && uri.scheme_str() != Some("https") {
            let reason =
                format!("it leads from an encrypted connection to an open one, {}", http::host(&uri));
            return Err(Error::answer(self.host(), reason));
        }
        // An upload may lie on another host, which is told nothing.
        let ours = http::same_place(&uri, &self.uri);
        let used = if ours { self.known(&key) } else { None };
        ask.authorization.clone_from(&used);
        let agents = |uri: &Uri| self.registries.agent(uri);
        let (response, from) = send(&agents, &ask)?;
        // Where a redirect led has nothing to ask for: it could name a token service of its own, and hear the password there.
        if response.status() != 401 || !ours || !http::same_place(&from, &self.uri) {
            return Ok((response, from));
        }
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenge = challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()));
        let Some(challenge) = challenge else { return Ok((response, from)) };
        let meeting = self.meeting.lock().unwrap_or_else(PoisonError::into_inner);
        let authorization = match self.known(&key).filter(|known| Some(known) != used.as_ref()) {
            // Another thread was quicker.
            Some(known) => known,
            None => {
                let Some(met) = self.meet(&challenge, scopes)? else { return Ok((response, from)) };
                self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, met.clone());
                met
            }
        };
        drop(meeting);
        ask.authorization = Some(authorization);
        send(&agents, &ask)
    }

    fn known(&self, key: &str) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// The header that meets a challenge; none where it takes a login and there is none.
    fn meet(&self, challenge: &Challenge, scopes: &[String]) -> Result<Option<String>, Error> {
        match challenge {
            Challenge::Basic => Ok(self.login.as_ref().and_then(basic)),
            Challenge::Bearer { realm, service, scope } => {
                let mut scopes = scopes.to_vec();
                scopes.extend(
                    scope.iter().filter(|scope| !scopes.contains(scope)).cloned().collect::<Vec<_>>(),
                );
                let token = self.token(realm, service.as_deref(), &scopes)?;
                Ok(Some(format!("Bearer {token}")))
            }
        }
    }

    /// Asks the token service: with the identity token by POST, else with the password by GET.
    fn token(&self, realm: &str, service: Option<&str>, scopes: &[String]) -> Result<String, Error> {
        let uri: Uri =
            realm.parse().map_err(|_| Error::answer(self.host(), format!("no address: {realm:?}")))?;
        if self.login.is_some() && uri.scheme_str() != Some("https") && self.uri.scheme_str() == Some("https")
        {
            let reason = format!("it asks to send the password without encryption, to {realm}");
            return Err(Error::answer(self.host(), reason));
        }
        let mut fields: Vec<_> = service.map(|service| ("service", service)).into_iter().collect();
        let ask = match &self.login {
            Some(Login::Identity(token)) => {
                let scope = scopes.join(" ");
                fields.extend([
                    ("scope", scope.as_str()),
                    ("grant_type", "refresh_token"),
                    ("client_id", CLIENT),
                    ("refresh_token", token),
                ]);
                Ask::new(
                    Method::POST,
                    realm,
                    "the identity token of the login is exchanged for a short-lived one",
                )
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .bytes(query(&fields).into_bytes())
                .secret()
            }
            login => {
                fields.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
                fields.extend(login.iter().map(|login| ("account", login.user())));
                if self.identity.is_some() {
                    fields.extend([("offline_token", "true"), ("client_id", CLIENT)]);
                }
                let separator = if realm.contains('?') { '&' } else { '?' };
                let why = "the registry answered 401: its token service says who may do what";
                let mut ask = Ask::get(format!("{realm}{separator}{}", query(&fields)), why);
                ask.authorization = login.as_ref().and_then(basic);
                ask
            }
        };
        let (mut response, _) = send(&|uri| self.registries.agent(uri), &ask)?;
        if !response.status().is_success() {
            return Err(self.refusal("the request for a token", &mut response));
        }
        let text = read_all(response.body_mut().as_reader(), LONGEST_TOKEN, LONGEST);
        let answer: Option<TokenAnswer> = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
        let none = || Error::answer(http::host(&uri), "there is no token in its answer");
        let answer = answer.ok_or_else(none)?;
        if let (Some(identity), Some(token)) = (&self.identity, answer.refresh_token) {
            *identity.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(token).filter(|token| !token.is_empty());
        }
        answer.token.or(answer.access_token).ok_or_else(none)
    }

    /// What an answer that is no success means.
    pub(super) fn refusal(&self, what: &str, response: &mut Response<Body>) -> Error {
        let status = response.status();
        let bytes = read_all(response.body_mut().as_reader(), LONGEST_ERROR, LONGEST).unwrap_or_default();
        let host = self.host().to_owned();
        let reason = words(&bytes)
            .unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given").to_owned());
        match status.as_u16() {
            401 | 403 => {
                let who = self.login.as_ref().map_or("somebody who is not logged in", Login::user).to_owned();
                Error::Denied { host, who, reason }
            }
            404 => Error::Missing { host, what: what.to_owned() },
            429 => Error::Limited { host, limit: limit(response) },
            status => Error::Refused { host, status, what: what.to_owned(), reason },
        }
    }
}

/// A name and a password as a header has them.
fn basic(login: &Login) -> Option<String> {
    match login {
        Login::Password { user, password } => {
            Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        Login::Identity(_) => None,
    }
}

fn query(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// The registry's own words: `{"errors": [{"code": ..., "message": ...}]}`, or a token service's `{"details": ...}`. What could move
/// a terminal's cursor is left out.
fn words(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let error = value.get("errors").and_then(|errors| errors.get(0)).unwrap_or(&value);
    let text = ["message", "details", "error_description", "code", "error"]
        .iter()
        .find_map(|name| error.get(name)?.as_str());
    let text: String = text?.chars().filter(|character| !character.is_control()).take(300).collect();
    (!text.is_empty()).then_some(text)
}

/// `ratelimit-limit: 100;w=21600`: so many in so many seconds.
fn limit(response: &Response<Body>) -> String {
    let header = response.headers().get("ratelimit-limit").and_then(|value| value.to_str().ok());
    let parsed = header.and_then(|text| {
        let (count, window) = text.split_once(";w=")?;
        Some((count.parse::<u32>().ok()?, window.parse::<u64>().ok()?))
    });
    match parsed {
        Some((count, seconds)) if seconds >= 3600 => format!(" (to {count} in {} hours)", seconds / 3600),
        Some((count, seconds)) => format!(" (to {count} in {seconds} seconds)"),
        None => String::new(),
    }
}
