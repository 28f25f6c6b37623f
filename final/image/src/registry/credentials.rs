//! Who somebody is at a registry: Docker's file and its helpers.
//!
//! The file is `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`: the same that `docker login` writes, so that a login is a
//! login for both. A password stands in it only encoded; a *credential helper*, `docker-credential-NAME`, keeps it elsewhere and is
//! asked over its standard input.
//!
//! See the documentation of `docker login`, and of the docker-credential-helpers project.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use step::step;

use super::Error;

/// The name under which the file has had Docker's own registry from of old.
const DOCKER: &str = "https://index.docker.io/v1/";
/// In place of a user's name: the secret is a token that stands for user and password.
const TOKEN: &str = "<token>";

/// A user and a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token from which a token service makes others.
    Identity(String),
}

/// A password is never printed.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.user())
    }
}

impl Login {
    /// Whom a message names.
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } => user,
            Self::Identity(_) => TOKEN,
        }
    }
}

/// The file of credentials.
#[derive(Debug, Clone)]
pub struct Credentials {
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

impl Credentials {
    /// The user's file, whether it is there or not.
    pub fn of_this_user() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")));
        Self { path: folder.map(|folder| folder.join("config.json")) }
    }

    /// Where it is; none for a user without a home.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What is known for a registry's domain.
    ///
    /// # Errors
    /// [`Error::Settings`] for a file that is no JSON; [`Error::Helper`].
    pub fn find(&self, domain: &str) -> Result<Option<Login>, Error> {
        let file = self.read()?;
        if let Some(helper) = helper(&file, domain) {
            return ask(&helper, domain);
        }
        let Some(auths) = file.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let Some(entry) = auths.iter().find(|(key, _)| domain_of(key) == domain).map(|(_, entry)| entry)
        else {
            return Ok(None);
        };
        if let Some(token) = text(entry, "identitytoken") {
            return Ok(Some(Login::Identity(token.to_owned())));
        }
        let Some(encoded) = text(entry, "auth") else { return Ok(None) };
        let wrong = || {
            Error::settings(
                self.path.clone().unwrap_or_default(),
                format_args!("the entry of {domain} is damaged"),
            )
        };
        let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or_else(wrong)?;
        let (user, password) = decoded.split_once(':').ok_or_else(wrong)?;
        // Docker ends it with NUL bytes where it was longer once.
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Login::Password { user: user.to_owned(), password }))
    }

    /// Keeps a login; whether a helper has it now, and not the file.
    ///
    /// # Errors
    /// As for [`Credentials::find`], or the step that failed.
    pub fn keep(&self, domain: &str, login: &Login) -> Result<bool, Error> {
        let mut file = self.read()?;
        if let Some(helper) = helper(&file, domain) {
            let secret = match login {
                Login::Password { password, .. } => password,
                Login::Identity(token) => token,
            };
            let about = json!({"ServerURL": key(domain), "Username": login.user(), "Secret": secret});
            run(&helper, "store", &about.to_string())?;
            // What was kept before there was a helper is not left lying about.
            if drop_from(&mut file, domain) {
                self.write(&file)?;
            }
            return Ok(true);
        }
        let entry = match login {
            Login::Password { user, password } => {
                json!({"auth": STANDARD.encode(format!("{user}:{password}"))})
            }
            Login::Identity(token) => json!({"auth": "", "identitytoken": token}),
        };
        drop_from(&mut file, domain);
        let auths = file.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(key(domain).to_owned(), entry);
        }
        self.write(&file)?;
        Ok(false)
    }

    /// Forgets a login; whether there was one.
    ///
    /// # Errors
    /// As for [`Credentials::keep`].
    pub fn forget(&self, domain: &str) -> Result<bool, Error> {
        let mut file = self.read()?;
        let found = drop_from(&mut file, domain);
        if found {
            self.write(&file)?;
        }
        match helper(&file, domain) {
            Some(helper) if ask(&helper, domain)?.is_some() => {
                run(&helper, "erase", key(domain))?;
                Ok(true)
            }
            _ => Ok(found),
        }
    }

    fn read(&self) -> Result<Map<String, Value>, Error> {
        let Some(path) = &self.path else { return Ok(Map::new()) };
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::settings(path, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
            Err(error) => Err(Error::settings(path, error)),
        }
    }

    /// Writes it beside itself and renames it: a login that is interrupted loses no other. It stays where a link leads, and its
    /// owner's, who may be another where we are root.
    fn write(&self, file: &Map<String, Value>) -> Result<(), Error> {
        let path = self
            .path
            .as_deref()
            .ok_or_else(|| Error::settings("~/.docker/config.json", "HOME is not set"))?;
        let linked = fs::canonicalize(path);
        let path = linked.as_deref().unwrap_or(path);
        let folder = path.parent().unwrap_or(Path::new("/"));
        let text = serde_json::to_string_pretty(file).map_err(|error| Error::settings(path, error))?;
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let mut new =
                tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
            writeln!(new, "{text}")?;
            let owner = fs::metadata(path).or_else(|_| fs::metadata(folder))?;
            if nix::unistd::geteuid().is_root() {
                fchown(new.as_file(), Some(owner.uid()), Some(owner.gid()))?;
            }
            new.as_file().sync_all()?;
            new.persist(path).map(drop).map_err(|error| error.error)
        };
        step(
            "rename",
            format_args!("{}", path.display()),
            "who you are at registries: Docker reads the same file",
        )
        .run(write)
        .map_err(|error| Error::Store(error.into()))
    }
}

