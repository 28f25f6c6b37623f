//! The chart of the book: one bar for each contestant in each case, and a line at so many times the floor.
//!
//! Written as SVG by hand, in the colours of the book's other drawings, on a ground of its own: it reads on a dark page too. Each
//! case has a scale of its own, for a container and a hundred of them do not fit on one.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 140.0;
const LONGEST: f64 = 420.0;
const BAR: f64 = 20.0;
const GAP: f64 = 34.0;

/// One bar; those of a case follow each other, and its first is the floor.
#[derive(Debug)]
pub(crate) struct Bar<'a> {
    pub(crate) case: &'a str,
    pub(crate) who: &'a str,
    pub(crate) value: f64,
    /// How many digits after the point its number has.
    pub(crate) digits: usize,
}

/// What is written on it.
#[derive(Debug)]
pub(crate) struct Labels {
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) heading: &'static str,
    /// Where the line is: so many times the floor.
    pub(crate) limit: f64,
}

/// Draws it.
pub(crate) fn svg(bars: &[Bar<'_>], machine: &str, labels: &Labels) -> String {
    let (mut body, mut y) = (String::new(), 62.0);
    for group in bars.chunk_by(|one, other| one.case == other.case) {
        draw(&mut body, group, labels.limit, &mut y);
    }
    let height = y + 4.0;
    let bottom = height - 2.0;
    let Labels { title, description, heading, .. } = labels;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="t d" font-family="system-ui, sans-serif" font-size="13">
  <title id="t">{title}</title>
  <desc id="d">{description}</desc>
  <rect x="1" y="1" width="718" height="{bottom}" rx="12" fill="#fbf7ee" stroke="#b9ac90"/>
  <text x="20" y="28" font-size="15" font-weight="600" fill="#2d2a24">{heading}</text>
  <text x="20" y="46" font-size="11" fill="#6b6353">{}</text>
{body}</svg>
"##,
        escaped(machine)
    )
}

fn draw(body: &mut String, bars: &[Bar<'_>], limit: f64, y: &mut f64) {
    let Some(floor) = bars.first() else { return };
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let length = |value: f64| value / most * LONGEST;
    *y += 14.0;
    let _ = writeln!(
        body,
        r##"  <text x="20" y="{y:.0}" font-weight="600" fill="#2d2a24">{}</text>"##,
        escaped(floor.case)
    );
    *y += 8.0;
    let top = *y;
    for (at, bar) in bars.iter().enumerate() {
        let (fill, stroke) = match bar.who {
            "sampan-runtime" | "sampan" => ("#bfe0b8", "#5f8f57"),
            "floor" | "fork and exec" => ("#e8dfc8", "#8a7f68"),
            _ => ("#e3e6f2", "#6f7aa8"),
        };
        let (long, text) = (length(bar.value), *y + 15.0);
        let _ = writeln!(
            body,
            r##"  <text x="{:.0}" y="{text:.0}" text-anchor="end" fill="#2d2a24">{}</text><rect x="{LEFT}" y="{y:.0}" width="{long:.1}" height="{BAR}" rx="3" fill="{fill}" stroke="{stroke}"/><text x="{:.0}" y="{text:.0}" fill="#2d2a24">{:.*}{}</text>"##,
            LEFT - 8.0,
            escaped(bar.who),
            LEFT + long + 8.0,
            bar.digits,
            bar.value,
            if at == 0 { String::new() } else { format!(" ({:.1}×)", bar.value / floor.value) },
        );
        *y += BAR + 4.0;
    }
    let line = length(floor.value * limit);
    if line <= LONGEST {
        let x = LEFT + line;
        let _ = writeln!(
            body,
            r##"  <path d="M{x:.1} {top:.0} V{:.0}" stroke="#a04a3c" stroke-width="1.4" stroke-dasharray="4 3"/>"##,
            *y - 4.0
        );
    }
    *y += GAP - 20.0;
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use crate::bench::result::tests::report;

    #[test]
    fn each_row_is_a_bar() {
        let svg = report().chart();
        assert_eq!(svg.matches(r#"rx="3""#).count(), 4, "{svg}");
        assert!(svg.contains("3.0 (3.0×)") && svg.contains("2026-01-02"), "{svg}");
        assert!(!svg.contains("NaN") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
