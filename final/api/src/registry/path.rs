//! What a path of the specification means. A repository's name may hold slashes, so a path is read from its end.

use sampan_image::Digest;
use sampan_image::serve::Target;

use super::error::Refusal;
use axum::http::StatusCode;

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// `/`, for people.
    Page,
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(String),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(String, Target),
    /// `/v2/NAME/blobs/DIGEST`: in whatever repository, for what is offered in one is no secret in the other.
    Blob(Digest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(String),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(String, String),
}

impl Resource {
    pub(super) fn of(path: &str) -> Result<Self, Refusal> {
        if path == "/" {
            return Ok(Self::Page);
        }
        // Nothing in a path needs an escape, but the colon of a digest may have one.
        let path = path.replace("%3A", ":").replace("%3a", ":");
        let rest = path.strip_prefix("/v2").ok_or_else(Refusal::no_such_page)?;
        if rest.is_empty() || rest == "/" {
            return Ok(Self::Base);
        }
        let rest = rest.strip_prefix('/').ok_or_else(Refusal::no_such_page)?;
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let mut parts: Vec<_> = rest.rsplitn(4, '/').collect();
        parts.reverse();
        // NAME, and the three last parts; or NAME and only two of them.
        let (before, last) = rest.rsplit_once('/').ok_or_else(Refusal::no_such_page)?;
        if let [name, "blobs", "uploads", id] = parts[..] {
            return Ok(Self::Upload(name.to_owned(), id.to_owned()));
        }
        let (name, kind) = before.rsplit_once('/').ok_or_else(Refusal::no_such_page)?;
        let name = name.to_owned();
        match (kind, last) {
            ("tags", "list") => Ok(Self::Tags(name)),
            ("blobs", "uploads") => Ok(Self::Uploads(name)),
            ("blobs", digest) => Ok(Self::Blob(parse(digest)?)),
            ("manifests", reference) if reference.contains(':') => {
                Ok(Self::Manifest(name, Target::Digest(parse(reference)?)))
            }
            ("manifests", tag) => Ok(Self::Manifest(name, Target::Tag(tag.to_owned()))),
            _ => Err(Refusal::no_such_page()),
        }
    }
}

/// Reads a digest.
pub(super) fn parse(text: &str) -> Result<Digest, Refusal> {
    text.parse::<Digest>()
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_slashes_and_the_words_of_the_paths() {
        let digest = Digest::of(b"");
        let name = |text: &str| text.to_owned();
        for (path, expected) in [
            ("/", Resource::Page),
            ("/v2", Resource::Base),
            ("/v2/", Resource::Base),
            ("/v2/_catalog", Resource::Catalog),
            ("/v2/a/tags/list", Resource::Tags(name("a"))),
            ("/v2/tags/list/tags/list", Resource::Tags(name("tags/list"))),
            ("/v2/a/b/manifests/v1", Resource::Manifest(name("a/b"), Target::Tag(name("v1")))),
            (
                &format!("/v2/a/manifests/{digest}"),
                Resource::Manifest(name("a"), Target::Digest(digest.clone())),
            ),
            (&format!("/v2/a/blobs/blobs/{digest}"), Resource::Blob(digest.clone())),
            (&format!("/v2/a/blobs/sha256%3A{}", digest.hex()), Resource::Blob(digest.clone())),
            ("/v2/a/b/c/blobs/uploads/", Resource::Uploads(name("a/b/c"))),
            ("/v2/a/blobs/uploads", Resource::Uploads(name("a"))),
            ("/v2/a/b/blobs/uploads/x1", Resource::Upload(name("a/b"), name("x1"))),
        ] {
            assert_eq!(Resource::of(path).unwrap(), expected, "{path}");
        }
        for path in
            ["", "/v3/", "/v2x", "/v2/a", "/v2/a/tags", "/v2/blobs/sha256:1", "/v2/a/blobs/sha256:1", "/x"]
        {
            assert!(Resource::of(path).is_err(), "{path}");
        }
    }
}
