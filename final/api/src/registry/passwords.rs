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

/// Of no password: to try one costs the same for a name that nobody has. Where the file has others, theirs cost what is usual in it.
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
        let ((hash, is_somebody), is_known) = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            // A file that cannot be read now lets nobody in whom it did not name before.
            if stamp(&self.path).is_ok_and(|now| now != known.stamp)
                && let Ok(changed) = read(&self.path)
            {
                *known = changed;
            }
            (known.hash(&name), known.right.get(&name).is_some_and(|right| is_same(right, &digest)))
        };
        if is_known && is_somebody {
            return Ok(());
        }
        let _turn = self.tries.acquire().await.map_err(|_| Refusal::unauthorized())?;
        let known = Arc::clone(&self.known);
        let verified = tokio::task::spawn_blocking(move || {
            let right = bcrypt::verify(password, &hash).unwrap_or(false) && is_somebody;
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if right && known.hashes.get(&name) == Some(&hash) {
                known.right.insert(name, digest);
            }
            right
        });
        if verified.await.unwrap_or(false) { Ok(()) } else { Err(Refusal::unauthorized()) }
    }
}

impl Known {
    /// The hash to try a name's password against, and whether it is that name's.
    fn hash(&self, name: &str) -> (String, bool) {
        let (own, other) = (self.hashes.get(name), self.hashes.values().next());
        (own.or(other).map_or(NOBODY, String::as_str).to_owned(), own.is_some())
    }
}

/// Compares all of both, for whoever measures how long it takes.
fn is_same(a: &Digest, b: &Digest) -> bool {
    a.hex().bytes().zip(b.hex().bytes()).fold(0, |different, (a, b)| different | (a ^ b)) == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_has_costs_what_the_others_cost() {
        let mut known = Known::default();
        assert_eq!(known.hash("me"), (NOBODY.to_owned(), false));
        known.hashes.insert("me".to_owned(), "$2y$12$x".to_owned());
        assert_eq!(known.hash("me"), ("$2y$12$x".to_owned(), true));
        assert_eq!(known.hash("you"), ("$2y$12$x".to_owned(), false));
    }

    #[test]
    fn digests_are_compared_to_their_ends() {
        assert!(
            is_same(&Digest::of(b"a"), &Digest::of(b"a")) && !is_same(&Digest::of(b"a"), &Digest::of(b"b"))
        );
    }
}
