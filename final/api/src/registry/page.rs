//! The page for people: what the registry has, and what to type. One file of HTML with its style inside, no script, large enough
//! for a projector. Everything that comes from elsewhere is escaped, also what only a hostile client can have put there.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::response::Response;
use sampan_image::serve::{Picture, Shown};

use super::error::Refusal;
use super::manifests::done;
use super::{Shared, blocking, text};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #16202a; --paper: #fdfdfb; --soft: #5a6772; --line: #d5dbe0; --mark: #0b6e8a }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf0; --paper: #12181d; --soft: #9fb0bb; --line: #33414b; --mark: #6cc7e0 } }
body { margin: 0 auto; max-width: 70rem; padding: 2vw; font: clamp(1rem, 1.5vw, 1.7rem)/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.7em; margin: 0 0 .3em } h2 { font-size: 1.3em; margin: 1.4em 0 .3em; color: var(--mark) }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere } pre { overflow-x: auto; padding: .6em .8em; border: 1px solid var(--line) }
details { border-top: 1px solid var(--line); padding: .35em 0 } summary { cursor: pointer; display: flex; flex-wrap: wrap; gap: 0 1.2em; align-items: baseline }
summary b { min-width: 6em } .soft { color: var(--soft) } .size { margin-left: auto; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; width: 100%; margin: .4em 0 } td { padding: .15em .8em .15em 0; vertical-align: top } td.size { text-align: right; white-space: nowrap }
";

/// `GET /`
pub(super) async fn show(shared: &Arc<Shared>, request: Request) -> Result<Response, Refusal> {
    let picture = blocking(shared, |registry| registry.picture()).await?;
    // As the reader has reached it, so will others.
    let host = text(&request, "host").unwrap_or("localhost").to_owned();
    let page = render(&picture, &host, shared.secure);
    let builder = Response::builder()
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .header(header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::CONTENT_LENGTH, page.len());
    done(builder, Body::from(page))
}

fn render(picture: &Picture, host: &str, secure: bool) -> String {
    let mut page = String::new();
    let count = picture.repositories.len();
    let host = escape(host);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Registry {host}</title><style>{STYLE}</style></head><body>\n\
         <h1>Images at {host}</h1>\n<p class=\"soft\">{count} {}, {} in all, each layer counted once</p>\n",
        if count == 1 { "repository" } else { "repositories" },
        bytes(picture.total),
    );
    let first = picture.repositories.iter().find_map(|(name, tags)| Some((name, tags.first()?)));
    let example = first.map_or_else(|| "NAME".to_owned(), |(name, shown)| format!("{name}:{}", shown.tag));
    let _ = write!(
        page,
        "<pre>sampan pull {host}/{0}\nsampan tag IMAGE {host}/NAME &amp;&amp; sampan push {host}/NAME</pre>\n",
        escape(&example)
    );
    if !secure {
        let _ = writeln!(
            page,
            "<p class=\"soft\">Once on each machine, for this registry has no certificate: \
             <code>insecure-registries = [\"{host}\"]</code> in <code>/etc/sampan/config.toml</code>; Docker: \
             <code>{{\"insecure-registries\": [\"{host}\"]}}</code> in <code>/etc/docker/daemon.json</code>; \
             Podman and skopeo: <code>--tls-verify=false</code>.</p>"
        );
    }
    for (name, tags) in &picture.repositories {
        let _ = writeln!(page, "<section><h2>{}</h2>", escape(name));
        tags.iter().for_each(|shown| tag(&mut page, shown));
        page.push_str("</section>\n");
    }
    page.push_str("</body></html>\n");
    page
}

fn tag(page: &mut String, shown: &Shown) {
    let layers = shown.layers.len();
    let _ = write!(
        page,
        "<details><summary><b>{}</b><span>{}</span><code class=\"soft\">{}</code>\
         <span class=\"size\">{layers} {}, {}</span></summary><table>",
        escape(&shown.tag),
        escape(&shown.platform),
        shown.digest.short(),
        if layers == 1 { "layer" } else { "layers" },
        bytes(shown.size()),
    );
    for (digest, size, made) in &shown.layers {
        let _ = write!(
            page,
            "<tr><td><code>{}</code></td><td class=\"size\">{}</td><td class=\"soft\">{}</td></tr>",
            digest.short(),
            bytes(*size),
            escape(made.as_deref().unwrap_or_default()),
        );
    }
    page.push_str("</table></details>\n");
}

/// Text that stays text, also between quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What turns the direction of a line, or moves the cursor, says something else than it is.
            letter
                if letter.is_control()
                    || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                escaped.push('\u{fffd}');
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// As `sampan images` has it: thousands, and three digits.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" || value >= 99.95 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_text() {
        assert_eq!(escape("<b a='\"&"), "&lt;b a=&#39;&quot;&amp;");
        assert_eq!(escape("a\u{202e}\n"), "a\u{fffd}\u{fffd}");
        let evil = "<script>alert(1)</script>";
        let shown = Shown {
            tag: evil.to_owned(),
            digest: sampan_image::Digest::of(b""),
            platform: evil.to_owned(),
            layers: vec![(sampan_image::Digest::of(b""), 1_234_567, Some(evil.to_owned()))],
        };
        let picture = Picture { repositories: vec![(evil.to_owned(), vec![shown])], total: 1 };
        let page = render(&picture, evil, false);
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("1 layer, 1.2 MB") && page.contains("1 repository"), "{page}");
    }

    #[test]
    fn sizes_have_three_digits() {
        for (count, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_940, "99.9 kB"), (123_456_789, "123 MB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
