//! What a registry refuses, in the words of the specification's error codes.

use crate::Digest;

/// An error of a registry's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be the name of a registry, or of a repository.
    #[error("{0:?} is no valid name")]
    Name(String),
    /// No such repository.
    #[error("there is no repository {0}")]
    NameUnknown(String),
    /// No such manifest in the repository.
    #[error("there is no manifest {reference} in {repository}")]
    ManifestUnknown {
        /// The repository.
        repository: String,
        /// The tag or the digest.
        reference: String,
    },
    /// A manifest that breaks a rule.
    #[error("this is no manifest to keep: {0}")]
    ManifestInvalid(String),
    /// A manifest came before what it names.
    #[error("the manifest names {0}, which is not here")]
    ManifestBlobUnknown(Digest),
    /// No such blob.
    #[error("there is no blob {0}")]
    BlobUnknown(Digest),
    /// No such upload: it ended, or nobody went on with it.
    #[error("there is no upload {0}")]
    UploadUnknown(String),
    /// A piece that does not begin where the last one ended.
    #[error("the next piece begins at {expected}")]
    Range {
        /// How many bytes are here.
        expected: u64,
    },
    /// The content is another than was announced.
    #[error("the content has the digest {found}, where {expected} is announced")]
    Digest {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// More than is taken.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::Error),
}

impl Error {
    /// Whether it is the disk that is full.
    pub fn is_full_disk(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<std::io::Error>()
                && matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            {
                return true;
            }
            // `transparent` passes over the error that it holds.
            cause = match error.downcast_ref::<Self>() {
                Some(Self::Store(store)) => Some(store),
                _ => error.source(),
            };
        }
        false
    }
}
