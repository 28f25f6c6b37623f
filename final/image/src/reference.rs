//! The name of an image: `busybox`, `user/tool:v3`, `registry.example:5000/team/tool@sha256:...`.
//!
//! ```text
//! reference  = name [ ":" tag ] [ "@" digest ]          name = [ domain "/" ] component { "/" component }
//! domain     = host [ ":" port ]                        tag  = word { word | "." | "-" }, at most 128
//! component  = letters and digits, between them one of   .  _  __  or any number of -
//! ```
//!
//! What stands before the first `/` is a domain only if it has a `.` or a `:`, is `localhost`, or has a capital letter, which
//! no component may have; else the domain is `docker.io`, and a name of one component lies under `library/`. A name without tag
//! and digest means `latest`. People write, and are shown, the short (*familiar*) form; files hold the whole.
//!
//! See the grammar in the module `reference` of the distribution project.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::is_hex;
use crate::{Digest, Error};

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// The name of an image, complete: with domain, and with tag or digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host, with its port if one is given.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's path in the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, where there is one: a reference with a digest alone has none.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest, where the reference has one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The repository in its familiar form: what `sampan images` shows in the first column.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference, `docker.io/library/busybox:latest`: what the index of the store holds.
    pub fn full(&self) -> String {
        self.with_rest(format!("{}/{}", self.domain, self.path))
    }

    fn with_rest(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|reason| Error::Reference { text: text.to_owned(), reason })
    }
}

/// The familiar form: without what is the default anyway, but always with the tag.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_rest(self.familiar_name()))
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.full()
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (text, digest) = match text.split_once('@') {
        Some((name, digest)) => {
            (name, Some(digest.parse().map_err(|_| "after @ comes sha256: and 64 hexadecimal digits")?))
        }
        None => (text, None),
    };
    // The colon of a port has a slash after it, that of a tag has none.
    let (name, tag) = match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if name.len() == 64 && is_hex(name) {
        return Err("64 hexadecimal digits are an ID, not a name");
    }
    let (domain, path) = split_domain(name);
    check_domain(domain)?;
    for component in path.split('/') {
        check_component(component)?;
    }
    if domain.len() + 1 + path.len() > 255 {
        return Err("a name has at most 255 characters");
    }
    let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
    Ok(match domain {
        DEFAULT_DOMAIN if !path.contains('/') => {
            Reference { domain: domain.to_owned(), path: format!("{OFFICIAL}{path}"), tag, digest }
        }
        _ => Reference { domain: domain.to_owned(), path: path.to_owned(), tag, digest },
    })
}

fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        // The name that the registry of docker.io has had from of old.
        Some(("index.docker.io", path)) => (DEFAULT_DOMAIN, path),
        Some((domain, path))
            if domain.contains(['.', ':']) || domain == "localhost" || has_capital(domain) =>
        {
            (domain, path)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn has_capital(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
    if valid { Ok(()) } else { Err("a tag has 1 to 128 of A-Z a-z 0-9 _ . - and begins with none of . -") }
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    const RULE: &str = "what stands before the first / looks like a registry, and is no HOST or HOST:PORT";
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (Host::V6(address), None),
        Some((address, port)) => (Host::V6(address), Some(port.strip_prefix(':').ok_or(RULE)?)),
        None => match domain.split_once(':') {
            Some((host, port)) => (Host::Name(host), Some(port)),
            None => (Host::Name(domain), None),
        },
    };
    let valid = match host {
        Host::V6(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        Host::Name(name) => name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        }),
    };
    let port = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    if valid && port { Ok(()) } else { Err(RULE) }
}

