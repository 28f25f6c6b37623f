//! What a registry asks for when it says 401: the header `WWW-Authenticate`.
//!
//! ```text
//! Bearer realm="https://auth.example/token",service="registry.example",scope="repository:team/tool:pull"
//! Basic realm="Registry"
//! ```
//!
//! See RFC 9110, section 11.6.1, and the distribution project's token protocol.

/// One way to say who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token of the service at `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// A name and a password with each request.
    Basic,
}

/// The first of the challenges in a header that we can meet; a token rather than a password.
pub(super) fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let mut challenge = (None, None, None);
            for (name, value) in parameters(rest) {
                match name.to_ascii_lowercase().as_str() {
                    "realm" => challenge.0 = Some(value),
                    "service" => challenge.1 = Some(value),
                    "scope" => challenge.2 = Some(value),
                    _ => {}
                }
            }
            if let (Some(realm), service, scope) = challenge {
                return Some(Challenge::Bearer { realm, service, scope });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

/// `name=value` or `name="value"`, with commas between them; a backslash takes the next character as it is.
fn parameters(text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']);
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        found.push((name, value));
        rest = left;
    }
    found
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_asked_for_with_its_service_and_scope() {
        let header = r#"Bearer realm="https://auth.example/token",service="r, \"x\"", scope="repository:a/b:pull,push""#;
        assert_eq!(
            parse([header]),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: Some("r, \"x\"".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            })
        );
    }

    #[test]
    fn a_token_comes_before_a_password() {
        assert_eq!(parse(["Basic realm=x"]), Some(Challenge::Basic));
        assert!(matches!(parse(["basic realm=\"x\"", "bearer realm=y"]), Some(Challenge::Bearer { .. })));
        assert_eq!(parse(["Negotiate", "Bearer service=x", "\"\\", "Bearer =\"", ""]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_challenge_panics(header in "\\PC{0,60}", parts in "((B|b)earer |Basic|realm|service|scope|=|,| |\"|\\\\|x|\u{fc}){0,30}") {
            let _ = parse([header.as_str()]);
            if let Some(Challenge::Bearer { realm, .. }) = parse([parts.as_str(), &header]) {
                proptest::prop_assert!(realm.len() <= parts.len() + header.len());
            }
        }

        #[test]
        fn what_is_quoted_comes_back(realm in "[ -~]{0,40}", scope in "[ -~]{0,40}") {
            let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!("Bearer realm=\"{}\",scope=\"{}\"", quoted(&realm), quoted(&scope));
            let expected = Challenge::Bearer { realm, service: None, scope: Some(scope) };
            proptest::prop_assert_eq!(parse([header.as_str()]), Some(expected));
        }
    }
}
