//! The chart of the book: one bar for each contestant in each case, and a line where twice the floor is.
//!
//! Written as SVG by hand, in the colours of the book's other drawings, on a ground of its own: it reads on a dark page too. Each
//! case has a scale of its own, for a container and a hundred of them do not fit on one.

use std::fmt::Write as _;

use super::result::{Report, Row};

const WIDTH: f64 = 720.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 140.0;
const LONGEST: f64 = 420.0;
const BAR: f64 = 20.0;
const GAP: f64 = 34.0;

/// Draws it.
pub(crate) fn svg(report: &Report) -> String {
    let (mut body, mut y) = (String::new(), 62.0);
    for case in report.cases() {
        let rows: Vec<_> = report.rows.iter().filter(|row| row.case == case).collect();
        group(&mut body, report, case, &rows, &mut y);
    }
    let height = y + 4.0;
    let bottom = height - 2.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="t d" font-family="system-ui, sans-serif" font-size="13">
  <title id="t">How long a container takes, from nothing to its program and back</title>
  <desc id="d">For each case a bar for each runtime, the shorter the faster, the first being the floor: a C program of the system calls alone. A dashed line marks twice the floor. The table below has the numbers.</desc>
  <rect x="1" y="1" width="718" height="{bottom}" rx="12" fill="#fbf7ee" stroke="#b9ac90"/>
  <text x="20" y="28" font-size="15" font-weight="600" fill="#2d2a24">shortest of all rounds, milliseconds; dashed: twice the floor</text>
  <text x="20" y="46" font-size="11" fill="#6b6353">{}</text>
{body}</svg>
"##,
        escaped(&report.machine.line())
    )
}

fn group(body: &mut String, report: &Report, case: &str, rows: &[&Row], y: &mut f64) {
    let most = rows.iter().map(|row| row.min).fold(0.0, f64::max);
    let length = |value: f64| value / most * LONGEST;
    *y += 14.0;
    let _ = writeln!(
        body,
        r##"  <text x="20" y="{y:.0}" font-weight="600" fill="#2d2a24">{}</text>"##,
        escaped(case)
    );
    *y += 8.0;
    let top = *y;
    for row in rows {
        let (fill, stroke) = match row.who {
            "sampan-runtime" => ("#bfe0b8", "#5f8f57"),
            "floor" | "fork and exec" => ("#e8dfc8", "#8a7f68"),
            _ => ("#e3e6f2", "#6f7aa8"),
        };
        let (long, text) = (length(row.min), *y + 15.0);
        let _ = writeln!(
            body,
            r##"  <text x="{:.0}" y="{text:.0}" text-anchor="end" fill="#2d2a24">{}</text><rect x="{LEFT}" y="{y:.0}" width="{long:.1}" height="{BAR}" rx="3" fill="{fill}" stroke="{stroke}"/><text x="{:.0}" y="{text:.0}" fill="#2d2a24">{:.1}{}</text>"##,
            LEFT - 8.0,
            escaped(row.who),
            LEFT + long + 8.0,
            row.min,
            if row.who == rows[0].who { String::new() } else { format!(" ({:.1}×)", report.ratio(row)) },
        );
        *y += BAR + 4.0;
    }
    let twice = length(rows[0].min * 2.0);
    if twice <= LONGEST {
        let x = LEFT + twice;
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
        let svg = super::svg(&report());
        assert_eq!(svg.matches(r#"rx="3""#).count(), 4, "{svg}");
        assert!(svg.contains("3.0 (3.0×)") && svg.contains("2026-01-02"), "{svg}");
        assert!(!svg.contains("NaN") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
