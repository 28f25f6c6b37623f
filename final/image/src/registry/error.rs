//! What can go wrong with a registry.

use std::path::PathBuf;

/// An error of a registry, or on the way to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer came, at any of the addresses that were tried.
    #[error("cannot reach the registry at {url}{advice}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What to do about it, where the error tells.
        advice: String,
        /// The last try's error.
        source: Box<ureq::Error>,
    },
    /// The registry refused, and says why, or not.
    #[error("{host} answers {status} to {what}: {reason}")]
    Refused {
        /// The registry.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What was asked for.
        what: String,
        /// The registry's words, or the status's meaning.
        reason: String,
    },
    /// Nobody is logged in, or not as somebody who may do this.
    #[error(
        "{host} does not let {who} do this ({reason}): `sampan login {host}`, and look at the name of the image"
    )]
    Denied {
        /// The registry.
        host: String,
        /// The user, or "somebody who is not logged in".
        who: String,
        /// The registry's words.
        reason: String,
    },
    /// There is no such manifest or repository.
    #[error("{host} has no {what}")]
    Missing {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// Too many requests.
    #[error(
        "{host} limits how often images may be pulled{limit}: wait, or log in, where the limit is higher, with `sampan login {host}`"
    )]
    Limited {
        /// The registry.
        host: String,
        /// The limit, where the registry tells it.
        limit: String,
    },
    /// The answer is not what the specification asks for, or not what was announced.
    #[error("{host} answers what cannot be used: {reason}")]
    Answer {
        /// The registry.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image has no manifest for the platform.
    #[error("{image} has no image for {platform}; it has {has}")]
    Platform {
        /// The reference.
        image: String,
        /// What was asked for.
        platform: String,
        /// What there is.
        has: String,
    },
    /// A file of the settings cannot be used.
    #[error("cannot use {path:?}: {reason}")]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A credential helper fails.
    #[error("the credential helper {program}: {reason}")]
    Helper {
        /// `docker-credential-NAME`.
        program: String,
        /// What it said.
        reason: String,
    },
    /// Another part of the same work has failed, and this one was given up.
    #[error("given up, for another layer has failed")]
    GivenUp,
    /// The store cannot do its part.
    #[error(transparent)]
    Store(#[from] crate::Error),
}

impl Error {
    pub(crate) fn answer(host: &str, reason: impl std::fmt::Display) -> Self {
        Self::Answer { host: host.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn settings(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::Settings { path: path.into(), reason: reason.to_string() }
    }
}