fn text<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    entry.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// Takes a domain's entries out; whether there were any.
fn drop_from(file: &mut Map<String, Value>, domain: &str) -> bool {
    let Some(auths) = file.get_mut("auths").and_then(Value::as_object_mut) else { return false };
    let before = auths.len();
    auths.retain(|key, _| domain_of(key) != domain);
    auths.len() < before
}

/// The key of a domain in the file.
fn key(domain: &str) -> &str {
    if domain == "docker.io" { DOCKER } else { domain }
}

/// The domain of a key, which may be a URL.
pub(super) fn domain_of(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    match bare.split('/').next().unwrap_or(bare) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        domain => domain,
    }
}

/// The program that keeps the secrets of a domain, if one does.
fn helper(file: &Map<String, Value>, domain: &str) -> Option<String> {
    let own = file.get("credHelpers").and_then(Value::as_object);
    let own = own
        .and_then(|map| map.iter().find(|(key, _)| domain_of(key) == domain))
        .and_then(|(_, name)| name.as_str());
    let name =
        own.or_else(|| file.get("credsStore").and_then(Value::as_str)).filter(|name| !name.is_empty())?;
    Some(format!("docker-credential-{name}"))
}

fn ask(program: &str, domain: &str) -> Result<Option<Login>, Error> {
    let answer = match run(program, "get", key(domain)) {
        Err(Error::Helper { reason, .. }) if reason.contains("credentials not found") => return Ok(None),
        other => other?,
    };
    let helped: Helped = serde_json::from_str(&answer)
        .map_err(|error| Error::Helper { program: program.to_owned(), reason: error.to_string() })?;
    Ok(match helped {
        Helped { username, secret } if username == TOKEN => Some(Login::Identity(secret)),
        Helped { username, secret } => Some(Login::Password { user: username, password: secret }),
    })
}

fn run(program: &str, verb: &str, input: &str) -> Result<String, Error> {
    let failed = |reason: String| Error::Helper { program: program.to_owned(), reason };
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    // It may answer without having read all.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(failed(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, Credentials) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, text).unwrap();
        (folder, Credentials { path: Some(path) })
    }

    fn password(user: &str, password: &str) -> Login {
        Login::Password { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn dockers_file_is_read() {
        let (_folder, credentials) = file(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjOnJldA=="},"r.example:5000":{"identitytoken":"t"},"x.example":{}}}"#,
        );
        assert_eq!(credentials.find("docker.io").unwrap(), Some(password("me", "sec:ret")));
        assert_eq!(credentials.find("r.example:5000").unwrap(), Some(Login::Identity("t".to_owned())));
        assert_eq!(credentials.find("x.example").unwrap(), None);
        assert_eq!(credentials.find("r.example").unwrap(), None);
    }

    #[test]
    fn what_else_is_in_the_file_stays() {
        let (_folder, credentials) = file(r#"{"auths":{"a":{"auth":"eDp5"}},"psFormat":"x"}"#);
        assert!(!credentials.keep("b:5000", &password("me", "p")).unwrap());
        assert!(credentials.forget("a").unwrap());
        assert!(!credentials.forget("a").unwrap());
        let path = credentials.path().unwrap();
        let text: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert_eq!(text, json!({"auths":{"b:5000":{"auth":"bWU6cA=="}},"psFormat":"x"}));
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_file_stays_where_it_is_and_its_owners() {
        let (folder, credentials) = file(r#"{"auths":{}}"#);
        let (path, link) = (credentials.path().unwrap(), folder.path().join("link.json"));
        std::os::unix::fs::symlink(path, &link).unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        let owner = if is_root { 12345 } else { fs::metadata(path).unwrap().uid() };
        std::os::unix::fs::chown(path, Some(owner), None).unwrap();
        Credentials { path: Some(link.clone()) }.keep("a", &password("me", "p")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(credentials.find("a").unwrap(), Some(password("me", "p")));
        assert_eq!(fs::metadata(path).unwrap().uid(), owner);
        credentials.keep("a", &Login::Identity("t".to_owned())).unwrap();
        assert_eq!(credentials.find("a").unwrap(), Some(Login::Identity("t".to_owned())));
        // A folder that is made for it is closed to others.
        let path = folder.path().join(".docker/config.json");
        Credentials { path: Some(path.clone()) }.keep("a", &password("me", "p")).unwrap();
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_password_is_not_printed() {
        assert_eq!(format!("{:?}", password("me", "secret")), "Login(me)");
    }
}