enum Host<'a> {
    Name(&'a str),
    V6(&'a str),
}

fn check_component(component: &str) -> Result<(), &'static str> {
    if component.is_empty() {
        return Err("a part of the name is empty");
    }
    if has_capital(component) {
        return Err("a repository's name is written in lower case");
    }
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let word = rest.iter().take_while(|&&byte| letter(byte)).count();
        let separator = rest[word..].iter().take_while(|&&byte| !letter(byte)).count();
        let (before, after) = rest[word..].split_at(separator);
        let known = matches!(before, b"" | b"." | b"_" | b"__") || before.iter().all(|&byte| byte == b'-');
        if word == 0 || !known || (separator > 0 && after.is_empty()) {
            return Err("a name has a-z and 0-9, and between them one of . _ __ or any number of -");
        }
        if separator == 0 {
            return Ok(());
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().unwrap().full()
    }

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn defaults_fill_in_what_is_left_out() {
        assert_eq!(full("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(full("user/tool:v3"), "docker.io/user/tool:v3");
        assert_eq!(full("index.docker.io/busybox"), "docker.io/library/busybox:latest");
        assert_eq!(full("localhost/tool"), "localhost/tool:latest");
        assert_eq!(full("192.168.245.4:5000/nginx:v3"), "192.168.245.4:5000/nginx:v3");
        assert_eq!(full("[::1]:5000/a/b/c:V-1.x"), "[::1]:5000/a/b/c:V-1.x");
        assert_eq!(full("Registry/a"), "Registry/a:latest");
        assert_eq!(full(&format!("busybox@{DIGEST}")), format!("docker.io/library/busybox@{DIGEST}"));
        assert_eq!(full(&format!("busybox:1@{DIGEST}")), format!("docker.io/library/busybox:1@{DIGEST}"));
    }

    #[test]
    fn the_familiar_form_leaves_the_defaults_out() {
        for (text, familiar) in [
            ("docker.io/library/busybox", "busybox:latest"),
            ("docker.io/user/tool", "user/tool:latest"),
            ("docker.io/library/a/b", "library/a/b:latest"),
            ("quay.io/library/busybox:1", "quay.io/library/busybox:1"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), familiar);
        }
    }

    #[test]
    fn names_that_break_the_grammar_are_refused_with_the_rule() {
        let reason = |text: &str| match text.parse::<Reference>() {
            Err(Error::Reference { reason, .. }) => reason,
            other => panic!("{text}: {other:?}"),
        };
        assert!(reason("Busybox").contains("lower case"));
        assert!(reason("user/Tool").contains("lower case"));
        assert!(reason("a//b").contains("empty"));
        assert!(reason("").contains("empty"));
        assert!(reason("/a").contains("empty"));
        assert!(reason("a:").contains("tag"));
        assert!(reason("a:.x").contains("tag"));
        assert!(reason(&format!("a:{}", "x".repeat(129))).contains("tag"));
        assert!(reason("a@sha256:12").contains("64"));
        assert!(reason(&DIGEST[7..]).contains("an ID"));
        assert!(reason("a..b").contains("between"));
        assert!(reason("a___b").contains("between"));
        assert!(reason("a-").contains("between"));
        assert!(reason("-a").contains("between"));
        assert!(reason("a/../b").contains("between"));
        assert!(reason("host:port/a").contains("registry"));
        assert!(reason("-h.x/a").contains("registry"));
        assert!(reason(&format!("{}/a", "x.".repeat(130))).contains("registry"));
        assert!(reason(&"x".repeat(256)).contains("255"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back_as_it_is(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.full().parse::<Reference>().unwrap(), &reference);
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                prop_assert!(!reference.full().contains(".."));
            }
        }

        #[test]
        fn what_the_grammar_allows_is_accepted(
            text in "([a-z]{1,9}\\.[a-z]{2,3}(:[0-9]{1,5})?/)?[a-z0-9]{1,9}((_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,5}([._][a-z0-9])?){0,2}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?"
        ) {
            let all_hex_id = text.len() == 64 && is_hex(&text);
            prop_assume!(!all_hex_id);
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
        }

        /// The distribution project's grammar as regular expressions, from its documentation: what they make is a reference, and what
        /// it says is what was put together. (Domains of IPv6 are in the tests above.)
        #[test]
        fn the_grammars_expressions_agree(
            domain in "([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]{0,5}[a-zA-Z0-9])(\\.([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]{0,5}[a-zA-Z0-9])){1,2}(:[0-9]{1,5})?",
            path in "[a-z0-9]{1,5}((\\.|_|__|[-]{1,4})[a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,5}((\\.|_|__|[-]{1,4})[a-z0-9]{1,5}){0,2}){0,3}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
            digest in proptest::option::of("sha256:[0-9a-f]{64}"),
        ) {
            let mut text = format!("{domain}/{path}");
            text.extend(tag.iter().map(|tag| format!(":{tag}")));
            text.extend(digest.iter().map(|digest| format!("@{digest}")));
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(reference.domain(), domain.as_str());
            prop_assert_eq!(reference.path(), path.as_str());
            let expected = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
            prop_assert_eq!(reference.tag(), expected.as_deref());
            prop_assert_eq!(reference.digest().map(ToString::to_string), digest);
        }

        /// The other way round: one character that no expression has anywhere, or a separator where none may be.
        #[test]
        fn what_no_expression_makes_is_refused(
            before in "[a-z0-9]{1,5}",
            wrong in "[^a-zA-Z0-9._:/@\\[\\]-]|\\.\\.|___|_\\.|-_|//|/\\.|-/|::|@|/-|:-|:\\.",
            after in "[a-z0-9]{1,5}",
        ) {
            let text = format!("{before}{wrong}{after}");
            prop_assert!(text.parse::<Reference>().is_err());
        }
    }
}
