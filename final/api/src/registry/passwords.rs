//! Names and passwords: HTTP's Basic authentication, against a file as htpasswd(1) writes it with bcrypt.
//!
//! bcrypt is slow on purpose, and a push is a hundred requests: what was right once is remembered, as a digest, until the file changes.
//! Only two passwords are tried at the same time, so that one who guesses takes no more of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderValue;
use base64::Engine as _;
use sampan_image::Digest;
use tokio::sync::Semaphore;

use super::error::Refusal;

/// Who may use the registry.
#[derive(Debug)]
pub(super) struct Passwords {
    path: PathBuf,
    known: Arc<Mutex<Known>>,
    tries: Semaphore,
}

type Stamp = (u64, u64, i64, i64);

#[derive(Debug, Default)]
struct Known {
    stamp: Stamp,
    /// Hashes by name.
    hashes: BTreeMap<String, String>,
    /// Of a name and a password that were right.
    right: BTreeMap<String, Digest>,
}

/// Of no password: to try one costs the same for a name that nobody has.
const NOBODY: &str = "$2y$05$abcdefghijklmnopqrstuuDqT0iVnGUXG8ETx27V.HJTjtKHTEuRW";

impl Passwords {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let known = Arc::new(Mutex::new(read(path)?));
        Ok(Self { path: path.to_owned(), known, tries: Semaphore::new(2) })
    }

    /// Whether the header's name and password are right.
    pub(super) async fn check(&self, header: Option<&HeaderValue>) -> Result<(), Refusal> {
        let (name, password) = header.and_then(basic).ok_or_else(Refusal::unauthorized)?;
        let digest = Digest::of(format!("{name}:{password}").as_bytes());
        let (hash, is_known) = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            // A file that cannot be read now lets nobody in whom it did not name before.
            if stamp(&self.path).is_ok_and(|now| now != known.stamp)
                && let Ok(changed) = read(&self.path)
            {
                *known = changed;
            }
            let hash = known.hashes.get(&name).cloned();
            (hash, known.right.get(&name) == Some(&digest))
        };
        if is_known && hash.is_some() {
            return Ok(());
        }
        let _turn = self.tries.acquire().await.map_err(|_| Refusal::unauthorized())?;
        let known = Arc::clone(&self.known);
        let verified = tokio::task::spawn_blocking(move || {
            let tried = hash.as_deref().unwrap_or(NOBODY);
            let right = bcrypt::verify(password, tried).unwrap_or(false) && hash.is_some();
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if right && known.hashes.get(&name) == hash.as_ref() {
                known.right.insert(name, digest);
            }
            right
        });
        if verified.await.unwrap_or(false) { Ok(()) } else { Err(Refusal::unauthorized()) }
    }
}

/// `Basic BASE64(NAME:PASSWORD)`
fn basic(header: &HeaderValue) -> Option<(String, String)> {
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let about = fs::metadata(path)?;
    Ok((about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
}

fn read(path: &Path) -> io::Result<Known> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let stamp = stamp(path).map_err(named)?;
    let text = fs::read_to_string(path).map_err(named)?;
    let mut hashes = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once(':').filter(|(_, hash)| hash.starts_with("$2")) {
            Some((name, hash)) => hashes.insert(name.to_owned(), hash.to_owned()),
            None => {
                let name = line.split(':').next().unwrap_or_default();
                let reason = format!(
                    "{}: the password of {name:?} is not hashed by bcrypt: htpasswd -B makes it",
                    path.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        };
    }
    Ok(Known { stamp, hashes, right: BTreeMap::new() })
}
